"""A run as its page and the page's script show it."""

from __future__ import annotations

from functools import cached_property

from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from pgembedding_django.admin.access import database
from pgembedding_django.maintenance.rebuilding.runs import RunProgress, progress_of
from pgembedding_django.models import IndexRun

__all__ = ["RunView", "runs_named", "show_seconds"]


class RunView:
    """A run, where it is, and both in words."""

    def __init__(self, run: IndexRun) -> None:
        self.run: IndexRun = run
        self.progress: RunProgress = progress_of(run)

    @property
    def done(self) -> bool:
        return self.progress["done"]

    @property
    def percent(self) -> float | None:
        """What the bar shows, None where nobody knows."""
        return self.progress["percent"]

    @cached_property
    def words(self) -> str:
        """What is going on, or how it ended."""
        said = {"label": self.progress["label"].capitalize(), "time": show_seconds(self.progress["seconds"])}
        if self.done:
            return _("%(label)s after %(time)s") % said if self.run.started else said["label"]
        parts = [_("%(label)s for %(time)s") % said if self.run.started else said["label"], self.progress["phase"]]
        if self.run.parts > 1:
            parts.append(_("partition %(part)d of %(parts)d") % {"part": self.run.part, "parts": self.run.parts})
        if self.percent is not None:
            parts.append(f"{self.percent:.0f}%")
        if self.progress["blocked_by"]:
            pids = ", ".join(map(str, self.progress["blocked_by"]))
            waiting = ngettext(
                "waiting for backend %(pids)s to end its transaction",
                "waiting for backends %(pids)s to end their transactions",
                len(self.progress["blocked_by"]),
            )
            parts.append(waiting % {"pids": pids})
        return " · ".join(filter(None, parts))

    @property
    def sizes(self) -> str:
        """The sizes before and after, "" where one is not known."""
        before, after = self.run.size_before, self.run.size_after
        return "" if before is None or after is None else f"{filesizeformat(before)} → {filesizeformat(after)}"

    def as_json(self) -> dict[str, int | float | bool | str | None]:
        return {"id": self.run.pk, "done": self.done, "percent": self.percent, "words": self.words}


def runs_named(request: HttpRequest) -> list[RunView]:
    """Return the runs that an address names; what is no number names none."""
    ids = [int(text) for text in request.GET.getlist("run") if text.isdecimal() and len(text) < 19]
    return [RunView(run) for run in IndexRun.objects.using(database()).filter(pk__in=ids).order_by("pk")]


def show_seconds(seconds: float) -> str:
    """Return "2.5 s", "3 min 5 s" or "2 h 10 min"."""
    if seconds < 60:
        return _("%(seconds).1f s") % {"seconds": seconds}
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": rest}
    return _("%(hours)d h %(minutes)d min") % {"hours": minutes // 60, "minutes": minutes % 60}
