# The workflow itself is Snakemake's (Snakefile, rules/); this file sets up the environment and names the usual runs.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := study
.NOTPARALLEL:

# Snakemake cannot start jobs by a Python whose path has spaces.
ifneq ($(words $(CURDIR)),1)
$(error the path of this folder has spaces: $(CURDIR); move it to one without)
endif

# Passed to every run of the workflow: make SNAKEMAKE_ARGS="--workflow-profile profiles/gpu"
SNAKEMAKE_ARGS ?=

BIN := .venv/bin
STAMP := .venv/.stamp
SNAKEMAKE := $(BIN)/snakemake
# One run at a time: the workflow's own lock, taken before Snakemake starts. It goes with a killed process. The logger says
# in a few calm lines what plain `snakemake` says in many; a flag follows its name, since Snakemake would take a target for
# another.
RUN := $(BIN)/python -m knowcirc.runlock .snakemake/run.lock $(SNAKEMAKE) --logger knowcirc --nolock
MODEL := smollm2-135m
TEST_CONFIG := --configfile config/test.yaml
FULL_CONFIG := --configfile config/full.yaml

# Passed to the benchmark: make bench BENCH_ARGS="--quick"
BENCH_ARGS ?=
PEERS := .peers/.stamp
BROWSER := .browser/.stamp
MUTATION := .mutation/.stamp
DOCS := .venv-docs/.stamp
NOTEBOOKS := .notebooks/.stamp
# A process for each core, few enough for the memory of a laptop.
PYTEST := $(BIN)/pytest --numprocesses auto --maxprocesses 4

# The interpreters to try for a new .venv are looked for outside it.
OUTER_PATH := $(subst $(CURDIR)/$(BIN):,,$(PATH))
PYTHONS := $(or $(PYTHON),python3.11 python3)
# Jobs call `python`: the one of .venv.
export PATH := $(CURDIR)/$(BIN):$(OUTER_PATH)

.PHONY: study
study: $(STAMP) ## the whole study: results/report.html (the default)
	$(RUN) $(SNAKEMAKE_ARGS)

.PHONY: full
full: $(STAMP) ## the study of every relation: results-full/report.html
	$(RUN) $(SNAKEMAKE_ARGS) $(FULL_CONFIG)

.PHONY: quick
quick: $(STAMP) ## the small study: results-test/report.html
	$(RUN) $(SNAKEMAKE_ARGS) $(TEST_CONFIG)

.PHONY: test
test: lint unit quick workflow check ## all checks, then the small study and the check of its results

.PHONY: lint
lint: $(STAMP) ## format, style, types, workflow style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(SNAKEMAKE) --lint

# The parity tests read the small study's model.
UNIT := --doctest-modules workflow_scripts/knowcirc tests/unit tests/inputs tests/parity
.PHONY: unit
unit: $(STAMP) ## unit and parity tests, and the examples in docstrings
	$(RUN) results-test/models/$(MODEL)/provenance.json $(SNAKEMAKE_ARGS) $(TEST_CONFIG)
	$(PYTEST) --dist worksteal $(UNIT)

# Counting lines doubles the time, so two cases of each test are run: all of them run no fewer lines. Which lines they do not:
# `.venv/bin/coverage report --skip-covered --show-missing`.
COVERED := 92
.PHONY: coverage
coverage: $(STAMP) ## two cases of each of these tests, which must run 92 % of the library's lines
	$(RUN) results-test/models/$(MODEL)/provenance.json $(SNAKEMAKE_ARGS) $(TEST_CONFIG)
	$(PYTEST) --dist worksteal --cases 2 --cov --cov-report=term:skip-covered --cov-fail-under=$(COVERED) $(UNIT)

.PHONY: workflow
workflow: $(STAMP) ## tests of the workflow: schema errors, dry runs, reruns, a few faults
	$(PYTEST) --dist loadfile tests/workflow tests/faults

