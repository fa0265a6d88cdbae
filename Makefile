# Every target sets up what it needs in .venv; afterwards it works offline.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-random test-browser test-hf test-vllm lint bench wheel lock clean
.DELETE_ON_ERROR:

demo: $(VENV)/ready-demo ## the whole job offline: build, run, score, report
	$(BIN)/mmneedle demo

# A process for each CPU, eight at most; one that has done its part takes over some of another's.
TOGETHER := -n auto --maxprocesses 8 --dist worksteal
LIGHT_TESTS := not browser and not hf and not vllm

test: $(VENV)/ready-test ## fast tests
	$(BIN)/python -m pytest $(TOGETHER) -m "$(LIGHT_TESTS)"

test-random: $(VENV)/ready-test ## their property tests on fresh examples, five times as many
	$(BIN)/python -m pytest $(TOGETHER) -m "hypothesis and $(LIGHT_TESTS)" --hypothesis-profile random

test-browser: $(VENV)/ready-browser ## tests that drive a real Chromium (Debian: chromium)
	$(BIN)/python -m pytest -m browser

test-hf: .venv-hf/ready ## the tests of hf/, on the real engine, in an environment with torch
	.venv-hf/bin/python -m pytest -m hf

# The vLLM for CPUs comes with a torchvision for CUDA, which tests/vllm_shim makes importable.
test-vllm: .venv-vllm/ready ## the tests of vllm/, on the real engine on the CPU
	PYTHONPATH=$(CURDIR)/tests/vllm_shim .venv-vllm/bin/python -m pytest -m vllm tests/vllm_engine

lint: $(VENV)/ready-test ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/ready-browser ## speed, as ratios measured side by side
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

# The one package that is not locked by hash: which file of torch fits depends on the machine. A
# folder named by PIP_FIND_LINKS may hold a CPU build, which is taken before the package index's.
TORCH := torch==2.13.0

.venv-hf/ready: requirements/hf.txt requirements/build.txt pyproject.toml Makefile
	test -x .venv-hf/bin/python || $(PYTHON) -m venv .venv-hf
	.venv-hf/bin/python -m pip --disable-pip-version-check install --quiet $(TORCH)
	.venv-hf/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/build.txt -r requirements/hf.txt
	.venv-hf/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Half the size and a tenth of the time with uv; PIP_FIND_LINKS may name a folder that has wheels.
.venv-vllm/ready: requirements/vllm.txt requirements/vllm.excludes pyproject.toml
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip --disable-pip-version-check install --quiet uv
	.venv-vllm/bin/uv pip install --quiet --python .venv-vllm/bin/python $(addprefix --find-links ,$(PIP_FIND_LINKS)) --excludes requirements/vllm.excludes -r requirements/vllm.txt
	.venv-vllm/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	touch $@

lock: ## write requirements/*.txt anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --upgrade requirements/build.in -o requirements/build.txt
	for name in base demo test browser hf; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --excludes requirements/$$(test -f requirements/$$name.excludes && echo $$name || echo none).excludes requirements/$$name.in -o requirements/$$name.txt || exit 1; \
	done
	uv pip compile --quiet --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-header --no-annotate $(addprefix --find-links ,$(PIP_FIND_LINKS)) --excludes requirements/vllm.excludes requirements/vllm.in -o requirements/vllm.txt

clean: ## remove what the targets made
	rm -rf $(VENV) .venv-hf .venv-vllm dist build demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
