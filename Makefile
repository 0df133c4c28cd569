# `make` alone lists the targets. Everything is installed into .venv. Outside of this folder: the caches of pip, npm and
# Maven; as root also Debian's python3-venv if there is no pip, and Postgres's data in /var/tmp/tidings-* if the
# server's user can't reach this folder. `make clean` leaves these.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup run test test-clients test-gateway test-others test-messaging test-slow \
	check lint bench bench-messaging chaos mutants fmt schemas docs lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## install everything into .venv (part of all the others)

run: $(STAMP) ## run the whole system here until Ctrl-C (= tidings up)
	@exec $(BIN)/tidings up

test: lint ## every test but the slow ones; real Kafka and Postgres, under 12 minutes
	$(PYTEST) -q tests/unit tests/property tests/contract tests/chaos tests/mutants -m "not slow" \
		--cov=tidings --cov-branch --cov-report=json:.cache/coverage.json
	$(BIN)/python -m tests.coverage_of_pure .cache/coverage.json
	@# Side by side: both wait for other processes most of the time.
	@$(MAKE) --no-print-directory --output-sync=target -j2 test-gateway test-others

test-gateway: $(STAMP) ## the gateway and the commands on real Kafka (part of test)
	$(PYTEST) -q tests/integration --ignore=tests/integration/messaging -m "not slow"

test-others: test-clients test-messaging ## the client libraries and the messaging service (part of test)

test-messaging: $(STAMP) ## the messaging service on real Postgres and Kafka (part of test)
	$(PYTEST) -q tests/integration/messaging -m "not slow"

test-clients: $(STAMP) ## the client libraries on their own and as packages: Python, JavaScript (Node 20, npm)
	$(PYTEST) -q clients/python/tests
	@if node -e 'process.exit(Number(process.versions.node.split(".")[0] < 20))' 2> /dev/null; then \
	  node clients/js/test/run.js --test-reporter=spec; \
	elif [ "$$CI" = true ]; then echo "test-clients: no Node 20 or newer"; exit 1; \
	else echo "test-clients: JavaScript skipped, no Node 20 or newer"; fi
	@if cd clients/js && { [ -x node_modules/.bin/tsc ] || npm ci --no-audit --no-fund --silent 2> /dev/null; }; then \
	  node_modules/.bin/tsc --project .; \
	elif [ "$$CI" = true ]; then echo "test-clients: npm could not fetch TypeScript"; exit 1; \
	else echo "test-clients: types skipped, npm could not fetch TypeScript"; fi

test-slow: $(STAMP) ## long outages and storms
	$(PYTEST) tests -m slow

check: lint ## lint, types, import rules, and the tests that need nothing else; under a minute
	$(PYTEST) -q tests/unit tests/property tests/contract tests/chaos tests/mutants -m "not slow"

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p tidings -p tests
	cd clients/python && ../../$(BIN)/mypy

SECONDS ?= 180
chaos: $(STAMP) ## a random schedule of faults for SECONDS=180; SEED=n repeats one
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

mutants: $(STAMP) ## break each guarantee once and see its test fail
	$(BIN)/python -m tests.mutants

bench: $(STAMP) ## measure against the baseline; takes a while, wants a quiet machine
	$(BIN)/tidings bench --check-floor

bench-messaging: $(STAMP) ## measure the messaging service; some three minutes, wants a quiet machine
	$(BIN)/tidings bench --part messaging --warm-up 30 --seconds 15

fmt: $(STAMP) ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

schemas: $(STAMP) ## write schemas/ anew from the contract's structs
	$(BIN)/python -m tidings.cli.schemas

docs: $(STAMP) ## write the generated pages of docs/ and README's table anew
	$(BIN)/python -m tidings.cli.settings_reference
	$(BIN)/python -m tidings.cli.closing_reference

lock: ## pin the newest allowed dependencies with their hashes (needs uv)
	@command -v uv > /dev/null || { echo "make lock needs uv: https://docs.astral.sh/uv/"; exit 1; }
	@mkdir -p requirements
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		--no-header --upgrade pyproject.toml -o requirements/runtime.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		--no-header --upgrade --group dev --group build -c requirements/runtime.txt pyproject.toml -o requirements/dev.txt

clean: ## remove .venv, caches and what `tidings up` left
	rm -rf $(VENV) .cache .tidings .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find services shared tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python that is new enough; then the first way to install into the new environment. Debian splits ensurepip
# (package python3-venv) from Python, so a bare machine may have no pip for it: an outer pip, uv or apt-get will do.
$(STAMP): requirements/dev.txt pyproject.toml
	@set -e; \
	for python in $(PYTHON) python3.14 python3.13 python3.12 python3.11 python3 none; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then break; fi; \
	done; \
	if [ "$$python" = none ]; then echo "make setup: Python 3.11 or newer is needed, and none is on the PATH"; exit 1; fi; \
	create() { "$$python" -m venv $(VENV) > /dev/null 2>&1 || "$$python" -m venv --clear --without-pip $(VENV); }; \
	inner() { $(BIN)/python -m pip --version > /dev/null 2>&1; }; \
	outer() { "$$python" -m pip --python $(BIN)/python --version > /dev/null 2>&1; }; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then \
	  echo "make setup: $(VENV) with $$("$$python" --version)"; create; \
	fi; \
	if ! inner && ! outer && ! command -v uv > /dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  echo "make setup: no pip here; installing the package python3-venv"; \
	  apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv > /dev/null; \
	  rm -rf $(VENV); create; \
	fi; \
	if inner; then pip="$(BIN)/python -m pip"; \
	elif outer; then pip="$$python -m pip --python $(BIN)/python"; \
	elif command -v uv > /dev/null; then pip="uv pip"; VIRTUAL_ENV="$$PWD/$(VENV)"; export VIRTUAL_ENV; \
	else echo "make setup: no pip for $$python; install python3-venv (Debian, Ubuntu), python3-pip or uv"; exit 1; fi; \
	echo "make setup: installing with $$pip"; \
	$$pip install -q --require-hashes --no-deps -r requirements/dev.txt; \
	$$pip install -q --no-deps --no-build-isolation -e .; \
	touch $(STAMP)
