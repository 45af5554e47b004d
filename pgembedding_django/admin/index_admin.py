"""The HNSW indexes in the admin: how each one is, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext_lazy as _

from pgembedding_django.admin import index_columns as columns
from pgembedding_django.admin import views
from pgembedding_django.admin.access import chosen_action, database, has_indexes, may_rebuild, may_repair
from pgembedding_django.admin.catalogue import (
    attach,
    draw_latest,
    measurements_of,
    owner_of,
    recent_runs,
    report_of,
    reports_of,
)
from pgembedding_django.admin.progress import RunView
from pgembedding_django.maintenance.indexes.catalogue import report_indexes
from pgembedding_django.maintenance.indexes.diagnosis import State
from pgembedding_django.maintenance.indexes.lookup import statuses
from pgembedding_django.models import HnswIndexStatus

__all__ = ["HnswIndexAdmin"]

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[HnswIndexStatus]
else:
    _ModelAdmin = admin.ModelAdmin


#: The page that each action leads to.
PAGES = {"rebuild_selected": "rebuild", "repair_selected": "repair"}


class StateFilter(admin.SimpleListFilter):
    """The states that indexes are in, and how many are in each."""

    title = _("state")
    parameter_name = "state"
    template = "pgembedding_django/state_filter.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        states = [report.state for report in reports_of(request)]
        present = [state for state in State if state in states]
        return [(state.value, f"{str(state.label).capitalize()} ({states.count(state)})") for state in present]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if self.value() is None:
            return None
        matching = [report.status for report in reports_of(request) if report.state == self.value()]
        return queryset.filter(pk__in=[status.pk for status in matching if status])


class IndexChangeList(ChangeList):
    """A list whose rows carry their reports, the worst first."""

    def get_ordering_field_columns(self) -> dict[Any, Any]:
        return super().get_ordering_field_columns() if ORDER_VAR in self.params else {}

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = {row.pk: row for row in self.result_list}
        reports = reports_of(request)
        found = [(rows[report.status.pk], report) for report in reports if report.status and report.status.pk in rows]
        for row, report in found:
            attach(row, report)
        if ORDER_VAR in self.params:
            places = list(rows)
            found.sort(key=lambda pair: places.index(pair[0].pk))
        self.result_list = [row for row, _report in found]


class HnswIndexAdmin(_ModelAdmin):
    """Every HNSW index of the database: its state, its history, and its rebuild and repair."""

    actions = ["rebuild_selected", "repair_selected"]
    change_form_template = "pgembedding_django/index.html"
    change_list_template = "pgembedding_django/indexes.html"
    list_display = ["name", *columns.BRIEF]
    list_filter = [StateFilter]
    ordering = ["schema", "table", "name"]
    search_fields = ["name", "table"]
    readonly_fields = columns.DETAILS  # type: ignore[assignment]
    fields = columns.DETAILS  # type: ignore[assignment]

    @property
    def media(self) -> forms.Media:
        return super().media + forms.Media(css={"all": ["pgembedding_django/admin.css"]})

    def get_queryset(self, request: HttpRequest) -> QuerySet[HnswIndexStatus]:
        return super().get_queryset(request).using(database())

    # Who may do what

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return has_indexes() and super().has_view_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_rebuild_permission(self, request: HttpRequest) -> bool:
        return may_rebuild(request)

    def has_repair_permission(self, request: HttpRequest) -> bool:
        return may_repair(request)

    # The list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return IndexChangeList

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        needed: dict[str, Callable[[HttpRequest], bool]] = {
            "rebuild_selected": may_rebuild,
            "repair_selected": may_repair,
        }
        refused = any(not needed[name](request) for name in request.POST.getlist("action") if name in needed)
        if refused or not self.has_view_permission(request):
            raise PermissionDenied
        selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
        page = PAGES.get(chosen_action(request))
        if page and selected and request.POST.get("select_across") != "1":
            # The page that asks reads what is known of these, so that it need not be read of all before.
            return self._ask(page, selected)
        reports = reports_of(request)
        shown = {
            "title": _("HNSW indexes"),
            "missing": [(owner_of(report), report) for report in reports if report.state is State.MISSING],
            "runs": [RunView(run) for run in recent_runs()[:5]],
            "can_repair": may_repair(request) and any(report.repairable for report in reports),
        }
        return super().changelist_view(request, {**shown, **(extra_context or {})})

    @admin.action(permissions=["rebuild"], description=_("Rebuild selected indexes"))
    def rebuild_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseRedirect:
        return self._ask("rebuild", queryset.values_list("pk", flat=True))

    @admin.action(permissions=["repair"], description=_("Repair selected indexes"))
    def repair_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseRedirect:
        return self._ask("repair", queryset.values_list("pk", flat=True))

    def _ask(self, name: str, labels: Iterable[str]) -> HttpResponseRedirect:
        url = reverse(f"admin:pgembedding_django_hnswindexstatus_{name}", current_app=self.admin_site.name)
        return HttpResponseRedirect(f"{url}?{urlencode([('index', label) for label in labels])}")

    # The page of an index

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> HnswIndexStatus | None:
        # The address has the label, which a rebuild leaves as it is.
        for status in statuses(database()).filter(label=object_id.replace("\0", "")):
            return attach(status, report_indexes([status], database())[0])
        return None

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        status = context["original"]
        measurements = measurements_of(status)
        context |= {
            "title": _("IVFFlat index") if status.method == "ivfflat" else _("HNSW index"),
            "method": status.method,
            "runs": [RunView(run) for run in recent_runs(status)],
            "owner": owner_of(report_of(status)),
            "measurements": measurements,
            "curve": draw_latest(measurements),
            "can_rebuild": may_rebuild(request),
            "can_repair": may_repair(request) and report_of(status).repairable,
        }
        return super().render_change_form(request, context, *args, **kwargs)

    # The pages beside

    def get_urls(self) -> list[URLPattern]:
        pages = {
            "rebuild": views.rebuild_view,
            "repair": views.repair_view,
            "runs": views.runs_view,
            "progress": views.progress_view,
        }
        ours = [
            path(
                f"{name}/",
                self.admin_site.admin_view(partial(view, self)),
                name=f"pgembedding_django_hnswindexstatus_{name}",
            )
            for name, view in pages.items()
        ]
        return ours + super().get_urls()
