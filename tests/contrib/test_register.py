"""Which packages are told of the field when Django starts."""

from pgembedding_django import contrib

TOLD = []


def register():
    TOLD.append(__name__)


def test_packages_in_installed_apps_are_told_and_no_others(monkeypatch):
    TOLD.clear()
    monkeypatch.setattr(contrib, "REGISTERED", {"django.contrib.auth": __name__, "no_such_app": "no.such.module"})
    contrib.register()
    assert [__name__] == TOLD
