# Everything a developer does, by name. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

VENV ?= .venv
BUILD := build
PYTEST_WORKERS ?= 4

# The source folder taskito/ must never shadow the installed package.
export PYTHONSAFEPATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MYPY_CACHE_DIR := $(abspath $(BUILD)/mypy)

VENV_PATH := $(abspath $(VENV))
BIN := $(VENV_PATH)/bin
PYTEST = cd tests && $(BIN)/python -m pytest --config-file=../pyproject.toml --rootdir=..

CONTRIB := $(notdir $(wildcard contrib/taskito-*))

# The interpreter that the virtual environment is made from: the first that is new enough.
PYTHON ?= $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$candidate; break; fi; done)

# Each suite has a budget in seconds, on two processors that do nothing else; BUDGET_SCALE=3 makes room on others.
export BUDGET_SCALE ?= 1
WITHIN := .ci/within
SUITE = $(MAKE) --no-print-directory

WHEEL_SOURCES := $(shell find rust_backend taskito -type f -not -path '*/__pycache__/*' -not -name '*.so' 2>/dev/null | LC_ALL=C sort)

##@ Use

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "; print "Usage: make <target>"} \
		/^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup ## Run the demonstration: index the standard library with a queue and a worker
	$(BIN)/python docs/demo/index_stdlib.py

##@ Check

.PHONY: test
test: setup ## Run the tests of the engine, then those of the installed package
	$(SUITE) engine-build
	$(WITHIN) "tests of the engine" 40 $(SUITE) engine-tests
	$(WITHIN) "tests of the package" 400 $(SUITE) package-tests
	$(WITHIN) "timing tests" 60 $(SUITE) timing-tests
	$(WITHIN) "tests of contrib" 55 $(SUITE) contrib-tests