# 200 kills take an hour or more; without --kills, as in `test`, a few are made.
FAULT_ARGS ?= --kills 200 --all-faults
.PHONY: test-faults
test-faults: $(STAMP) ## a small part of the study killed again and again, damaged files, full disks
	$(BIN)/pytest tests/faults $(FAULT_ARGS)

# Hours: small faults put into the engine one by one, on which its tests must fail; MUTATION_ARGS="--sites 5 --only graph".
MUTATION_ARGS ?=
.PHONY: test-mutation
test-mutation: $(MUTATION) ## small faults put into the engine: do its tests see them? tests/mutation/found.json
	PYTHONPATH=.mutation $(BIN)/python tests/mutation/mutate.py $(MUTATION_ARGS)

$(MUTATION): tests/mutation/requirements.txt $(STAMP)
	rm -rf .mutation
	$(BIN)/python -m pip install --no-deps --target .mutation --requirement tests/mutation/requirements.txt
	touch $@

# Needs root and Debian's slurmctld, slurmd and slurm-client; apart from `test`, whose machines may lack both.
.PHONY: test-slurm
test-slurm: $(STAMP) ## a part of the small study on a throw-away Slurm cluster of this machine
	$(BIN)/pytest tests/slurm

# Needs Debian's chromium and chromium-driver; apart from `test`, whose machines may lack them.
.PHONY: test-browser
test-browser: $(BROWSER) ## the circuit explorer in headless Chromium, with its times
	PYTHONPATH=.browser $(BIN)/pytest -s tests/browser

$(BROWSER): tests/browser/requirements.txt $(STAMP)
	rm -rf .browser
	$(BIN)/python -m pip install --no-deps --target .browser --requirement tests/browser/requirements.txt
	touch $@

.PHONY: check
check: $(STAMP) ## check the small study's results
	$(BIN)/knowcirc check results-test

# Apart from `test`: on another kind of processor rounding may move more than the tolerances allow.
.PHONY: check-drift
check-drift: $(STAMP) ## compare the small study's tables with results/reference-test/
	$(BIN)/knowcirc check results-test --against results/reference-test

# Ratios measured side by side, no limits; it reads the small study's model, and other libraries where `peers` put them.
.PHONY: bench
bench: $(STAMP) ## time the circuit search and causal tracing side by side with others: docs/benchmarks.md
	$(RUN) results-test/models/$(MODEL)/provenance.json $(SNAKEMAKE_ARGS) $(TEST_CONFIG)
	$(BIN)/python tests/benchmarks/bench_circuits.py results-test/models/$(MODEL) --page docs/benchmarks.md $(BENCH_ARGS)

.PHONY: peers
peers: $(PEERS) ## the other libraries that bench can measure, apart from .venv: .peers

$(PEERS): tests/benchmarks/peers.txt $(STAMP)
	rm -rf .peers
	$(BIN)/python -m pip install --no-deps --target .peers --requirement tests/benchmarks/peers.txt
	touch $@

# Strictly: a broken link fails. A venv of its own, so that neither torch nor the workflow is needed.
.PHONY: docs
docs: $(DOCS) ## the documentation site: site/index.html
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

.PHONY: docs-serve
docs-serve: $(DOCS) ## the same on http://127.0.0.1:8000, made anew whenever a page changes
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs serve

$(DOCS): docs/requirements.txt
	@$(FIND_PYTHON)
	PATH="$(OUTER_PATH)" $$python -m venv --clear .venv-docs
	.venv-docs/bin/python -m pip install --requirement docs/requirements.txt
	touch $@

