# The commands of everyday work; `make` lists them.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install test check mutants lua-mutants docs build release-check

help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

install: ## Create .venv with askmill (editable) and all tools
	$(PYTHON) -m venv .venv && $(BIN)/pip install -q -e '.[dev,docs]'

test: ## Run the default tests (tiers unit and story)
	$(BIN)/pytest

check: ## Lint, format, types and import contracts
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

mutants: ## Run the mutation tests of docs/decisions/mutation-tests.md (about an hour)
	$(BIN)/pip install -q 'mutmut==3.8.*' && $(BIN)/mutmut run --max-children 2 && $(BIN)/mutmut results

lua-mutants: ## Run a tenth of the mutation tests of the Lua scripts (about a quarter of an hour)
	$(BIN)/python -m tests.lua_mutants --sample 0.1

docs: ## Build the documentation and serve it on loopback
	$(BIN)/mkdocs serve

build: ## Build the sdist and the wheel, and check them
	rm -rf dist && $(BIN)/python -m build && $(BIN)/twine check --strict dist/*

release-check: ## Check all that a release needs, without publishing
	.ci/release-check
