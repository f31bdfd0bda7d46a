# make demo | test | test-slow | test-long | lint | docs | notebooks: each sets up everything it needs in .venv,
# once. Needed beforehand: Python 3.11 or newer.
# make test PART=losses, or test-slow, for a folder or file of tests; make test-core | test-pyro |
# test-numpyro for what needs no other backend.

VENV ?= .venv
RECENT := import sys; sys.version_info >= (3, 11) and print(sys.argv[1])
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11 python,\
	$(shell $(p) -c '$(RECENT)' $(p) 2>/dev/null)))
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
INSTALL = $(PY) -m pip install --quiet --constraint constraints.txt
RUNS ?= runs/demo
JOBS ?= 2
PART ?=
comma := ,
EXTRAS ?= all,dev

# One thread each: networks of this size are no faster with more, and where something else runs on
# the machine far slower.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test test-slow test-long test-core test-pyro test-numpyro lint docs notebooks install clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then echo "Python 3.11 or newer is needed and was not found;" \
		"name one: make PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@echo "Installing into $(VENV) with $$($(PYTHON) --version);" \
		"this happens once and takes some minutes."
	$(PYTHON) -m venv $(VENV)
	$(if $(filter numpyro flowjax,$(subst $(comma), ,$(EXTRAS))),,\
		$(INSTALL) "$$(grep '^torch==' constraints.txt)")
	$(INSTALL) --editable ".[$(EXTRAS)]"
	@touch $@

# One VAE, its guide and its prior swapped, in both backends. A finished run is taken up again, so
# that a second `make demo` only evaluates; `make clean` starts anew.
CELLS := $(foreach backend,pyro numpyro,$(foreach guide,diagonal iaf,\
	$(foreach prior,standard maf,$(backend)-$(guide)-$(prior))))
part = $(word $(2),$(subst -, ,$(1)))

DEMO = $(call part,$(1),1)_dgm fit vae --data digits --z-dim 2 --epochs 200 --learning-rate 2e-3 \
	--posterior $(call part,$(1),2) --prior $(call part,$(1),3) \
	--output $(RUNS)/$(1) $(if $(wildcard $(RUNS)/$(1)/config.json),--resume)

demo: $(STAMP) $(addprefix demo-,$(CELLS))
	@echo
	@$(PY) -m pyro_dgm compare $(addprefix $(RUNS)/,$(CELLS))
	@echo
	@echo "Pictures:"
	@ls $(RUNS)/*/*.png

demo-%: $(STAMP)
	$(ONE_THREAD) $(PY) -m $(call DEMO,$*)

# Executed, with their pictures, as build/notebooks/<backend>/<lesson>.ipynb.
NOTEBOOKS := $(patsubst notebooks/%.py,build/notebooks/%.ipynb,$(wildcard notebooks/*/*.py))

notebooks: $(NOTEBOOKS)

build/notebooks/%.ipynb: notebooks/%.py $(STAMP)
	@mkdir -p $(@D)
	$(ONE_THREAD) PATH="$(abspath $(VENV)/bin):$$PATH" \
		$(PY) -m jupytext --to ipynb --execute --output $@ $<

PYTEST = $(ONE_THREAD) $(PY) -m pytest -n $(JOBS) --dist worksteal

test: $(STAMP)
	$(PYTEST) -m "not slow" $(addprefix tests/,$(PART))

test-slow: $(STAMP)
	$(PYTEST) -m "slow and not long" $(addprefix tests/,$(PART))

test-long: $(STAMP)
	$(PYTEST) -m "slow and long" $(addprefix tests/,$(PART))

# Where the libraries of the other backend, or of both, are not installed: the core, the command
# line, every example of the docstrings.
ALONE := tests/core tests/test_docstrings.py::test_examples_run -m "not slow" \
	--ignore tests/core/test_checkpoint.py --ignore tests/core/test_schedules.py

test-core: $(STAMP)
	$(PYTEST) $(ALONE) -k "not pyro_dgm"

test-pyro: $(STAMP)
	$(PYTEST) $(ALONE) -k "not numpyro_dgm"

test-numpyro: $(STAMP)
	$(PYTEST) $(ALONE) -k "numpyro_dgm or not pyro_dgm"

# The site in build/docs; a warning is an error.
docs: $(STAMP)
	$(ONE_THREAD) $(PY) -m sphinx -q -W --keep-going -b html docs build/docs

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

clean:
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache
