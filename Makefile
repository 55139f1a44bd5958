# Everything sets itself up: a virtual environment in .venv, dependencies, face models and photos.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PHOTOS := $(VENV)/.photos

# Each daemon of each test would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check lint types protos imports bench fuzz faults constant-time portable arm models lowest clean

demo: $(PHOTOS)  ## the demonstration; JSON=path writes its figures as well
	$(BIN)/veilmatch demo $(if $(JSON),--json-file $(JSON))

test: check $(PHOTOS) arm  ## everything that CI runs
	$(BIN)/python -m pytest

check: lint types protos imports

bench: $(PHOTOS)  ## every benchmark, short: about a quarter of an hour; writes benchmarks/results/index.html
	$(BIN)/python benchmarks/run.py

fuzz: $(INSTALLED)  ## the decoders of everything that comes from outside, guided by coverage; SECONDS=60
	$(BIN)/python -m tests.fuzz.guided $(or $(SECONDS),60)

faults: $(INSTALLED)  ## every daemon killed in the middle of requests, many times; RUNS=50 of each
	$(BIN)/python -m tests.faults --runs $(or $(RUNS),50)

constant-time:  ## no branch or address of the kernel depends on a secret; needs valgrind
	tests/kernel/constant_time.sh

portable: $(INSTALLED)  ## the portable kernel on a 64-bit Arm, by qemu; installs what is missing with apt-get
	@tests/kernel/arm_tools.sh sudo
	$(BIN)/python -m pytest tests/kernel/test_portable_elsewhere.py

# A compiler for 64-bit Arm and qemu, where apt-get may install them: as root and in CI. Elsewhere their test is left out.
arm:
	@tests/kernel/arm_tools.sh

models: $(PHOTOS)

# Where each of the libraries is met: the wire, TLS, databases, configuration, commands, photos, evaluation.
LOWEST := .venv-lowest
LOWEST_TESTS := tests/client tests/capture tests/crypto/encryption tests/evaluation tests/installation tests/install \
	tests/matcher/gallery tests/transport tests/e2e/test_query.py tests/e2e/test_identify.py

lowest: setup.py pyproject.toml  ## the oldest versions that pyproject.toml allows, and the tests that meet them
	test -x $(LOWEST)/bin/uv || ($(PYTHON) -m venv $(LOWEST) && $(LOWEST)/bin/python -m pip install --quiet uv)
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --reinstall-package veilmatch \
		".[device,models,heic,server,ray,relying,eval,phe,test]"
	$(LOWEST)/bin/veilmatch models install --photos
	$(LOWEST)/bin/python -m pytest $(LOWEST_TESTS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	cd .editable && $(CURDIR)/$(BIN)/mypy --config-file ../pyproject.toml -p veilmatch

protos: $(INSTALLED)
	$(BIN)/python protos/generate.py --check

imports: $(INSTALLED)
	$(BIN)/lint-imports

KERNEL := $(wildcard crypto/kernel/*.[ch])

$(INSTALLED): pyproject.toml setup.py constraints.txt $(KERNEL)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Veilmatch needs Python 3.11 or newer: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24" -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable ".[dev]"
	touch $@

$(PHOTOS): $(INSTALLED)
	$(BIN)/veilmatch models install --photos
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) .editable .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
