"""The app's configuration: what runs at start-up."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate, pre_migrate
from django.utils.translation import gettext_lazy as _


class PgembeddingConfig(AppConfig):
    name = "pgembedding_django"
    verbose_name = _("Embeddings")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from pgembedding_django import checks, contrib
        from pgembedding_django import migrating as signals
        from pgembedding_django.compat.adapters import send_as_text
        from pgembedding_django.embedding import sync
        from pgembedding_django.engines.arrays import read_arrays
        from pgembedding_django.engines.sqlite import add_functions
        from pgembedding_django.passages.sync import watch as watch_parents
        from pgembedding_django.vectors import Vector

        checks.register()
        send_as_text(Vector)
        pre_migrate.connect(signals.prepare_database, sender=self, dispatch_uid="pgembedding_django")
        post_migrate.connect(signals.finish_database, sender=self, dispatch_uid="pgembedding_django")
        connection_created.connect(add_functions, dispatch_uid="pgembedding_django.sqlite")
        connection_created.connect(read_arrays, dispatch_uid="pgembedding_django")
        for model in apps.get_models():
            sync.watch(model)
            watch_parents(model)
        contrib.register()
