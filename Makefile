# Two commands are enough: `make demo` and `make test`. Set DATABASE_URL to use a server of your own.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LANGCHAIN := $(VENV)/langchain
NEIGHBOURS := $(VENV)/neighbours
READY := $(VENV)/.ready

.PHONY: build demo test neighbours lint docs serve tox bench clean

demo: $(READY)
	$(BIN)/python manage.py demo

serve: $(READY)
	$(BIN)/python manage.py migrate --verbosity 0
	$(BIN)/python manage.py runserver

test: $(READY)
	$(BIN)/python -W error -m pytest -n 2 --dist loadfile $(or $(ARGS),--cov --cov-report=term --cov-fail-under=100)

neighbours: $(NEIGHBOURS)/.ready $(LANGCHAIN)/.ready
	$(NEIGHBOURS)/bin/python -W error -m pytest tests/neighbours $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/python -m sphinx -W --keep-going --quiet docs docs/_build

build: $(READY)
	$(BIN)/python -m pip install --quiet --group build
	$(BIN)/python -m build

tox: $(READY)
	$(BIN)/tox $(ARGS)

bench: $(READY) $(LANGCHAIN)/.ready
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m benchmarks $(ARGS)

$(LANGCHAIN)/.ready: pyproject.toml | $(READY)
	$(PYTHON) -m venv $(LANGCHAIN)
	$(LANGCHAIN)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(LANGCHAIN)/bin/python -m pip install --quiet --group langchain-stores
	touch $@

$(NEIGHBOURS)/.ready: pyproject.toml | $(READY)
	$(PYTHON) -m venv $(NEIGHBOURS)
	$(NEIGHBOURS)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(NEIGHBOURS)/bin/python -m pip install --quiet --editable ".[embedded,psycopg2]" --group neighbours
	touch $@

$(READY): pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is not that. Name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; \
		exit 1; }
	$(PYTHON) -m venv $(if $(wildcard $(READY)),,--clear) $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[example,psycopg2]" --group dev
	touch $(READY)

clean:
	rm -rf $(VENV) docs/_build .postgres .tox .coverage .mypy_cache .ruff_cache .pytest_cache
