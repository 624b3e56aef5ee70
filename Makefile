# make grid | test | lint | bench | reports | serve: each sets up .venv by itself, once.

PYTHON ?= python3
# A version pin cannot choose torch's CPU build, and the default one for Linux brings
# gigabytes of CUDA; the CPU build is preferred wherever this index can be reached.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := .venv/bin
READY := .venv/.ready

.PHONY: grid test lint bench reports serve clean

grid: $(READY)
	$(BIN)/python -m ferpipe.grid pipelines/lstm_svm.yaml

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	set -e; for script in benchmarks/*.py; do $(BIN)/python $$script; done

reports: $(READY)
	$(BIN)/python reports/table.py

serve: $(READY)
	$(BIN)/python -m ferpipe.serve fer2013

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "ferpipe needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	@echo 'Setting up .venv, once: 1.7 GB and some minutes. Warnings about an index that'
	@echo 'cannot be reached do no harm: it is only asked for a smaller build of torch.'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --retries 1 --timeout 30 -c constraints.txt \
		--extra-index-url $(TORCH_INDEX) torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
