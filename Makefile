# One place for people and CI: every target sets up what it needs first.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
TOOLS := .venv-tools

.DEFAULT_GOAL := demo
.PHONY: demo sandbox test test-longer planted soak kills hangs fuzz load coverage mutants bench bench-quick package package-check audit lint types format lock clean

$(VENV)/ready: requirements-dev.txt
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); sys.exit(0 if ok else "$(PYTHON) is Python " + sys.version.split()[0] + ": 3.11, 3.12 or 3.13 is needed (make PYTHON=python3.13)")'
	@echo "Setting up $(VENV) with $$($(PYTHON) --version), once …"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

demo: $(VENV)/ready
	@$(RUN) -m sandbox.demo

sandbox: $(VENV)/ready
	@$(RUN) -m sandbox

# What takes longer, each folder a door, a browser, a fault, a simulation: a step of CI.
LONGER := tests/bad_input tests/browser tests/crash tests/fuzz tests/load tests/mutation tests/simulation
TESTS ?= tests --ignore tests/package $(addprefix --ignore ,$(LONGER))
# One process more than CI has cores: some tests wait for sockets.
SPREAD := --numprocesses 3 --dist worksteal
test: $(VENV)/ready
	$(RUN) -m pytest $(SPREAD) $(TESTS)

test-longer: $(VENV)/ready
	$(RUN) -m pytest $(SPREAD) $(LONGER) --ignore tests/simulation/test_planted.py

planted: $(VENV)/ready
	$(RUN) -m pytest --numprocesses 2 --dist load tests/simulation/test_planted.py

SCHEDULES ?= 100000
soak: $(VENV)/ready
	$(RUN) -m tests.simulation.soak --schedules $(SCHEDULES)

kills: $(VENV)/ready
	$(RUN) -m tests.crash.kills

SERVICES ?= 10000
hangs: $(VENV)/ready
	$(RUN) -m tests.crash.hangs --services $(SERVICES)

CASES ?= 100000
fuzz: $(VENV)/ready
	$(RUN) -m tests.fuzz.run --cases $(CASES)
	@if $(RUN) -c 'import atheris' 2>/dev/null; then $(RUN) -m tests.fuzz.guided -runs=$(CASES); fi

load: $(VENV)/ready
	$(RUN) -m tests.load.run

coverage: export COVERAGE_FILE = $(VENV)/coverage
coverage: $(VENV)/ready
	EVERY_NTH_CASE=47 $(RUN) -m coverage run --rcfile tests/mutation/coverage.ini -m pytest --numprocesses 2 --dist loadfile tests/unit
	$(RUN) -m coverage combine --quiet --rcfile tests/mutation/coverage.ini
	$(RUN) -m coverage report --rcfile tests/mutation/coverage.ini

mutants: $(VENV)/ready
	$(RUN) -m tests.mutation.judge --simulate

bench: $(VENV)/ready
	$(RUN) -m bench.probe --endpoints 100 1000 10000 --rtt 0 30 --key ecdsa rsa --latency --json bench/results/probe.json
	$(RUN) -m bench.dead --json bench/results/dead.json
	$(RUN) -m bench.event --json bench/results/event.json
	$(RUN) -m bench.wildcard --json bench/results/wildcard.json
	$(RUN) -m bench.cold_start --json bench/results/cold_start.json
	$(RUN) -m bench.full_pass --json bench/results/full_pass.json
	$(RUN) -m bench.shards --json bench/results/shards.json
	$(RUN) -m bench.report

bench-quick: $(VENV)/ready
	$(RUN) -m bench.probe --quick
	$(RUN) -m bench.dead --quick
	$(RUN) -m bench.event --quick
	$(RUN) -m bench.wildcard --quick
	$(RUN) -m bench.full_pass --quick
	$(RUN) -m bench.shards --quick
	$(RUN) -m bench.cold_start --quick

$(TOOLS)/ready: tools/requirements.txt
	@echo "Setting up $(TOOLS), once …"
	@$(PYTHON) -m venv --clear $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

package: $(TOOLS)/ready
	@$(TOOLS)/bin/python -m tools.package --bill-of-materials $(TOOLS)/bin/cyclonedx-py $(if $(PACKAGE_PYTHON),--python $(PACKAGE_PYTHON)) $(PACKAGE_OPTIONS)

package-check: package $(VENV)/ready
	$(RUN) -m pytest tests/package

audit: $(TOOLS)/ready $(VENV)/ready
	PYTHONPATH=$$($(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))') $(TOOLS)/bin/deptry .
	$(TOOLS)/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.txt
	$(TOOLS)/bin/pip-audit --strict --require-hashes --disable-pip -r requirements-dev.txt

lint: $(VENV)/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(VENV)/ready
	$(RUN) -m mypy

format: $(VENV)/ready
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

COMPILE := -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make lock" pyproject.toml

lock: $(VENV)/ready
	$(RUN) $(COMPILE) --upgrade --output-file requirements.txt
	$(RUN) $(COMPILE) --extra dev --constraint requirements.txt --output-file requirements-dev.txt

clean:
	rm -rf $(VENV) $(TOOLS) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