# Minutes: the commands of the tutorial are run on the default model, and their outputs kept in the notebook.
.PHONY: notebooks
notebooks: $(NOTEBOOKS) ## run the notebooks of the documentation anew
	$(RUN) results/models/$(MODEL)/provenance.json $(SNAKEMAKE_ARGS)
	PYTHONPATH=.notebooks $(BIN)/python docs/builder/execute.py docs/*.ipynb

$(NOTEBOOKS): docs/notebooks.txt $(STAMP)
	rm -rf .notebooks
	$(BIN)/python -m pip install --no-deps --target .notebooks --requirement docs/notebooks.txt
	touch $@

.PHONY: format
format: $(STAMP) ## format the code and the rules
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile rules

.PHONY: plan
plan: $(STAMP) ## what the study will take: make plan PLAN_ARGS="--configfile config/full.yaml --cores 2 8"
	$(BIN)/python -m knowcirc.plan $(PLAN_ARGS)

# The papers' models with few layers and drawn weights, in a copy of the project; neither weights nor the network are needed.
.PHONY: stand-ins
stand-ins: $(STAMP) ## the papers' study with few of everything on stand-ins of their models: .stand-ins/results/report.html
	$(BIN)/python tests/stand_ins/project.py .stand-ins
	cd .stand-ins
	PYTHONPATH=$$PWD/workflow_scripts snakemake --configfile config/{lre,paper,stand-ins}.yaml $(SNAKEMAKE_ARGS)

.PHONY: reference
reference: study ## copy that study's tables and figures into results/reference/, and write RESULTS.md of them
	@cd results
	rm -rf reference/{$(MODEL),all}
	for folder in {$(MODEL),all}/{tables,figures}; do
	    [[ -d $$folder ]] || continue
	    mkdir -p reference/$$folder
	    find $$folder -maxdepth 1 \( -path '*/tables/*.csv' -o -path '*/figures/*.png' \) -exec cp {} reference/$$folder/ \;
	done
	cp checks.json manifest.json reference/
	cp $(MODEL)/findings.json reference/$(MODEL)/
	cd ..
	$(BIN)/python -m knowcirc.report results/reference > RESULTS.md

.PHONY: reference-test
reference-test: quick ## copy the small study's tables into results/reference-test/, which `check` compares with
	rm -rf results/reference-test
	mkdir -p results/reference-test/$(MODEL)/tables
	cp results-test/$(MODEL)/tables/*.csv results/reference-test/$(MODEL)/tables/
	cp results-test/manifest.json results/reference-test/

.PHONY: clean
clean: ## remove all results (downloaded models too); results/reference and results/reference-test stay
	rm -rf results-*
	find results -mindepth 1 -maxdepth 1 ! -name reference ! -name reference-test -exec rm -rf {} +

.PHONY: setup
setup: $(STAMP) ## only the environment: .venv with requirements.txt

# The first interpreter that is new enough, as $python.
define FIND_PYTHON
for python in $(PYTHONS); do
    if PATH="$(OUTER_PATH)" $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then break; fi
    python=
done
if [[ -z $$python ]]; then echo "No Python 3.11 or newer among: $(PYTHONS). Name one: make PYTHON=..." >&2; exit 1; fi
endef

# The stamp comes last, so a .venv without it is half-made and is made anew.
$(STAMP): requirements.txt requirements.lock pyproject.toml
	@if [[ ! -e $@ ]]; then
	    echo "Setting up .venv: minutes, most of them for torch ..."
	    $(FIND_PYTHON)
	    PATH="$(OUTER_PATH)" $$python -m venv --clear .venv
	fi
	rm -f $@
	$(BIN)/python -m pip install --no-deps --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --constraint requirements.txt $$(grep '^torch==' requirements.txt)
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	touch $@

# torch stands apart, since its builds lie on several indexes.
.PHONY: lock
lock: ## write requirements.lock anew: the pins of requirements.txt with the sha256 of their files
	@$(FIND_PYTHON)
	PATH="$(OUTER_PATH)" $$python -m venv --clear .venv-lock
	.venv-lock/bin/pip install uv
	grep -v '^torch==' requirements.txt > .venv-lock/requirements.in
	.venv-lock/bin/uv pip compile --no-deps --generate-hashes --no-header --no-annotate --python-version 3.11 \
	    --quiet --output-file .venv-lock/requirements.lock .venv-lock/requirements.in
	{ sed -n '/^#/p' requirements.lock; cat .venv-lock/requirements.lock; } > .venv-lock/whole
	mv .venv-lock/whole requirements.lock
	rm -r .venv-lock

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
