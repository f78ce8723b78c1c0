# Everything a contributor does, from a fresh clone on; PYTHON makes the virtual environment env/.
PYTHON ?= python3
ARGS ?=
BIN := env/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help bootstrap demo test lint typecheck coverage bench transparency docs dist services-up services-down clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

bootstrap: env/.tests env/.lint ## Install all that the tests and checks need into env/

demo: env/.demo ## Show the traces of a small shop
	$(BIN)/python -m examples.shop

test: env/.tests ## Run the tests against real servers (ARGS="-k redis")
	$(BIN)/python scripts/services run $(BIN)/python -m pytest $(ARGS)

coverage: env/.tests ## Run the tests and say which lines and branches they miss
	$(BIN)/python scripts/services run $(BIN)/python -m pytest --cov --cov-report=term-missing $(ARGS)

lint: env/.lint ## Check style, formatting and the names of the changelog fragments
	$(BIN)/ruff check . scripts/services
	$(BIN)/ruff format --check . scripts/services
	$(BIN)/towncrier build --draft --version next >/dev/null

typecheck: env/.lint env/.tests ## Check the types
	$(BIN)/mypy
	MYPYPATH=scripts $(BIN)/mypy --explicit-package-bases scripts/services scripts/servers

bench: env/.bench ## Measure the cost of a span
	env/bench/bin/python -m bench $(ARGS)

# On servers of its own: those suites leave them without passwords, for one.
transparency: env/.tests ## Run the libraries' own test suites with all hooks and without (ARGS=requests)
	SERVICES_DIR=build/transparency $(BIN)/python scripts/services run $(BIN)/python -m scripts.transparency $(ARGS)

docs: env/.docs ## Build the documentation into site/
	$(BIN)/mkdocs build --strict

dist: env/.dist ## Build and check the packages for PyPI into dist/
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

services-up: env/.tests ## Start the servers that the tests talk to, and leave them running
	$(BIN)/python scripts/services up
	$(BIN)/python scripts/services status

services-down: ## Stop those servers
	$(PYTHON) scripts/services down

clean: services-down ## Remove everything that make has made
	rm -rf env build dist site htmlcov .coverage *.egg-info .hypothesis .*_cache .tox
	find . -name __pycache__ -prune -exec rm -rf {} +

# One stamp for each extra of pyproject.toml, so that the demo waits for no test's requirement.
env/.%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e ".[$*]"
	@touch $@

env/.tests: pyproject.toml requirements-test.txt | $(BIN)/python
	$(BIN)/python scripts/services packages
	$(BIN)/python -m pip install -q -r requirements-test.txt
	@touch $@

# The benchmark has an environment of its own: what it is measured beside does not support the newest SQLAlchemy.
env/.bench: pyproject.toml | $(BIN)/python
	$(BIN)/python scripts/services packages
	test -x env/bench/bin/python || $(PYTHON) -m venv env/bench
	env/bench/bin/python -m pip install -q -e ".[bench]"
	@touch $@

$(BIN)/python:
	$(PYTHON) -m venv env