.PHONY: lint
lint: setup ## Check format, lints, types, the native module's stub and the direction of imports
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	for package in $(CONTRIB); do $(BIN)/mypy --strict contrib/$$package/$${package//-/_}; done
	cd $(BUILD) && $(BIN)/python -m mypy.stubtest --mypy-config-file=../pyproject.toml taskito._core
	$(call lint-imports)

.PHONY: conformance
conformance: export TASKITO_CONFORMANCE_PROFILE := thorough
conformance: setup ## Run the conformance kit on every shipped backend, thoroughly; many minutes
	$(WITHIN) "conformance, thoroughly" 2400 $(SUITE) kit-tests

.PHONY: conformance-ci
conformance-ci: export TASKITO_CONFORMANCE_PROFILE := ci
conformance-ci: setup ## Run the conformance kit on one SQLite file with the profile ci
	$(WITHIN) "conformance of SQLite" 150 $(SUITE) kit-tests KIT=conformance/test_sqlite_file.py::TestSqliteFile

.PHONY: endurance
endurance: setup ## Run the hammer for 12 s, the soak for 30 s and 5 rounds of shutdown
	$(WITHIN) "endurance" 120 $(SUITE) endurance-tests

.PHONY: scorecard
scorecard: setup ## Write the scorecard of the SQLite store into the documentation
	$(BIN)/python docs/scorecard.py ci

.PHONY: smoke
smoke: wheel ## Build the release wheel, install it alone and run the quickstart with it
	rm -rf $(BUILD)/smoke
	$(PYTHON) -m venv $(BUILD)/smoke
	$(BUILD)/smoke/bin/python -m pip install --quiet dist/*.whl
	cd $(BUILD) && PYTHONSAFEPATH=1 smoke/bin/python $(CURDIR)/tests/smoke/release_wheel.py

.PHONY: thorough
thorough: export TASKITO_HYPOTHESIS_PROFILE := thorough
thorough: export TASKITO_CONFORMANCE_PROFILE := thorough
thorough: export TASKITO_THOROUGH := 1
thorough: export PROPTEST_CASES := 4096
thorough: lint ## Run lint and every test with many more examples, within an hour
	$(SUITE) engine-build
	$(WITHIN) "tests of the engine" 600 $(SUITE) engine-tests
	$(WITHIN) "tests of the package" 2400 $(SUITE) package-tests PATIENCE="-o timeout=1800 -o faulthandler_timeout=1790"
	$(WITHIN) "endurance" 900 $(SUITE) endurance-tests
	$(WITHIN) "timing tests" 60 $(SUITE) timing-tests
	$(WITHIN) "tests of contrib" 630 $(SUITE) contrib-tests CONTRIB_PROFILE=ci

.PHONY: bench
bench: setup ## Run the benchmarks
	$(BIN)/python benchmarks/run.py

##@ Build

.PHONY: setup
setup: $(VENV)/.wheel-installed ## Make .venv with the development tools and the package built from this tree

.PHONY: wheel
wheel: $(VENV)/.tools-installed ## Build the release wheel and the source distribution into dist/
	rm -rf dist
	PATH="$(BIN):$$PATH" $(BIN)/maturin build --release --sdist --out dist --interpreter $(BIN)/python

.PHONY: docs
docs: setup ## Build the documentation into build/docs; warnings are errors
	$(BIN)/sphinx-build --fail-on-warning --keep-going -b html docs $(BUILD)/docs

.PHONY: lock
lock: $(VENV)/.tools-installed ## Resolve the dependency groups again into requirements-dev.lock (UPGRADE=1: newest versions)
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" \
		$(if $(UPGRADE),--upgrade) --quiet --output-file requirements-dev.lock

.PHONY: clean
clean: ## Remove everything that was built, the virtual environment included
	rm -rf $(VENV) $(BUILD) dist target
	find taskito tests docs benchmarks contrib \( -name __pycache__ -o -name .hypothesis \) -prune -exec rm -rf {} + 2>/dev/null || true

# ---- Suites: `make test` and its like run them, each within its budget ----

# nextest runs the tests of all binaries side by side; documentation examples are not its business.
.PHONY: engine-tests
engine-tests:
	if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --locked -p taskito-engine --all-features; \
		cargo test --locked -p taskito-engine --all-features --doc --quiet; \
	else \
		cargo test --locked -p taskito-engine --all-features; \
	fi

# Compiling is no part of a suite's budget.
.PHONY: engine-build
engine-build:
	cargo test --locked -p taskito-engine --all-features --no-run --quiet

.PHONY: package-tests
package-tests:
	$(PYTEST) -n $(PYTEST_WORKERS) --dist=worksteal -m "not timing and not endurance" $(PATIENCE)

# Alone, in one process: nothing else may disturb the measurement. Status 5 means that no test is marked `timing`.
.PHONY: timing-tests
timing-tests:
	$(PYTEST) -n 0 -m timing || [ $$? -eq 5 ]

.PHONY: endurance-tests
endurance-tests:
	$(PYTEST) -n 3 -m endurance

.PHONY: kit-tests
kit-tests: KIT ?= conformance
kit-tests:
	$(PYTEST) -n $(PYTEST_WORKERS) --dist=worksteal -o timeout=1800 -o faulthandler_timeout=1790 $(KIT)

# Each package is built and installed as anybody's would be; uv is its build backend, so nothing is fetched. It leaves the
# environment again: the other tests see only what taskito itself ships. The example store shows how one is written and is
# no fast one, so a thorough run holds it to the profile ci.
.PHONY: contrib-tests
contrib-tests: CONTRIB_PROFILE ?= quick
contrib-tests:
	for package in $(CONTRIB); do \
		rm -rf $(BUILD)/contrib; \
		$(BIN)/uv build --quiet --offline --wheel --python $(BIN)/python --out-dir $(BUILD)/contrib contrib/$$package; \
		$(BIN)/python -m pip install --quiet --no-deps --force-reinstall $(BUILD)/contrib/*.whl; \
		(trap "$(BIN)/python -m pip uninstall --quiet --yes $$package" EXIT; cd contrib/$$package && \
			TASKITO_CONFORMANCE_PROFILE=$(CONTRIB_PROFILE) \
			$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist=worksteal -p taskito.testing.conformance.scorecard); \
	done

# ---- Parts ----

# The linter sees modules with a .py file only. In a copy an empty one stands in for the native module, so that the
# contract about who may import it has something to look at.
define lint-imports
	rm -rf $(BUILD)/imports
	mkdir -p $(BUILD)/imports
	cp -R taskito $(BUILD)/imports/taskito
	: > $(BUILD)/imports/taskito/_core.py
	cd $(BUILD)/imports && $(BIN)/lint-imports --config ../../pyproject.toml --no-cache
endef

$(VENV)/.created:
	@if [ -z "$(PYTHON)" ]; then \
		echo "taskito needs Python 3.11 or newer; none was found. Install it, or name it: make PYTHON=/path/to/python3" >&2; exit 1; fi
	@if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		echo "taskito needs Python 3.11 or newer; $(PYTHON) is older or does not run" >&2; exit 1; fi
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.tools-installed: requirements-dev.lock $(VENV)/.created
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.lock
	touch $@

# The list of source files, rewritten only when it differs: a file that is gone must lead to a new wheel, too.
$(VENV)/.wheel-sources: force | $(VENV)/.created
	@printf '%s\n' $(WHEEL_SOURCES) | cmp --silent - $@ || printf '%s\n' $(WHEEL_SOURCES) > $@

.PHONY: force
force:

# The stamp bears the time of the start: what is edited during the build is newer and leads to another one.
$(VENV)/.wheel-installed: $(VENV)/.tools-installed $(VENV)/.wheel-sources Cargo.toml Cargo.lock pyproject.toml LICENSE $(WHEEL_SOURCES)
	@command -v cargo >/dev/null || { \
		echo "taskito is built with Rust 1.88 or newer; cargo was not found. Install Rust (rustup) and try again." >&2; exit 1; }
	@command -v cc >/dev/null || { echo "taskito is built with a C compiler (cc), which was not found; install gcc or clang." >&2; exit 1; }
	touch $(VENV)/.wheel-started
	rm -rf $(VENV)/wheel
	PATH="$(BIN):$$PATH" $(BIN)/maturin build --profile dev --features failpoints --out $(VENV)/wheel --interpreter $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall $(VENV)/wheel/*.whl
	mv $(VENV)/.wheel-started $@
