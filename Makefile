# make run      load once; without settings from the bundled sandbox API
# make dev      the Dagster UI on http://127.0.0.1:3000, or PORT=…
# make test     the tests
# make test-ducklake  those of the destination DuckLake, on the DuckDB that it needs
# make test-ui  the test of the Dagster UI in a real browser, Debian's chromium
# make test-chaos  kill runs at random moments, KILLS=30 times; SEED=… does it again
# make test-scale  the profile of deploy/celery on three machines of its own, and what may die
# make bench    how fast it is beside stock dlt and the floor; ten minutes
# make bench-quick  the same in about two minutes, with smaller tables
# make bench-growth  what a load into Postgres costs, with 1, 2 and 4 at the same time
# make lint     ruff and mypy
# make lock     pin the newest versions of all dependencies
# make clean    forget the environment; loaded data and the history of runs stay

SHELL := /bin/sh
PYTHON ?= python3
PORT ?= 3000
# The package set: "default", "embedded-elt" for dagster-embedded-elt and its Dagster 1.13.1, or
# "ducklake" for DuckLake and its DuckDB 1.5.5. On the other two, what is the same needs no test.
SET ?= default
TESTS-embedded-elt := definitions automation checks daemon dagster_dev executors isolation load \
  progress readme secrets
TESTS-ducklake := ducklake warehouses
KEYWORDS-ducklake := -k "ducklake or duckdb"
TESTS := $(patsubst %,analytics_dagster_tests/test_%.py,$(TESTS-$(SET))) $(KEYWORDS-$(SET))
KILLS ?= 30
VENV := .venv$(if $(filter-out default,$(SET)),-$(SET))
LOCK := requirements$(if $(filter-out default,$(SET)),-$(SET)).lock
BIN := $(VENV)/bin

# One instance for `make run` and `make dev`, so that the UI shows both their runs.
export DAGSTER_HOME ?= $(CURDIR)/.dagster

.PHONY: setup run dev test test-ducklake test-scale test-ui test-chaos bench bench-quick bench-growth \
  lint lock clean

setup: $(VENV)/ready

$(VENV)/ready: $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; name it with make PYTHON=…")'
	@echo "Setting up $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(LOCK)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: setup
	@$(BIN)/python -m analytics_dagster

dev: setup
	$(BIN)/dagster dev --host 127.0.0.1 --port $(PORT)

test: setup
	$(BIN)/python -m pytest -m "not ui and not scale" -n 3 --dist worksteal $(TESTS)

test-ducklake:
	@$(MAKE) --no-print-directory test SET=ducklake

test-ui: setup
	$(BIN)/python -m pytest -m ui

test-chaos: setup
	KILLS=$(KILLS) $(BIN)/python -m pytest analytics_dagster_tests/test_chaos.py --log-cli-level=INFO

test-scale: setup
	$(BIN)/python -m pytest -m scale

bench: setup
	@$(BIN)/python -m bench --full

bench-quick: setup
	@$(BIN)/python -m bench --quick

bench-growth: setup
	@$(BIN)/python -m bench.growth

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.10 --upgrade \
	  --generate-hashes --no-annotate --custom-compile-command "make lock" -o requirements.lock
	uv pip compile pyproject.toml --extra dev --extra embedded-elt --universal --python-version 3.10 --upgrade \
	  --generate-hashes --no-annotate --custom-compile-command "make lock" -o requirements-embedded-elt.lock
	uv pip compile pyproject.toml --extra dev --extra ducklake --universal --python-version 3.10 --upgrade \
	  --generate-hashes --no-annotate --custom-compile-command "make lock" -o requirements-ducklake.lock
	uv pip compile pyproject.toml --extra kubernetes --extra postgres --universal --python-version 3.10 --upgrade \
	  --generate-hashes --no-annotate --custom-compile-command "make lock" -o requirements-kubernetes.lock

clean:
	rm -rf .venv .venv-embedded-elt .venv-ducklake *.egg-info .mypy_cache .ruff_cache .pytest_cache
