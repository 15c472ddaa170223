# The project's few commands. Each of them installs what it is missing (deploy/setup.sh), so a fresh clone
# on a fresh machine needs nothing but make.

.DEFAULT_GOAL := help
.PHONY: help demo demo-down test test-long test-setup test-steady lint bench image setup clean
PY := .venv/bin/python

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Two real guests, served and kept; DEMO=install installs their image first
	@DEMO=$(DEMO) deploy/demo/up.sh

demo-down: ## Remove every trace of the demo (PURGE=1: the cached image, too)
	@deploy/demo/down.sh

test: test-setup ## Everything CI checks: style, types, layers, unit tests, real guests (ARGS=... goes to pytest)
	@$(MAKE) --no-print-directory lint
	@tests/run.sh $(ARGS)

test-long: test-setup ## What takes minutes beside those: every bad end of an install, long histories (ARGS=... as above)
	@.venv/bin/python -m pytest --long --timeout 1800 $(ARGS)

test-setup:
	@deploy/setup.sh --tests
	@deploy/libvirt-up.sh >/dev/null
	@deploy/demo/build-image.sh >/dev/null

test-steady: setup ## The tests without guests at four times of day, and on a busy machine (ARGS=... as above)
	@tests/steady.sh $(ARGS)

lint: setup ## Style, types, layers; seconds, no guests
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(PY) -m docs.generate --check

bench: setup ## How fast and how small, against bare libvirt in the same run
	@deploy/libvirt-up.sh >/dev/null
	@deploy/demo/build-image.sh >/dev/null
	@$(PY) -m bench $(ARGS)

image: setup ## Build the demo's Debian image into the cache
	@deploy/demo/build-image.sh

setup: ## Install packages and the Python environment, if anything is missing
	@deploy/setup.sh

clean: ## Remove what was built in this directory (not the demo, not the cache)
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
