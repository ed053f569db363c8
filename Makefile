# Every command a person types here; CI types the same ones. Works with GNU make 3.81 and later.

PROMPT ?= The most important thing about the sea is
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN = $(UV) run --quiet
RECORDS = docs/baseline-generation.json docs/baseline-embedding.json docs/performance-baselines.md
EPOCH = git log -1 --format=%ct -- . $(foreach file,$(RECORDS),':(exclude)$(file)')

.PHONY: help install build epoch build-tools wheels smoke smoke-aarch64 test lint format check docs demo benchmark check-release clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

install: $(UV) ## set up .venv with every package and tool, and compile the kernels
	@$(UV) sync

build: build-tools ## build the sdist and the wheel of every package into dist/
	@rm -rf dist
	@SOURCE_DATE_EPOCH=$$($(EPOCH)) $(UV) build --quiet --all-packages --build-constraints build/tools.txt --require-hashes
	@ls -l dist/*.whl dist/*.tar.gz

epoch: ## print SOURCE_DATE_EPOCH of a build: when a commit last changed more than what evidence records
	@$(EPOCH)

build-tools: $(UV) ## list setuptools and mojo-compiler as they are locked in build/tools.txt, for builds of the same bytes
	@mkdir -p build
	@$(UV) export --quiet --frozen --only-group build --output-file build/tools.txt

wheels: install ## build the sdist and the wheel for every platform into dist/, from the commit
	@$(RUN) release build

smoke: build ## install what was built alone into a new environment of every Python found, and run it
	@$(RUN) release smoke

smoke-aarch64: install ## run what is built for Linux on aarch64, emulated by qemu if it is there
	@$(RUN) python tools/smoke_aarch64.py

test: install ## run the tests of every package, each on its own
	@$(RUN) pytest packages/mogemma
	@$(RUN) pytest packages/mogemma-bench
	@$(RUN) pytest packages/mogemma-release
	@$(RUN) pytest tools
	@$(RUN) python tools/mojo_test.py

lint: install ## style, types and format of Python and Mojo, and GitHub's workflows
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) mypy packages/mogemma
	@$(RUN) mypy packages/mogemma-bench
	@$(RUN) mypy packages/mogemma-release
	@$(RUN) mypy tools
	@$(RUN) pyright
	@$(RUN) mblack --quiet --line-length 80 --check mojo
	@$(RUN) python tools/lint_workflows.py

format: install ## write Python and Mojo in the one format
	@$(RUN) ruff check --quiet --fix-only
	@$(RUN) ruff format
	@$(RUN) mblack --line-length 80 mojo

check: install ## imports go one way, documents name what there is, models are as near as stated, workflows do what the runbook says
	@$(RUN) python tools/check_imports.py
	@$(RUN) python tools/check_docs.py
	@$(RUN) python tools/performance_table.py --check
	@$(RUN) python tools/models_table.py --check
	@$(RUN) python -m mogemma_release.workflows
	@$(RUN) release docs --check

demo: install ## fetch Gemma 3 270M (253 MB, once) and let it continue PROMPT
	@model=$$($(RUN) python tools/fetch_models.py gemma-3-270m) && \
	$(RUN) mogemma generate -m "$$model" --max-tokens 64 "$(PROMPT)"

benchmark: install ## measure generation and embedding on real models
	@$(UV) run --package mogemma-bench --extra models bench --mode generation
	@$(UV) run --package mogemma-bench --extra models bench --mode embedding

check-release: install ## everything that must pass before a release: lint, check and test among it
	@$(RUN) release preflight

docs: install ## write the pages that are generated
	@$(RUN) python tools/performance_table.py
	@$(RUN) python tools/models_table.py
	@$(RUN) release docs

clean: ## remove what the commands above made, but no model
	@rm -rf .venv .uv dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@rm -rf packages/*/build packages/*/src/*.egg-info packages/mogemma/src/mogemma/_kernel
	@find packages tools -name __pycache__ -type d -prune -exec rm -rf {} +

.uv/bin/uv:
	@python3 -m venv .uv
	@.uv/bin/pip install --quiet --disable-pip-version-check uv
