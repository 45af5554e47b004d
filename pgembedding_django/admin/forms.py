"""How an index shall be rebuilt, as a person says it."""

from __future__ import annotations

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from pgembedding_django.engines.building import check_memory
from pgembedding_django.maintenance.rebuilding.rebuild import RebuildOptions
from pgembedding_django.maintenance.rebuilding.session import MAX_WORKERS

__all__ = ["RebuildForm"]


class RebuildForm(forms.Form):
    """The options of a rebuild."""

    concurrently: forms.BooleanField = forms.BooleanField(
        label=_("Concurrently"),
        help_text=_("Searches and writes go on. Without it the build is faster, and they wait until it has ended."),
        required=False,
        initial=True,
    )
    maintenance_work_mem: forms.CharField = forms.CharField(
        label=_("Memory"),
        help_text=_("Such as 512MB or 2GB. Empty: what the server or PGEMBEDDING is set to."),
        required=False,
        max_length=20,
        widget=forms.TextInput(attrs={"class": "vTextField", "placeholder": "512MB", "size": 12}),
    )
    parallel_workers: forms.IntegerField = forms.IntegerField(
        label=_("Parallel workers"),
        help_text=_(
            "Processes beside the one that builds anyway, at most. Empty: what the server is set to. 0 where the disk "
            "may become full, on which a parallel build hangs for good."
        ),
        required=False,
        min_value=0,
        max_value=MAX_WORKERS,
        widget=forms.NumberInput(attrs={"class": "vIntegerField"}),
    )

    def clean_maintenance_work_mem(self) -> str | None:
        size: str = self.cleaned_data["maintenance_work_mem"]
        if not size:
            return None
        try:
            check_memory(size)
        except ValueError as error:
            raise ValidationError(
                _("Give a size from 64kB to 2047GB with its unit, such as 512MB."), "invalid"
            ) from error
        return size

    def options(self) -> RebuildOptions:
        """Return what was chosen, of a form that is valid."""
        return RebuildOptions(
            concurrently=self.cleaned_data["concurrently"],
            maintenance_work_mem=self.cleaned_data["maintenance_work_mem"],
            parallel_workers=self.cleaned_data["parallel_workers"],
        )
