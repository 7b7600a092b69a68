# Tasks for people and CI. Every target works in a fresh clone on Debian 12 or Ubuntu 24.04, as root or with sudo, and
# asks no questions.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

# Creates .venv; 3.11 or newer.
PYTHON ?= python3
export PYTHON
export PATH := $(PATH):/usr/sbin:/sbin
unexport PYTHONPATH PYTHONDONTWRITEBYTECODE

PYTHON_SOURCES := $(sort $(patsubst %/__init__.py,%,$(wildcard */__init__.py)) $(wildcard *.py tests benchmarks setup))
# Scripts of tests/cases are users' own, faults included.
SHELL_SOURCES = $(shell git ls-files -co --exclude-standard '*.sh' setup .ci/run ':!*.py' ':!tests/cases/*/ctx/*')
BENCHMARKS ?= $(basename $(notdir $(shell grep -l '^if __name__' benchmarks/*.py)))
# Google's emulators and programs, and Terraform, are in no distribution, Ubuntu has no package of Chromium, and not every
# one has zsh and fish. CI has them; elsewhere `make test` leaves out the tests that need them, and says so.
WITHOUT_SDK = $(shell command -v gcloud >/dev/null || [ -n "$$CLOUDSDK_ROOT$$CI" ] || echo yes)
WITHOUT_TERRAFORM = $(shell command -v terraform >/dev/null || [ -n "$$CI" ] || echo yes)
WITHOUT_CHROMIUM = $(shell command -v chromium >/dev/null || [ -n "$$CI" ] || echo yes)
WITHOUT_SHELLS = $(shell { command -v zsh && command -v fish; } >/dev/null || [ -n "$$CI" ] || echo yes)
TESTS_OF_SHELLS = tests/goldsmith/completion/test_zsh_and_fish.py
LEFT_OUT = $(strip $(if $(WITHOUT_SDK),tests/cloud tests/emulator tests/shared/gcp) $(if $(WITHOUT_TERRAFORM),tests/terraform) $(if $(WITHOUT_CHROMIUM),tests/browser) $(if $(WITHOUT_SHELLS),$(TESTS_OF_SHELLS)))
# Folders whose tests need what `make quick` goes without, or are run by `make check`.
NOT_QUICK = browser cloud docs emulator project shared/gcp terraform
CLOUD_HOME ?= build/cloud
SEEDS ?= 20000
# One worker more than cores: tests that boot a machine also wait for it.
TEST_WORKERS ?= $(shell echo $$(($$(nproc) + 1)))
# Tests kill processes, and what those have written stays without a sync. To wait for the disk is a third of their time.
UNSYNCED = $(shell command -v eatmydata)

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: packages .venv/.ready ## install missing apt packages, .venv and .venv/bin/goldsmith; as root, make the tests' ordinary user
	@setup/original-elements.sh

.PHONY: packages
packages:
	@setup/apt-packages.sh base development $(if $(WITHOUT_SDK),,cloud)
	@setup/test-user.sh

.venv/.ready: requirements-dev.txt | packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "setup: Goldsmith needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V)." \
			"Name another one: make setup PYTHON=python3.12" >&2; exit 1; }
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "setup: installing the pinned Python packages into .venv" >&2
	@.venv/bin/python -m pip install --quiet --no-input --disable-pip-version-check --require-hashes \
		-r requirements-dev.txt
	@ln -sfn ../../setup/goldsmith .venv/bin/goldsmith
	@touch $@

.PHONY: lock
lock: ## write requirements*.txt from requirements*.in, with hashes; LOCK="--upgrade-package NAME" upgrades one
	@setup/lock.sh $(LOCK)

.PHONY: check
check: setup ## run linters, type checks and the project's own rules; seconds
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict $(PYTHON_SOURCES)
	shellcheck $(SHELL_SOURCES)
	.venv/bin/python -m pytest -q tests/project tests/docs

.PHONY: test
test: setup ## run all tests, virtual machines included; minutes
	@GOLDSMITH_HOME=build/test-home .venv/bin/goldsmith images bootstrap debian-12
	@$(if $(LEFT_OUT),echo "test: leaving out $(LEFT_OUT): the gcloud SDK or Terraform or Chromium or zsh or fish is not here" >&2)
	@.venv/bin/python -m tests.provisioner.pythons
	timeout --foreground --signal INT --kill-after 1m 70m \
		$(UNSYNCED) .venv/bin/python -m pytest -q -n $(TEST_WORKERS) --dist worksteal --durations 10 \
		$(LEFT_OUT:%=--ignore=%)

.PHONY: quick
quick: setup ## run the tests that need no virtual machine, emulator or Terraform, and take no seconds each; some four minutes on two cores
	$(UNSYNCED) .venv/bin/python -m pytest -q -n $(TEST_WORKERS) --dist worksteal -m "not vm and not slow and not soak" \
		$(addprefix --ignore=tests/,$(NOT_QUICK))

.PHONY: soak
soak: setup ## run the longest tests, SEEDS simulated seeds (20,000 by default), thousands of examples, large hostile inputs, all Pythons and cases, killed sandboxes and VMs; hours
	.venv/bin/python -m tests.simulation.soak $(SEEDS)
	GOLDSMITH_LIVES=2000 .venv/bin/python -m pytest -q tests/simulation/test_lives.py
	.venv/bin/python -m tests.hostile.soak
	@GOLDSMITH_HOME=build/test-home .venv/bin/goldsmith images bootstrap debian-12
	GOLDSMITH_ALL_CASES=1 .venv/bin/python -m pytest -q tests/cases
	.venv/bin/python -m pytest -q -m soak
	GOLDSMITH_EXAMPLES=1000 .venv/bin/python -m pytest -q -m "hypothesis and not soak"
	GOLDSMITH_KILLS=100 .venv/bin/python -m pytest -q tests/system/test_sandbox.py tests/system/test_elements.py \
		tests/system/test_source_elements.py -m "soak or not soak" -k "kill or hostile"
	GOLDSMITH_KILLS=30 .venv/bin/python -m pytest -q tests/system/test_step_cache.py -k kill

.PHONY: test-cloud
test-cloud: setup ## run builds by gsutil, gcloud and Pub/Sub on the emulator; minutes
	@GOLDSMITH_HOME=build/test-home .venv/bin/goldsmith images bootstrap debian-12
	.venv/bin/python -m pytest -q tests/cloud --durations 10

.PHONY: cloud
cloud: setup ## run Google Cloud on this machine, until Ctrl-C
	@GOLDSMITH_HOME=$(CLOUD_HOME) .venv/bin/goldsmith images list --family debian-12 --json | grep -q '"name"' \
		|| GOLDSMITH_HOME=$(CLOUD_HOME) .venv/bin/goldsmith images bootstrap debian-12 >&2
	@exec setpriv --pdeathsig TERM .venv/bin/python -m emulator --home $(CLOUD_HOME)

.PHONY: bench
bench: setup ## measure against other tools, as in docs/performance.md
	@setup/apt-packages.sh base peers
	@for name in $(BENCHMARKS); do .venv/bin/python -m benchmarks.$$name; done

.PHONY: bundle
bundle: setup ## write the provisioner as one file, build/provisioner.pyz
	@mkdir -p build
	@.venv/bin/python -m shared.delivery.bundle build/provisioner.pyz
	@sha256sum build/provisioner.pyz

.PHONY: dist
dist: setup ## write a wheel and a source archive, build/dist/, which pip and pipx install
	@rm -rf build/dist
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) .venv/bin/python -m build --no-isolation --outdir build/dist . >/dev/null
	@sha256sum build/dist/*

.PHONY: demo
demo: setup ## build examples/hello into out/
	@.venv/bin/goldsmith images list --family debian-12 --json | grep -q '"name"' \
		|| .venv/bin/goldsmith images bootstrap debian-12
	@.venv/bin/goldsmith build examples/hello/build.yaml --output out
	@echo "The image is $$(ls -t out/*.tar.gz | head -n 1); its manifest is beside it."

.PHONY: picture
picture: setup ## take the README's picture of the dashboard anew
	@.venv/bin/python -m tests.browser.readme_picture
	@ls -l docs/images/dashboard.png

.PHONY: clean
clean: ## remove build/ and caches; keep images, out/ and .venv
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -exec rm -rf {} +
