# dmml. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format results clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(INSTALLED) ## make .venv here, with dmml and all that the demo and the tests need

$(INSTALLED): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev,demo]'
	@touch $@

demo: install ## simulated slides and RNA -> teacher -> student -> report, in minutes; a second run redoes nothing
	@$(BIN)/dmml demo

test: install ## the whole test suite
	@$(BIN)/python -m pytest

lint: install ## style and names
	@$(BIN)/ruff check dmml tests benchmarks
	@$(BIN)/ruff format --check dmml tests benchmarks

format: install ## put the code into the project's format
	@$(BIN)/ruff format dmml tests benchmarks
	@$(BIN)/ruff check --fix --select I dmml tests benchmarks

results: install ## measure again what stands in docs/results, but for kills and real patients (about three hours)
	@for script in model_speed rare_signal aggregation ablation simulated_features bootstrap_coverage precision training_throughput extraction feature_reading; do \
		$(BIN)/python benchmarks/$$script.py --out docs/results || exit 1; done

clean: ## remove the demo's data and runs, and caches
	rm -rf demo runs .pytest_cache .ruff_cache build *.egg-info
