# Everything sets itself up: a virtual environment in .venv, dependencies, face models and photos.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PHOTOS := $(VENV)/.photos

# Each daemon of each test would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test collected tools costs check lint types protos imports docs bench fuzz faults constant-time portable arm postgres systemd chromium promtool sbom reproducible images models lowest clean

demo: $(PHOTOS)  ## the demonstration; JSON=path writes its figures as well, DEMO_DEALERLESS=1 has three hold the ceremony
	$(BIN)/veilmatch demo $(if $(JSON),--json-file $(JSON)) $(if $(filter 1,$(DEMO_DEALERLESS)),--dealerless)

# Of a file with a test that failed there may be a second try, alone: see tests/again.py.
test: $(INSTALLED)  ## everything that CI runs
	$(MAKE) --no-print-directory -j 2 check collected tools
	rm -f .pytest_cache/v/cache/lastfailed
	$(BIN)/python -m pytest || { [ $$? = 1 ] && $(BIN)/python -m tests.again; }

# Each process of tests would compile all of them, and all that they import, at the same time.
collected: $(INSTALLED)
	$(BIN)/python -m pytest --collect-only -q -n 0 > /dev/null

# What tests have beside packages, one after the other: apt-get does one thing at a time.
tools: $(INSTALLED)
	@$(MAKE) --no-print-directory -j 1 $(PHOTOS) arm postgres systemd chromium promtool

costs: $(PHOTOS)  ## what tests cost in CPU time, dearest first; TESTS=tests/keyholder
	rm -f $(VENV)/costs.jsonl
	$(BIN)/python -m pytest -p tests.costs --costs $(VENV)/costs.jsonl $(TESTS)
	$(BIN)/python -m tests.costs $(VENV)/costs.jsonl

check: lint types protos imports

bench: $(PHOTOS)  ## the benchmarks, short: a quarter to half an hour; writes benchmarks/results/index.html
	$(BIN)/python -m benchmarks.run

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

# A server for the tests of galleries in PostgreSQL, in the same way.
postgres:
	@tests/storage/postgres_tools.sh

# What looks at the units of deploy/systemd, in the same way.
systemd:
	@tests/deploy/systemd_tools.sh

# A browser for the tests of the page, in the same way.
chromium:
	@tests/client/web/chromium_tools.sh

# What looks at the alarms: one program out of a package that is not installed, wherever there is apt-get.
promtool: $(INSTALLED)
	@tests/monitoring/promtool_tools.sh $(BIN)

# What a server has: its packages in an environment of their own, which another one looks at.
SBOM := .venv-sbom
SERVER_SBOM := dist/veilmatch-server.cdx.json

sbom: $(INSTALLED)  ## what a server consists of, in CycloneDX: dist/veilmatch-server.cdx.json
	test -x $(SBOM)/tool/bin/cyclonedx-py || ($(PYTHON) -m venv $(SBOM)/tool && \
		$(SBOM)/tool/bin/python -m pip install --quiet -c constraints.txt cyclonedx-bom)
	$(PYTHON) -m venv --clear --without-pip $(SBOM)/server
	$(BIN)/python -m pip --python $(SBOM)/server/bin/python install --quiet -c constraints.txt ".[server]"
	mkdir -p dist
	$(SBOM)/tool/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
		--spec-version 1.6 --output-file $(SERVER_SBOM) $(SBOM)/server/bin/python
	$(BIN)/python -m tests.deploy.sbom $(SERVER_SBOM)

reproducible: $(INSTALLED)  ## wheel and source distribution, built twice: the same bytes, in dist/
	deploy/reproducible.sh $(BIN)/python

images: $(INSTALLED)  ## the image, built and run as compose file and pods: size, start, rights; docs/deploying.md
	deploy/containers/build.sh
	$(BIN)/python benchmarks/images.py

models: $(PHOTOS)

# Where each of the libraries is met: the wire, TLS, databases, configuration, commands, photos, evaluation.
LOWEST := .venv-lowest
LOWEST_TESTS := tests/client tests/capture tests/crypto/encryption tests/evaluation tests/installation tests/install \
	tests/matcher/gallery tests/storage tests/transport tests/e2e/test_query.py tests/e2e/test_identify.py

lowest: setup.py pyproject.toml postgres  ## the oldest versions that pyproject.toml allows, and the tests that meet them
	test -x $(LOWEST)/bin/uv || ($(PYTHON) -m venv $(LOWEST) && $(LOWEST)/bin/python -m pip install --quiet uv)
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --reinstall-package veilmatch \
		".[device,models,mesh,heic,parquet,cards,web,server,telemetry,postgres,ray,relying,eval,phe,test]"
	$(LOWEST)/bin/veilmatch models install --photos
	$(LOWEST)/bin/python -m pytest $(LOWEST_TESTS)

docs: $(INSTALLED)  ## the documentation as a site, links and headings checked: site/index.html
	$(BIN)/python docs/making/errors_page.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

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
	rm -rf $(VENV) $(LOWEST) $(SBOM) .editable .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build site *.egg-info
