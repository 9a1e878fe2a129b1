# gradscope: `make help` lists what can be made.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One exact build of torch, asked for first and by name, so that nothing else pulls a newer one with CUDA.
TORCH := torch==2.13.0
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export OMP_NUM_THREADS ?= 2

.PHONY: help demo test fuzz check samples remedies bench wheel clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(VENV)/torch.done:
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	@touch $@

$(VENV)/gradscope.done: pyproject.toml | $(VENV)/torch.done
	$(PIP) $(TORCH) --editable .
	@touch $@

$(VENV)/dev.done: pyproject.toml | $(VENV)/torch.done
	$(PIP) $(TORCH) --editable '.[dev]'
	@touch $@ $(VENV)/gradscope.done

demo: $(VENV)/gradscope.done  ## scan, correlate and report one sample run; true gradients of another, and why they are zero
	$(BIN)/gradscope scan sample_checkpoints/collapse
	$(BIN)/gradscope correlate --positions
	$(BIN)/gradscope report
	$(BIN)/gradscope scan sample_checkpoints/confounded --source recomputed
	$(BIN)/gradscope explain

test: $(VENV)/dev.done  ## run all tests
	$(BIN)/python -m pytest -m timing
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not timing" -n 2 --dist loadfile

check: $(VENV)/dev.done  ## format, lint, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/fuzz.done: $(VENV)/dev.done
	$(PIP) $(TORCH) --editable '.[dev,fuzz]'
	@touch $@

fuzz: MINUTES ?= 10
fuzz: export PYTHONPATH = tests
fuzz: $(VENV)/fuzz.done  ## fuzz every parser, MINUTES=10 each (some hours); what is found lies in build/fuzz/findings
	$(BIN)/python -m fuzz.make_corpus build/fuzz/seeds
	$(BIN)/python -m fuzz.run_all --minutes $(MINUTES) $(TARGETS)

samples: $(VENV)/dev.done  ## train the samples anew (some minutes)
	$(BIN)/python sample_checkpoints/make_samples.py

remedies: $(VENV)/dev.done  ## train every sample with every remedy, three seeds (117 trainings: about 80 minutes)
	$(BIN)/python sample_checkpoints/try_remedies.py

bench: $(VENV)/dev.done  ## print ratios against what a user would do otherwise
	$(BIN)/python tests/bench/scan_against_torch.py
	$(BIN)/python tests/bench/recorder_overhead.py
	$(BIN)/python tests/bench/recompute_against_library.py
	$(BIN)/python tests/bench/try_against_library.py

wheel: $(VENV)/dev.done  ## build the wheel, install it in a clean environment, use it on a sample
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv --clear build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH) build/wheel/*.whl
	cd build/wheel && venv/bin/gradscope scan ../../sample_checkpoints/healthy --fail-on critical

clean:  ## remove what was built here
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
