# Everything runs in .venv inside this checkout, made by the first Python 3.11 to 3.13 that is found.
# To choose another: make PYTHON=/path/to/python3.12 demo

.DELETE_ON_ERROR:
.SHELLFLAGS := -euo pipefail -c
SHELL := bash

VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test quick check docs vectors dist sbom mutants bench bench-peers benchmarks clean
help:
	@echo "make demo    three made-up banks find what none of them finds alone (sets itself up, then ten seconds)"
	@echo "make test    linters, types, import rules and all tests, on all cores (ARGS go to pytest)"
	@echo "make quick   linters, types, import rules and the tests that are not marked slow (ARGS go to pytest)"
	@echo "make check   the same without the tests"
	@echo "make docs    the documentation as a site in site/, to be read offline too"
	@echo "make dist    wheel, source distribution and digests in dist/, the same bytes wherever they are made; make sbom"
	@echo "             adds what an installation holds, as CycloneDX has it"
	@echo "make mutants changes that no test notices; takes long (MODULES='secagg/mpc/*.py' SAMPLE=5)"
	@echo "make bench   what protocols cost here, and on networks (ARGS go to secagg bench; ARGS=--help)"
	@echo "make bench-peers  the same work by other packages, each in an environment of its own under .peers/ (ARGS=--help)"
	@echo "make benchmarks  every script of benchmarks/; takes long (ARGS=--tiny to see that they run)"
	@echo "make vectors the test vectors of our own formats, anew; CONTRIBUTING.md says when that is allowed"
	@echo "make clean   remove .venv, .peers and what was built"

demo: $(VENV)/.installed
	$(BIN)/secagg demo $(ARGS)

# Each core takes a file after the other, so that what the tests of a file share is made once.
test: check
	$(BIN)/pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder --durations=15 $(ARGS)

quick: check
	$(BIN)/pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder -m "not slow" --durations=10 $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev
	$(BIN)/python -m website.build

dist sbom: $(VENV)/.installed-dev
	$(BIN)/python -m release $@

vectors: $(VENV)/.installed-dev
	$(BIN)/python tests/vectors/make.py

# Works in copies of the checkout and goes on where it was ended; see tests/mutants.
mutants: $(VENV)/.installed-dev
	nice -n 10 $(BIN)/python tests/mutants $(MODULES) $(if $(SAMPLE),--sample $(SAMPLE)) $(ARGS)

bench: $(VENV)/.installed-dev
	$(BIN)/secagg bench $(ARGS)

# Downloads what is not there: some 2 GB, most of it torch and SPU.
bench-peers: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.peers $(ARGS)

benchmarks: $(VENV)/.installed-dev
	failed=; for script in $$(grep -l __main__ benchmarks/*.py); do \
	  name=$$(basename "$$script" .py); echo "== $$name"; \
	  $(BIN)/python -m "benchmarks.$$name" $(ARGS) || failed="$$failed $$name"; \
	done; test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

$(VENV)/bin/python:
	@echo "setting up $(VENV), once; this takes a minute or two ..."
	@suitable='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; \
	for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
	  if "$$python" -c "$$suitable" 2>/dev/null; then exec "$$python" -m venv $(VENV); fi; \
	done; \
	echo "no Python 3.11 to 3.13 with venv found; give one: make PYTHON=/path/to/python3.12" >&2; exit 1

# pip knows dependency groups from 25.1 on.
$(VENV)/.pip: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.installed: $(VENV)/.pip pyproject.toml
	@echo "installing secagg and what it needs in $(VENV) ..."
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed pyproject.toml
	@echo "installing what the tests need in $(VENV) ..."
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

clean:
	rm -rf $(VENV) .peers build dist site demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
