# make help     lists the targets
# PYTHON=...    the interpreter to use (3.11 or newer); another one than before makes the environment anew
# VENV=...      where the environment is; several of them allow several interpreters side by side

PYTHON ?=
VENV ?= .venv
BIN := $(VENV)/bin
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench wheel clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile

setup: ## the environment, with everything that development needs
	@scripts/venv $(VENV) dev

demo: ## set up and run the demonstration
	@scripts/venv $(VENV)
	@$(BIN)/tunnelkit demo

test: lint ## every check and every test
	@scripts/system-packages
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup ## style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup ## repair what can be repaired
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup ## the benchmarks, in a few minutes; results are in build/benchmarks
	@scripts/system-packages
	$(BIN)/python -m benchmarks --quick --out build/benchmarks

wheel: setup ## dist/*.whl and dist/*.tar.gz
	$(BIN)/python -m build

clean: ## remove what the targets above made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
