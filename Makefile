# Every target sets up what it needs in .venv; afterwards it works offline.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-browser lint bench wheel lock clean
.DELETE_ON_ERROR:

demo: $(VENV)/ready-demo ## the whole job offline: build, run, score, report
	$(BIN)/mmneedle demo

test: $(VENV)/ready-test ## fast tests
	$(BIN)/python -m pytest -m "not browser"

test-browser: $(VENV)/ready-browser ## tests that drive a real Chromium (Debian: chromium)
	$(BIN)/python -m pytest -m browser

lint: $(VENV)/ready-test ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/ready-test ## speed, as ratios measured side by side
	for script in $(filter-out %_gpu.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$script || exit 1; done

wheel: $(VENV)/ready-test ## build dist/, install it into an empty environment and use it
	$(BIN)/python tests/check_wheel.py

# Requirements are locked with hashes; one file includes the next smaller one's packages.
# The lists are complete: nothing is added to them (--no-deps).
$(VENV)/ready-%: requirements/%.txt requirements/build.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) install --quiet --no-deps $(LIGHT) --require-hashes -r requirements/build.txt -r requirements/$*.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# The demo's environment stays small: modules are compiled when they are used.
$(VENV)/ready-demo: LIGHT := --no-compile

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"mmneedle needs Python 3.11 or newer, $(PYTHON) is {v[0]}.{v[1]}; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

lock: ## write requirements/*.txt anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --upgrade requirements/build.in -o requirements/build.txt
	for name in base demo test browser; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --excludes requirements/$$(test -f requirements/$$name.excludes && echo $$name || echo none).excludes requirements/$$name.in -o requirements/$$name.txt || exit 1; \
	done

clean: ## remove what the targets made
	rm -rf $(VENV) dist build demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
