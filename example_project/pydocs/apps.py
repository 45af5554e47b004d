"""The app's configuration."""

from django.apps import AppConfig


class PydocsConfig(AppConfig):
    name = "example_project.pydocs"
    verbose_name = "Python documentation"
