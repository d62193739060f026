# `make help` lists the targets. They install into .venv, .venv-browse, .venv-warehouse and bench/peers, and change nothing outside this folder.

PYTHON ?= python3
BIN := .venv/bin
BROWSE_PORT ?= 8001

.PHONY: help install run browse test test-system test-full lint types bench bench-quick lock clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*##/\1/p' Makefile | awk '{ name = $$1; $$1 = ""; printf "  make %-12s%s\n", name, $$0 }'

install: .venv/installed  ## Create .venv with the service's dependencies and the command .venv/bin/tracklog
	@ln -sfn ../../tracklog $(BIN)/tracklog

run: install  ## Register the example source and serve on 127.0.0.1:8000
	@$(BIN)/tracklog sources add example --source-id ILoveData123 --create
	@bind=$${TRACKLOG_BIND:-127.0.0.1:8000}; database=$${TRACKLOG_DATABASE:-tracklog.db}; \
	printf '\nSend an event:\n\n  curl http://%s/v1/track \\\n    -H "Authentication: Basic SUxvdmVEYXRhMTIz" \\\n' "$$bind"; \
	printf "    -d '{\"userId\": \"1234\", \"event\": \"Added File\", \"properties\": {\"fileType\": \"PDF\"}}'\n"; \
	printf "\nand see it:\n\n  sqlite3 -box %s 'select timestamp, user_id, event, properties from tracks'\n\n" "$$database"
	@exec $(BIN)/tracklog serve

browse: .venv-browse/installed  ## Browse the log, read-only, on 127.0.0.1:8001 (set BROWSE_PORT to change)
	@printf '\n  http://127.0.0.1:%s/-/%s\n' $(BROWSE_PORT) live $(BROWSE_PORT) dashboards/log
	@PYTHONPATH=.:deploy/datasette exec .venv-browse/bin/datasette serve deploy/datasette --host 127.0.0.1 --port $(BROWSE_PORT)

# Hypothesis generates the same examples in every run, and random ones in test-full.
test: .venv/tested  ## Run the unit tests and a few system tests (about four minutes)
	$(BIN)/pytest -m "not system" --hypothesis-profile=ci --numprocesses 2 --dist worksteal

test-system: .venv/tested tests/system/clients/python/installed  ## Run the other system tests: nginx, browsers, Kafka, faults
	$(BIN)/pytest -m system

test-full: .venv/tested tests/system/clients/python/installed  ## Run all tests, including the long forms
	$(BIN)/pytest --full -o timeout=3600 -o faulthandler_timeout=3660

lint: .venv/tested  ## Check style and formatting with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/tested  ## Check types with mypy
	$(BIN)/mypy

bench: .venv/tested bench/peers/installed  ## Run every benchmark and write its figures (needs wrk, strace, npm; Java for Kafka; PostgreSQL)
	$(BIN)/python bench/bench.py
	$(BIN)/python bench/growth.py
	$(BIN)/python bench/workers.py
	$(BIN)/python bench/profiling.py
	$(BIN)/python bench/report.py
	$(BIN)/python bench/forward.py
	$(BIN)/python bench/kafka.py
	$(BIN)/python bench/postgresql.py

bench-quick: install bench/peers/installed  ## Compare ingest with other servers (two minutes)
	$(BIN)/python bench/bench.py --rounds 2 --seconds 3 --cases c64 "batches of 100, c16"

bench/peers/installed: bench/peers/requirements.txt bench/peers/package-lock.json
	$(PYTHON) -m venv --clear bench/peers/.venv
	bench/peers/.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r bench/peers/requirements.txt
	npm ci --silent --prefix bench/peers
	@touch $@

lock:  ## Upgrade the pinned dependencies in requirements/
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade $(LOCK) setup.cfg --output-file requirements/service.txt
	$(BIN)/uv pip compile --quiet --upgrade $(LOCK) setup.cfg --extra test --constraint requirements/service.txt --output-file requirements/test.txt
	$(BIN)/uv pip compile --quiet --upgrade $(LOCK) bench/peers/requirements.in --output-file bench/peers/requirements.txt
	for extra in browse warehouse; do \
	$(BIN)/python -c 'import configparser as c, sys; s = c.ConfigParser(); s.read("setup.cfg"); print(s["options.extras_require"][sys.argv[1]])' $$extra \
	| $(BIN)/uv pip compile --quiet --upgrade $(LOCK) - --output-file requirements/$$extra.txt || exit; done

LOCK := --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock"

clean:  ## Delete the environments and tool caches; never a log
	rm -rf .venv .venv-browse .venv-warehouse bench/peers/.venv bench/peers/node_modules bench/peers/installed .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info

.venv/installed: requirements/service.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/service.txt
	@touch $@

.venv-browse/installed .venv-warehouse/installed: .venv-%/installed: requirements/%.txt
	$(PYTHON) -m venv --clear .venv-$*
	.venv-$*/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv/tested: requirements/test.txt .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/test.txt
	@touch $@

# Each old Python library gets a folder of its own, since several have one name; what they share is in .venv.
tests/system/clients/python/installed: $(wildcard tests/system/clients/python/*.txt) .venv/tested
	@for lock in $(wildcard tests/system/clients/python/*.txt); do \
	    $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade --target $${lock%.txt} -r $$lock || exit 1; \
	done
	@touch $@
