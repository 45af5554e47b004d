"""The pages that ask before an index is rebuilt or repaired, and that show how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import urlencode

from django import VERSION, forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import AdminForm
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from pgembedding_django.admin import index_columns as columns
from pgembedding_django.admin.access import database, may_rebuild, may_repair
from pgembedding_django.admin.catalogue import reports_of, select
from pgembedding_django.admin.forms import RebuildForm
from pgembedding_django.admin.progress import runs_named
from pgembedding_django.maintenance.indexes.catalogue import IndexReport, report_indexes
from pgembedding_django.maintenance.rebuilding.errors import REBUILD_RIGHTS, explain_refusal
from pgembedding_django.maintenance.rebuilding.estimate import estimate_disk, estimate_memory, warn_of_memory
from pgembedding_django.maintenance.rebuilding.jobs import start_rebuild, start_repair
from pgembedding_django.maintenance.rebuilding.log import log_run
from pgembedding_django.maintenance.rebuilding.repair import Step, plan_repair
from pgembedding_django.models import HnswIndexStatus, IndexRun

__all__ = ["progress_view", "rebuild_view", "repair_view", "runs_view"]

if TYPE_CHECKING:
    IndexAdmin = ModelAdmin[HnswIndexStatus]


def rebuild_view(model_admin: IndexAdmin, request: HttpRequest) -> HttpResponse:
    """Ask before the indexes that the address names are rebuilt; a POST starts it."""
    if not may_rebuild(request):
        raise PermissionDenied
    try:
        chosen = select(request)
    except LookupError as error:
        return _back(model_admin, request, str(error.args[0]))
    form: Any = RebuildForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        started = _start(request, lambda person: _rebuild(chosen, person, form))
        if started:
            return HttpResponseRedirect(runs_url(model_admin, started))
    count = len(chosen)
    title = ngettext("Rebuild %(count)d HNSW index", "Rebuild %(count)d HNSW indexes", count) % {"count": count}
    adminform = AdminForm(form, [(None, {"fields": list(form.fields)})], {}, model_admin=model_admin)
    builds = [_build(report, report.status) for report in report_indexes(chosen, database()) if report.status]
    return _page(model_admin, request, "rebuild", title, adminform=adminform, builds=builds)


def repair_view(model_admin: IndexAdmin, request: HttpRequest) -> HttpResponse:
    """Say what repair would do; a POST does those of the steps that were shown and are still needed."""
    if not may_repair(request):
        raise PermissionDenied
    labels = request.GET.getlist("index")
    chosen = [each for each in reports_of(request) if not labels or each.label in labels]
    steps = plan_repair(database(), chosen)
    if not steps:
        return _back(model_admin, request, _("Nothing needs repair here."), messages.INFO)
    if request.method == "POST":
        agreed = [step for step in steps if _key(step) in request.POST.getlist("step")]
        started = _start(request, lambda person: start_repair(agreed, using=database(), person=person))
        if started:
            return HttpResponseRedirect(runs_url(model_admin, started))
    shown = [(_key(step), step) for step in steps]
    return _page(model_admin, request, "repair", _("Repair HNSW indexes"), steps=shown)


def runs_view(model_admin: IndexAdmin, request: HttpRequest) -> HttpResponse:
    """Show how far some runs are, or how they ended."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    runs = runs_named(request)
    if not runs:
        return _back(model_admin, request, _("There is no such run."))
    done = all(run.done for run in runs)
    media = forms.Media() if done else forms.Media(js=["pgembedding_django/progress.js"])
    title = _("Work on HNSW indexes")
    return _page(model_admin, request, "runs", title, media=media, runs=runs, done=done, query=request.GET.urlencode())


def progress_view(model_admin: IndexAdmin, request: HttpRequest) -> HttpResponse:
    """Answer what `runs_view` shows as JSON, for its script."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    runs = runs_named(request)
    done = all(run.done for run in runs)
    return JsonResponse({"done": done, "runs": [run.as_json() for run in runs]})


def runs_url(model_admin: IndexAdmin, runs: Iterable[IndexRun]) -> str:
    """Return the address of the page that shows some runs."""
    url = _url(model_admin, "pgembedding_django_hnswindexstatus_runs")
    return f"{url}?{urlencode([('run', run.pk) for run in runs])}"


def _rebuild(statuses: list[HnswIndexStatus], person: str, form: RebuildForm) -> list[IndexRun]:
    return start_rebuild(statuses, using=database(), person=person, **form.options())


def _start(request: HttpRequest, start: Callable[[str], list[IndexRun]]) -> list[IndexRun]:
    """Start something in the name of who asks; where the server or the state of an index forbids it, say why."""
    try:
        with transaction.atomic(using=database()):
            started = start(request.user.get_username())
            for run in started:
                run.user = str(request.user.pk)
                run.save(update_fields=["user"])
                log_run(run, run.user)
    except (DatabaseError, HnswIndexStatus.DoesNotExist) as error:
        messages.error(request, explain_refusal(error, database(), REBUILD_RIGHTS))
        return []
    if not started:
        messages.warning(request, _("The state of the indexes has changed. Look at the plan again."))
    return started


class Build(TypedDict):
    """What is said of an index before it is rebuilt; memory, disk: in bytes, None where the rows are not known."""

    report: IndexReport
    rows: str
    memory: int | None
    disk: int
    warning: str


def _build(report: IndexReport, status: HnswIndexStatus) -> Build:
    return Build(
        report=report,
        rows=columns.rows(status),
        memory=estimate_memory(status, database()),
        disk=estimate_disk(status, database()),
        warning=warn_of_memory(status, None, database()),
    )


def _key(step: Step) -> str:
    return f"{step.action} {step.table} {step.label}"


def _back(model_admin: IndexAdmin, request: HttpRequest, text: str, level: int = messages.ERROR) -> HttpResponse:
    model_admin.message_user(request, text, level)
    return HttpResponseRedirect(_url(model_admin, "pgembedding_django_hnswindexstatus_changelist"))


def _url(model_admin: IndexAdmin, name: str) -> str:
    return reverse(f"admin:{name}", current_app=model_admin.admin_site.name)


def _page(
    model_admin: IndexAdmin,
    request: HttpRequest,
    name: str,
    title: str,
    *,
    media: forms.Media | None = None,
    **context: object,
) -> TemplateResponse:
    request.current_app = model_admin.admin_site.name
    shown = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": title,
        "breadcrumb_list": VERSION >= (6, 1),
        "media": model_admin.media + (media or forms.Media()),
        **context,
    }
    return TemplateResponse(request, f"pgembedding_django/{name}.html", shown)
