PY ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint bench chaos screenshots foundation clean

demo: $(INSTALLED)  ## install, then open the Live page
	$(BIN)/pwff app

test: $(INSTALLED)  ## install, then run the test suite: a process a core, then the browser suite by itself
	$(BIN)/python -m pytest --ignore=tests/e2e --numprocesses=logical --maxprocesses=4 --dist=worksteal
	$(BIN)/python -m pytest tests/e2e

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)  ## measure speed and memory beside what others use; writes benchmarks/results.json
	$(BIN)/python -m pip install --quiet --editable ".[bench]"
	$(BIN)/python benchmarks/run.py

KILLS ?= 200
chaos: $(INSTALLED)  ## kill -9 a run KILLS times, break its store, fuzz what people put in; reports in build/chaos
	$(BIN)/python -m tests.chaos --kills $(KILLS)

screenshots: $(INSTALLED)  ## take the documents' pictures; STORE=PATH shows runs of that store
	$(BIN)/python tests/screenshots.py $(if $(STORE),--store "$(STORE)")

foundation: $(INSTALLED)  ## make the embedded default in assets/ anew
	$(BIN)/python -m pip install --quiet --editable ".[foundation]"
	$(BIN)/python -m pwff_core.tools.foundation

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# the stamp is older than pyproject.toml after a change of dependencies, so the next target installs them
$(INSTALLED): pyproject.toml
	$(PY) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@
