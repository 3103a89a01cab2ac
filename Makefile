# make book   build _build/html          make lab      open the notebooks in JupyterLab
# make test   run every test             make execute  run every notebook, store its outputs
# Both set themselves up first: .venv, requirements.txt and the package, again only when these change.

VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.set-up-done
# two processes, each with half of the processors (conftest.py); a file, or a notebook, stays with one of them
TESTS  := -n 2 --dist loadfile tests
NBVAL  := -n 2 --dist loadscope --nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg

.DEFAULT_GOAL := help
.PHONY: help setup book test test-fast test-notebooks lint lab execute corpus priors doctor clean

help:
	@sed -n '1,3s/^# //p' Makefile
	@echo "also: make doctor, corpus, priors, test-fast, test-notebooks, lint, clean"

$(PY):
	@sh scripts/create_venv.sh $(VENV)

$(STAMP): requirements.txt pyproject.toml | $(PY)
	@sh scripts/create_venv.sh $(VENV)
	$(PY) -m pip install --disable-pip-version-check -r requirements.txt
	$(PY) -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(STAMP)

book: $(STAMP)
	$(PY) scripts/build_book.py

test: lint
	$(PY) scripts/build_book.py --quiet
	$(PY) -m pytest $(TESTS)
	$(PY) -m pytest $(NBVAL) book

# without the book and its notebooks: seconds instead of minutes
test-fast: lint
	$(PY) -m pytest $(TESTS) --ignore=tests/test_pages.py -m "not slow and not browser"

lint: $(STAMP)
	$(PY) -m ruff check
	$(PY) -m ruff format --check --quiet

test-notebooks: $(STAMP)
	$(PY) -m pytest $(NBVAL) book

lab: $(STAMP)
	$(PY) -m jupyterlab book/index.ipynb

execute: $(STAMP)
	$(PY) scripts/execute_notebooks.py

corpus: $(STAMP)
	$(if $(RECORDINGS),$(PY) -m unasdiff_teach.data.pack --recordings "$(RECORDINGS)",$(PY) -m unasdiff_teach.data.render)

priors: $(STAMP)
	$(PY) -m unasdiff_teach.training.pocket --ship

doctor: $(STAMP)
	$(PY) -m unasdiff_teach.doctor

clean:
	rm -rf _build build dist unasdiff_teach.egg-info
