# Every target sets up what it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 5

.DEFAULT_GOAL := help
.PHONY: help run demo empty test run_test lint test_package test_openstack test_chaos test_hostile bench bench_openstack clean build down logs development test_docker test_image docs reference pictures

# The pure parts, the adapter in front of a scripted cloud, and the web layer in front of a stand-in of the service.
QUICK_TESTS = tests/unit tests/api tests/test_settings.py tests/test_layers.py

# Tests with random examples, and tests that run in one mode unless all examples are asked for.
RANDOM_TESTS = tests/unit/planner tests/unit/scheduling tests/unit/test_nobody_for_nothing.py \
	tests/unit/test_verdicts.py tests/unit/test_world_builder.py tests/integration tests/system/test_conformance.py \
	tests/system/test_crashes.py $(shell grep -l EITHER tests/system/test_*.py)
ALL_EXAMPLES ?= 1

# pytest keeps what it has made of the tests (it rewrites each assert). Where it may not, every process of a run makes all
# of it anew: 5 s of CPU each.
unexport PYTHONDONTWRITEBYTECODE

COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
ALL_PROFILES = COMPOSE_PROFILES=simulated,replicas

help:  ## show this
	@awk -F':.*## ' '/^[a-z_]+:.*## /{printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.service  ## run the service with an embedded database and a simulated cloud, on 127.0.0.1:8888
	@VMSVC_GRACE_SECONDS=$${VMSVC_GRACE_SECONDS:-10} exec $(BIN)/python -m vmsvc

demo: $(VENV)/.service  ## play the story on the running service of VMSVC_URL (default: that of `make run`), until Ctrl-C; VMSVC_TOKEN or ARGUMENTS="--token ..."
	@exec $(BIN)/python -m vmsvc.demo $(ARGUMENTS)

empty: $(VENV)/.service  ## delete every VM that the running service of VMSVC_URL made (YES=1: without asking)
	@exec $(BIN)/python -m vmsvc.demo --empty $(if $(YES),--yes)

test: $(VENV)/.tests  ## the quick tests, for every edit: those that need no database and no cloud (half a minute)
	$(BIN)/python -m pytest -q -n 3 --dist worksteal $(QUICK_TESTS)

run_test: $(VENV)/.tests  ## all tests that need no real OpenStack, with the first of their random examples
	@# Most of the time a test waits for a notice or a cloud: five at a time keep two cores busy (tests/order.py).
	$(BIN)/python -m pytest -n 5 --dist loadscope --ignore=tests/browser --ignore=tests/docker --ignore=tests/package
	@PATH="$$PATH:/usr/sbin" command -v pgbouncer >/dev/null || \
		echo "The tests behind a pooler were left out: install pgbouncer (apt-get install pgbouncer) to run them."
	@# Apart: Playwright keeps an event loop of its own in the thread of the tests.
	@if command -v chromium >/dev/null; then $(BIN)/python -m pytest -n 2 --dist loadfile tests/browser; \
	else echo "The browser tests were left out: install chromium (apt-get install chromium) to run them."; fi

