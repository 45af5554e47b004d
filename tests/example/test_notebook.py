"""The notebook, run as a notebook and as a script; run as a module, this writes it anew from the script."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlencode

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.embeddings_server import EmbeddingsServer, as_base64, vector_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPT, NOTEBOOK = EXAMPLES / "pgembedding_notebook.py", EXAMPLES / "pgembedding_notebook.ipynb"


def cells_of_script():
    """Yield type and source of each cell, which "# %%" begins."""
    for part in re.split(r"^# %%", SCRIPT.read_text(encoding="utf-8"), flags=re.M)[1:]:
        kind, _, source = part.partition("\n")
        if "[markdown]" in kind:
            yield "markdown", re.sub(r"^# ?", "", source.strip(), flags=re.M)
        else:
            yield "code", source.strip()


@pytest.fixture
def environment(ready_database, tmp_path):
    """A process without Django settings, in an empty folder, whose database has the session's extension."""
    entry = ready_database.connection.settings_dict
    password = f":{quote(entry['PASSWORD'])}" if entry["PASSWORD"] else ""
    place = urlencode({"host": entry["HOST"], "port": entry["PORT"] or 5432})
    hidden = ("DJANGO_SETTINGS_MODULE", "OPENAI_API_KEY", "OPENAI_BASE_URL")
    return {
        **{name: value for name, value in os.environ.items() if name not in hidden},
        "PYTHONPATH": str(EXAMPLES.parent),
        "POSTGRES_CONNECTION_STRING": f"postgresql://{entry['USER']}{password}@/{ready_database.name}?{place}",
    }


def run(notebook, **options):
    """Execute a notebook, and return what its code cells printed and gave."""
    NotebookClient(notebook, timeout=120, kernel_name="python3", record_timing=False).execute(**options)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.get("text") or output["data"]["text/plain"] for output in outputs]


def wide(texts):
    """Answer as a model of 1536 dimensions."""
    return [
        {"object": "embedding", "index": index, "embedding": as_base64([*vector_of(text), *[0.0] * 1533])}
        for index, text in enumerate(texts)
    ]


def stored(database):
    rows = database.execute(
        "SELECT c.name, c.dimensions, c.hnsw ->> 'm', d.embedding IS NOT NULL "
        "FROM pgembedding_documents_collection c JOIN pgembedding_documents_document d ON d.collection_id = c.id"
    )
    return set(rows), len(rows)


def test_notebook_is_the_script():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == list(cells_of_script())


def test_first_cell_says_which_import_changed():
    kind, source = next(cells_of_script())
    assert kind == "markdown"
    assert "from langchain_community.vectorstores import PGEmbedding" in source
    assert "from pgembedding_django.langchain import PGEmbedding" in source


def test_notebook_runs(environment, ready_database, tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    count, found, same_by_index, retrieved, same_later, replaced, deleted = run(notebook, cwd=tmp_path, env=environment)
    assert found.count("\n") == 4
    assert 'The "with" statement' in found.splitlines()[0]
    assert retrieved.count("{'source': 'exceptions.txt'}") == 2
    assert (same_by_index, same_later, deleted) == ("True", "True", "[]")
    assert replaced == "Exceptions are a way of breaking out of the normal flow.\n"
    assert stored(ready_database) == ({("python_exceptions", 1536, "8", True)}, int(count))


def test_script_runs_against_a_compatible_server(environment, ready_database, tmp_path):
    with EmbeddingsServer() as server:
        for _ in range(20):
            server.answer(wide)
        environment |= {"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": server.url}
        command = [sys.executable, "-W", "error", SCRIPT]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert all(isinstance(text, str) for _, _, asked in server.requests for text in asked["input"])
    assert stored(ready_database)[0] == {("python_exceptions", 1536, "8", True)}


def write_notebook():
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    notebook.cells = [
        make[kind](source, id=f"cell-{number}") for number, (kind, source) in enumerate(cells_of_script())
    ]
    run(notebook)
    notebook.metadata.pop("language_info")
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    write_notebook()
