"""Settings of the documentation; `make docs` builds it."""

import sys
from pathlib import Path

import django
from django.conf import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

# What the reference imports wants its apps, and no database.
settings.configure(
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "pgembedding_django",
        "pgembedding_django.documents",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "docs"}},
)
django.setup()

import pgembedding_django  # noqa: E402 - its apps want settings

project = "pgembedding_django"
release = pgembedding_django.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "house_docstrings"]
exclude_patterns = ["_build"]
# As a forge makes them, so that one link serves both.
myst_heading_anchors = 3

default_role = "literal"
smartquotes = False  # "l2" is a value
add_module_names = False
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_type_aliases = {"Vector": "Vector"}
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["docs.css"]
pygments_style = "friendly"
pygments_dark_style = "github-dark"