lint: $(VENV)/.tests  ## ruff and pylint over everything, mypy over vmsvc
	$(BIN)/ruff check --quiet vmsvc tests docker docs
	$(BIN)/ruff format --check --quiet vmsvc tests docker docs
	$(BIN)/mypy
	$(BIN)/pylint --rcfile pyproject.toml vmsvc tests docs/*.py
	@# Its modules are no package: the machine's own Python runs that folder.
	cd docker/build && $(CURDIR)/$(BIN)/pylint --rcfile $(CURDIR)/pyproject.toml *.py

docs: $(VENV)/.docs  ## the documents as HTML, docs/_build/html/index.html; a warning is an error
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --builder html docs docs/_build/html

reference: $(VENV)/.tests  ## write the tables and drawings of docs/ that are made from the code
	$(BIN)/python -m docs.generate

pictures: $(VENV)/.tests  ## take the pictures of the page anew (needs chromium; some four minutes)
	$(BIN)/python -m docs.pictures

test_package: $(VENV)/.package  ## the package built, installed and run outside of the checkout; what deploy/ has, checked
	$(BIN)/python -m pytest tests/package

test_openstack: $(VENV)/.tests  ## the conformance and system tests against a real OpenStack on loopback (OPENSTACK_TESTS: some)
	VMSVC_TEST_CLOUD=bed $(BIN)/python -m pytest $(or $(OPENSTACK_TESTS),tests/openstack)

bench_openstack: $(VENV)/.tests  ## vmsvc beside the same done by hand, on a real OpenStack on loopback (some 5 minutes)
	$(BIN)/python -m tests.bench.bench_bed

test_chaos: $(VENV)/.tests  ## the crash matrix, 10,000 faults, random work judged from outside, a soak, webhooks and clients under kills, lineages by the hundred, all random examples (SOAK_MINUTES=30, STORM_FAULTS=10000, INTEGRITY_SECONDS=540, WEBHOOK_EVENTS=10000, FOLLOW_KILLS=20, LINEAGES=100, DELETES=1000)
	$(BIN)/python -m tests.chaos
	$(BIN)/python -m tests.chaos.webhooks
	$(BIN)/python -m tests.chaos.following
	$(BIN)/python -m tests.chaos.lineages
	@# ALL_EXAMPLES= (empty) leaves these out.
	$(if $(ALL_EXAMPLES),ALL_EXAMPLES=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(RANDOM_TESTS))

test_hostile: $(VENV)/.tests  ## 10,000 bad requests and schemathesis', slow peers, 2,000 idle sockets (HOSTILE_REQUESTS, HOSTILE_SEED, ...)
	$(BIN)/python -m tests.hostile
	$(BIN)/python -m tests.hostile.history

bench: $(VENV)/.bench  ## benchmarks, each with its peers
	$(BIN)/python -m tests.bench.bench_planner
	$(BIN)/python -m tests.bench.bench_choice
	$(BIN)/python -m tests.bench.bench_tenant
	$(BIN)/python -m tests.bench.bench_events
	@test -e /usr/lib/nginx/modules/ngx_nchan_module.so || \
		echo "Without nginx and nchan (apt-get install nginx libnginx-mod-nchan) the next tables lack that peer."
	$(BIN)/python -m tests.bench.bench_fanout
	$(BIN)/python -m tests.bench.bench_decision
	$(BIN)/python -m tests.bench.bench_fleet
	$(BIN)/python -m tests.bench.bench_list
	$(BIN)/python -m tests.bench.bench_start
	@# Memory takes a longer look than fits here: CREATES=100000 python -m tests.bench.bench_create memory
	$(BIN)/python -m tests.bench.bench_create cost pace
	$(BIN)/python -m tests.bench.bench_lag
	$(BIN)/python -m tests.bench.bench_webhooks

build:  ## run the service and PostgreSQL in Docker, on 127.0.0.1:8888 (REPLICAS=3, PORT=8888), or upgrade what runs
	@REPLICAS="$(REPLICAS)" PORT="$(PORT)" $(PYTHON) docker/build

down:  ## stop what `make build` started; the data stays
	@$(ALL_PROFILES) $(COMPOSE) down --remove-orphans

logs:  ## follow the logs of what `make build` started
	@$(ALL_PROFILES) $(COMPOSE) logs --follow --tail 100

development:  ## the image with the tests in it: docker run --rm vmsvc-development make run_test (or lint)
	docker build --target development --tag vmsvc-development .

test_docker: $(VENV)/.tests  ## the images, the README's scenario and what a kill does, on the Docker of this machine
	$(BIN)/python -m pytest tests/docker

test_image: development  ## lint and all tests inside the development image (IMAGE_TESTS: a command instead of all)
	docker run --rm vmsvc-development make lint
	docker run --rm vmsvc-development $(or $(IMAGE_TESTS),make run_test)

clean:  ## remove the virtual environment
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "vmsvc needs Python 3.11 or newer as '$(PYTHON)'; install python3, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "Python's venv module is missing; install it: apt-get install python3-venv"; exit 1; }
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)

$(VENV)/.service: requirements.txt requirements-service.txt constraints.txt | $(VENV)/bin/python
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.tests: requirements.txt requirements-service.txt constraints.txt requirements-dev.txt | $(VENV)/bin/python
	$(PIP) -r requirements-dev.txt
	@touch $(VENV)/.service $@

$(VENV)/.package: $(VENV)/.tests requirements-package.txt
	$(PIP) -r requirements-package.txt
	@touch $@

$(VENV)/.bench: requirements.txt requirements-dev.txt requirements-bench.txt | $(VENV)/bin/python
	$(PIP) -r requirements-bench.txt
	@touch $(VENV)/.service $(VENV)/.tests $@

$(VENV)/.docs: requirements-docs.txt constraints.txt | $(VENV)/bin/python
	$(PIP) -r requirements-docs.txt
	@touch $@
