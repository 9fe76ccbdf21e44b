# dmml. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test check thorough test-fast lint format docs package results clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(INSTALLED) ## make .venv here, with dmml and all that the demo and the tests need

$(INSTALLED): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev,demo]'
	@touch $@

demo: install ## simulated slides and RNA -> teacher -> student -> report, in minutes; a second run redoes nothing
	@$(BIN)/dmml demo

# One process for each core, one file or folder of tests at a time, slow files first (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test: install ## the tests of every part, on all cores
	@$(PYTEST) -m "not check and not thorough"

check: install ## what a user gets as a whole: wheel, demo, documentation and its code, notebooks, jobs of SLURM
	@$(PYTEST) -m check

thorough: install ## what takes long and varies what `make test` tries, simulates many cohorts, or tries benchmarks in small: each week
	@$(PYTEST) -m thorough

test-fast: install ## the tests that take milliseconds (about three minutes on two cores): for every change, before `make test`
	@$(PYTEST) -m "not slow"

lint: install ## style, names and types
	@$(BIN)/ruff check dmml tests benchmarks docs
	@$(BIN)/ruff format --check dmml tests benchmarks docs
	@$(BIN)/mypy

format: install ## put the code into the project's format
	@$(BIN)/ruff format dmml tests benchmarks docs
	@$(BIN)/ruff check --fix --select I dmml tests benchmarks docs

docs: install ## build the documentation into site/, readable without a server; every link must resolve
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "open site/index.html"

package: install ## wheel and source archive in dist/, tried in an empty environment
	@rm -rf dist && $(BIN)/python -m build --outdir dist > /dev/null
	@$(PYTHON) -m venv dist/environment && dist/environment/bin/python -m pip install --quiet "$$(ls dist/*.whl)[demo]"
	@cd dist/environment && bin/dmml --version && bin/dmml doctor && rm -rf ../environment

results: install ## measure again what stands in docs/results, but for kills and real patients (about five hours)
	@for script in model_speed rare_signal aggregation prototype_maps ablation simulated_features bootstrap_coverage limits encoding_budget precision training_throughput encoder_backends explanations extraction extraction_backends feature_reading stain_normalization; do \
		$(BIN)/python benchmarks/$$script.py --out docs/results || exit 1; done

clean: ## remove the demo's data and runs, and caches
	rm -rf demo runs site dist .pytest_cache .ruff_cache build *.egg-info
