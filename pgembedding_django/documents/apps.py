"""The sub-app's configuration."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_delete
from django.utils.translation import gettext_lazy as _


class DocumentsConfig(AppConfig):
    name = "pgembedding_django.documents"
    label = "pgembedding_documents"
    verbose_name = _("Documents")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from pgembedding_django.documents.building import drop_with_collection

        post_delete.connect(
            drop_with_collection, sender=self.get_model("Collection"), dispatch_uid="pgembedding_documents"
        )
