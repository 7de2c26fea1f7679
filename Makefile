# Tenantry. `make` alone lists what there is.
# Everything lives in the checkout: .venv/, node_modules/ and .tenantry/ (the local stack's data).

SHELL := /bin/sh
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv/bin
TENANTRY := $(VENV)/tenantry

# Every file that pip or npm installs from has a stamp, so that warm runs do nothing.
RUN_STAMP := .venv/.run-installed
DEV_STAMP := .venv/.dev-installed
NODE_STAMP := node_modules/.package-lock.json

# Test processes; each has its own database server and, where needed, its own stack.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help up down reset status logs doctor migrate expected test proof check format bench clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(RUN_STAMP) $(NODE_STAMP) ## Start the local stack (first time: install, migrate, seed)
	@$(TENANTRY) up

down: $(RUN_STAMP) ## Stop the local stack; its data stays
	@$(TENANTRY) down

reset: $(RUN_STAMP) ## Stop the local stack and delete its data
	@$(TENANTRY) reset --yes

status: $(RUN_STAMP) ## Print URLs, keys and the state of each part
	@$(TENANTRY) status

logs: $(RUN_STAMP) ## Print the supervisor's log (a part's: .venv/bin/tenantry logs NAME)
	@$(TENANTRY) logs

doctor: $(RUN_STAMP) ## Check this machine and say what to fix
	@$(TENANTRY) doctor

migrate: $(RUN_STAMP) ## Apply pending migrations to the local stack
	@$(TENANTRY) migrate up

expected: $(DEV_STAMP) ## After changing migrations: write what the gateway's boot gate expects
	@$(VENV)/python tools/generate_expected_database.py

test: $(DEV_STAMP) $(NODE_STAMP) ## Run all tests (some: make test ARGS=tests/cli)
	@$(VENV)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

# The report is written whatever the tests found, and says what they did not prove.
proof: $(DEV_STAMP) $(NODE_STAMP) ## Run the full proof of isolation (minutes); report in build/proof/
	@rm -rf build/proof
	@tests=0; TENANTRY_PROOF_DIR=build/proof/figures $(VENV)/python -m pytest policies_tests \
	  --full-proof --all-mutants -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS) || tests=$$?; \
	$(VENV)/python -m policies_tests.report build/proof/figures build/proof && exit $$tests

check: $(DEV_STAMP) ## Lint, formatting and types
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy
	@for function in functions/*/main.py; do $(VENV)/mypy --no-error-summary $$function || exit 1; done

format: $(DEV_STAMP) ## Format the Python code
	@$(VENV)/ruff check --fix-only --quiet .
	@$(VENV)/ruff format .

bench: $(DEV_STAMP) $(NODE_STAMP) ## Run the benchmarks (some: make bench ARGS=...)
	@$(VENV)/python -m bench $(ARGS)

clean: ## Stop the stack and remove everything that make installed, and its data
	@if [ -x $(TENANTRY) ]; then $(TENANTRY) down; fi
	@rm -rf .venv node_modules .tenantry

# $(call pip,what,arguments): pip is quiet unless it fails, because it can be very talkative.
pip = echo "installing $(1)" && \
  { $(VENV)/python -m pip install --quiet --disable-pip-version-check $(2) >.venv/pip.log 2>&1 || \
    { tail -n 20 .venv/pip.log; echo "pip failed; its whole output is in .venv/pip.log"; exit 1; }; }

.venv/bin/python:
	@if [ -z "$(PYTHON)" ]; then \
	  echo "Python 3.11 or newer is needed: install it, or name it with make PYTHON=..."; exit 1; fi
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv or ensurepip module: install it (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "creating .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

$(RUN_STAMP): requirements.lock pyproject.toml | .venv/bin/python
	@$(call pip,Python packages,--require-hashes -r requirements.lock)
	@$(call pip,Tenantry,--no-deps --no-build-isolation --editable .)
	@touch $@

$(DEV_STAMP): requirements-dev.lock $(RUN_STAMP) | .venv/bin/python
	@$(call pip,developer tools,--require-hashes -r requirements-dev.lock)
	@touch $@

# npm writes this file itself when it has installed everything.
$(NODE_STAMP): package-lock.json | $(RUN_STAMP)
	@$(VENV)/python -m tenantry_cli.node_parts
	@touch $@
