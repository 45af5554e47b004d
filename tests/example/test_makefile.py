"""What make says before it has made anything."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments):
    # Of a make that runs the tests, nothing is passed on.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("program", ["false", "no-such-python"])
def test_python_that_is_too_old_or_missing_is_named_at_once(tmp_path, program):
    done = make("demo", f"PYTHON={program}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode == 2
    assert done.stdout == (
        f"Python 3.11 or newer is needed, and {program} is not that. Name one: make PYTHON=python3.12 demo\n"
    )
    assert not (tmp_path / "venv").exists()


def test_environment_that_was_left_half_made_is_made_anew(tmp_path):
    done = make("--dry-run", "demo", f"VENV={tmp_path / 'venv'}")
    assert f"python3 -m venv --clear {tmp_path / 'venv'}\n" in done.stdout


def test_environment_that_was_made_is_kept(tmp_path):
    (tmp_path / ".ready").touch()
    done = make("--dry-run", "--always-make", "demo", f"VENV={tmp_path}")
    assert f"python3 -m venv  {tmp_path}\n" in done.stdout


@pytest.mark.parametrize(("arguments", "asked"), [([], True), (["ARGS=tests/vectors"], False)])
def test_every_branch_is_asked_of_the_whole_suite_alone(arguments, asked):
    done = make("--dry-run", "test", *arguments)
    assert ("--cov-fail-under=100" in done.stdout) is asked
