"""The tutorial, followed to the letter in an empty folder: what it shows comes, also when statistics are there."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from tests.support.servers import make_folder

TUTORIAL = (Path(__file__).resolve().parents[2] / "docs" / "tutorial.md").read_text()

#: Runs the examples of a session as a shell would, and prints what differs.
SESSION = """
import doctest, sys
test = doctest.DocTestParser().get_doctest(sys.stdin.read(), {}, "tutorial", "tutorial.md", 0)
doctest.DocTestRunner(verbose=False).run(test)
"""

ANALYZE = """
>>> from django.db import connection
>>> connection.cursor().execute("ANALYZE")
"""

#: The answers shown are those of Python 3.11.7, whose language reference this is.
SHOWN = hashlib.sha256(repr(sorted(topics.items())).encode()).hexdigest().startswith("6061bdb5e47e53fb")

pytestmark = pytest.mark.pgvector


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TUTORIAL, re.DOTALL)


def block_of(file):
    return re.search(rf"In `{file}`:\n\n```python\n(.*?)```", TUTORIAL, re.DOTALL)[1]


class Project:
    def __init__(self, folder):
        self.folder = folder
        self.run("-m", "django", "startproject", "library", str(folder))
        self.run("manage.py", "startapp", "notes")
        settings = folder / "library" / "settings.py"
        given = settings.read_text()
        apps = re.search(r"INSTALLED_APPS = \[\n(.*?)\]", given, re.DOTALL)[1]
        added = block_of("library/settings.py").replace("    # ... what is there already, and\n", apps)
        settings.write_text(f"{given}\n{added}")
        (folder / "notes" / "models.py").write_text(block_of("notes/models.py"))
        (folder / "notes" / "admin.py").write_text(block_of("notes/admin.py"))

    def run(self, *arguments, text=""):
        environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, input=text, capture_output=True, text=True, timeout=300
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def session(self, *texts):
        return self.run("manage.py", "shell", "-v0", "-c", SESSION, text="\n".join(texts))


@pytest.fixture(scope="module")
def project():
    project = Project(make_folder())
    for command in re.findall(r"^\$ python (manage\.py (?:makemigrations|migrate).*)$", TUTORIAL, re.MULTILINE):
        project.run(*command.split())
    return project


def test_tutorial_shows_what_comes_with_statistics_as_without(project):
    rows, *searches, change = blocks("pycon")
    differs = project.session(rows, *searches, ANALYZE, *searches, change)
    assert differs == "" if SHOWN else "Exception raised" not in differs
