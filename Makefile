# Two commands matter: `make demo` shows the whole thing at work, `make test` proves it.
# Everything is installed on first use into .venv and node_modules; nothing global.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup setup-web pages demo session test test-python test-convex test-web e2e bench lint format types codegen check-generated clean

help: ## Show what can be made
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 24

setup: $(VENV)/.installed node_modules/.installed ## Install what the other targets need

$(VENV)/.installed: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=…")'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing Python packages …"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

node_modules/.installed: package.json package-lock.json .npmrc
	@node -e 'const [a,b]=process.versions.node.split(".").map(Number); if (a<20||(a===20&&b<19)) {console.error("Node 20.19 or newer is needed"); process.exit(1)}'
	@echo "installing Node packages …"
	@npm ci --silent --no-progress
	@touch $@

setup-web: setup web/node_modules/.installed

web/node_modules/.installed: web/package.json web/package-lock.json web/.npmrc
	@echo "installing Node packages of the pages …"
	@cd web && npm ci --silent --no-progress
	@touch $@

# Built again only when something of it changed. Nothing of it comes from the network.
PAGES := $(shell find web/src convex -name '*.ts' -o -name '*.tsx' -o -name '*.css' 2>/dev/null | grep -v '\.test\.ts$$')
export NEXT_TELEMETRY_DISABLED := 1

pages: web/.next/BUILD_ID ## Build the pages

web/.next/BUILD_ID: $(PAGES) web/next.config.ts web/postcss.config.mjs web/node_modules/.installed node_modules/.installed
	@echo "building the pages …"
	@cd web && npm run --silent build >.next-build.log 2>&1 || (cat .next-build.log; exit 1)
	@touch $@

demo: setup $(if $(ONCE),,pages) ## Start the sandbox and the pages, import trades; ONCE=1 checks one sync and leaves
	@$(PY) -m sandbox.demo $(if $(ONCE),--once)

session: setup ## Play with the running demo's IBKR session: DO=expire, login, compete, release, drop
	@$(PY) -m sandbox.session $(DO)

test: setup test-convex test-web test-python ## Run all tests but those in a browser

test-convex: setup ## Tests of the Convex functions and the local Convex server
	@npm run --silent test

test-web: setup-web ## Tests of what the pages compute
	@cd web && npm run --silent test

e2e: setup-web pages ## Tests in a real browser: sandbox, worker, pages; pictures in web/e2e/shots
	@cd web && npm run --silent e2e

test-python: setup ## Tests of the worker and the whole
	@$(PY) -m pytest -n 3 --dist worksteal

bench: setup ## Measure the normaliser against its budget of time and memory
	@$(PY) bench/normalize_ibkr_live.py

lint: setup-web check-generated ## Formatting, lint, types and the arrows between modules
	@$(VENV)/bin/ruff format --check worker sandbox tests bench
	@$(VENV)/bin/ruff check worker sandbox tests bench
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo
	@npm run --silent lint
	@npm run --silent typecheck
	@cd web && npm run --silent lint && npm run --silent typecheck

check-generated: setup
	@npm run --silent codegen:check

format: setup ## Write the formatting that lint asks for
	@$(VENV)/bin/ruff format worker sandbox tests bench
	@$(VENV)/bin/ruff check --fix worker sandbox tests bench

codegen: setup ## Write convex/_generated anew
	@npm run --silent codegen

clean: ## Remove what was installed
	rm -rf $(VENV) node_modules web/node_modules web/.next
