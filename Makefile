PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
RUNS = $(or $(LSO_RUNS),runs)
DEMO := $(RUNS)/demo-$(shell date +%Y%m%d-%H%M%S)
READY = $(VENV)/.ready

# Networks of the demo's size are no faster on more threads, and far slower where the machine is shared.
demo: export OMP_NUM_THREADS = 1

.PHONY: demo docs test test-slow check bench clean

demo: $(READY)  ## train two VAEs on the built-in digits, search for 20 held-out digits in each, compare
	$(BIN)/lso train --method vae-anneal --out $(DEMO)-vae-anneal --quiet
	$(BIN)/lso train --method ne-vae-se --out $(DEMO)-ne-vae-se --quiet
	$(BIN)/lso optimize --model $(DEMO)-vae-anneal --target test:20 --starts 4 --optimizer adam --out $(DEMO)-search-vae-anneal --quiet
	$(BIN)/lso optimize --model $(DEMO)-ne-vae-se --target test:20 --starts 4 --optimizer adam --out $(DEMO)-search-ne-vae-se --quiet
	$(BIN)/lso report $(DEMO)-search-vae-anneal $(DEMO)-search-ne-vae-se --out $(DEMO)-comparison

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
