PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

# Networks of the demo's size are no faster on more threads, and far slower where the machine is shared.
demo: export OMP_NUM_THREADS = 1

.PHONY: demo docs test test-slow check bench zoo clean

demo: $(READY)  ## train a VAE and search it; then the same search in a collapsed model and in its living twin
	$(BIN)/python docs/demo.py

# In as many processes as there are cores, up to four: each takes a good half of a gigabyte, and reads the tests itself.
PYTEST = $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal

test: $(READY)  ## run the tests
	$(PYTEST)

test-slow: $(READY)  ## run the tests marked slow
	$(PYTEST) -m "slow and not gpu"

bench: $(READY)  ## time the straightforward ways against ours, as ratios; half an hour, on a quiet machine
	$(BIN)/python benchmarks/bench.py

# Half a minute. It needs no network once the packages are there, and neither do the pages.
docs: $(VENV)/.docs  ## build the documentation into site/ and check its links; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

zoo: $(READY)  ## train the models that are installed with lso again, an hour; what is finished is not repeated
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/make_zoo.py
	$(BIN)/python docs/models.py > docs/models.md

check: $(READY)  ## lint and type-check
	$(BIN)/ruff check .
	$(BIN)/mypy

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("lso needs Python 3.11 or newer; try: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "Setting up $(VENV) (once; a minute or more, PyTorch is large) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@for d in vae tasks cli; do ln -sfn ../$$d lso/$$d; done  # so that editors and mypy find lso.vae
	@touch $@

$(VENV)/.docs: $(READY)
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) site lso/vae lso/tasks lso/cli
