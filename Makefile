# Every target makes what it needs on a fresh machine: a virtual environment with pinned packages.
PYTHON ?= $(shell for p in python3.11 python3 python3.12; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
# The interpreter of a version, such as 3.12, where it is on this machine.
find_python = $(firstword $(foreach p,python$(1) $(wildcard $(HOME)/.pyenv/versions/$(1).*/bin/python$(1)),$(shell $(p) -c '' 2>/dev/null && echo $(p))))
PYTHON311 ?= $(call find_python,3.11)
PYTHON312 ?= $(call find_python,3.12)
PYTHON313 ?= $(call find_python,3.13)
OWN_VERSION := $(if $(PYTHON),$(shell $(PYTHON) -c 'import sys; print("%d%d" % sys.version_info[:2])'))
OTHER_PYTHONS := $(filter-out $(OWN_VERSION),$(foreach v,311 312 313,$(if $(PYTHON$(v)),$(v))))
VENV := .venv
BIN := $(VENV)/bin
PIP := -m pip install --quiet --disable-pip-version-check
HASHED := $(PIP) --require-hashes  # only the wheels whose hashes are written in requirements/
PYTEST_ARGS ?=
unexport PYTHONDONTWRITEBYTECODE  # the tests start hundreds of processes; each would compile the package again

.PHONY: demo screenshots test test-312 test-all check docs bench bench-pairs bench-paper bench-former bench-primis bench-proxy attacks disclosure fuzz network faults load wheel wheelhouse sbom audit lock clean

demo: $(VENV)/ready
	$(BIN)/ppir demo --output demo-output
	$(BIN)/python Testing/slicer/demo.py --output demo-output

# The pictures of README.md and Docs/tutorials/slicer.md.
screenshots: $(VENV)/ready
	$(BIN)/python Testing/slicer/screenshots.py --output Resources/Screenshots

# The short form of everything, each test once; what has a long form besides is marked `long`, what cannot run beside
# others `alone`. The Slicer tests bring a Qt application of their own, so they get processes of their own.
ENGINE_TESTS := Testing/system Testing/attacks Testing/unit
JOBS ?= 2
SIDE_BY_SIDE := -n $(JOBS) --dist loadfile
# There is a process for every core: more threads would only wait for each other, and they do so at full speed.
test test-312 test-all test-all-%: export OMP_NUM_THREADS := 1
LONG_FIRST := --no-loadscope-reorder  # as they are listed, so that no process is left alone with a long file at the end
COVERAGE := COVERAGE_FILE=$(CURDIR)/build/coverage/data
# Slicer's Python in a minute: what can be had without the mpc extra, of every layer something.
QUICK := Testing/unit/test_exports.py Testing/unit/images Testing/unit/points Testing/unit/network/test_messages.py \
	Testing/unit/secure/fhe/test_ring.py 'Testing/system/test_paths.py::test_simulate_starts_and_ends_all_parties[fhe]'
QUICK_SLICER := Testing/slicer/test_ppir_module.py::test_apply_registers

test: $(VENV)/ready $(if $(PYTHON312),test-312)
	rm -rf build/coverage && mkdir -p build/coverage
	$(COVERAGE) $(BIN)/python -m coverage run -m pytest $(SIDE_BY_SIDE) -m "not long" Testing/slicer $(PYTEST_ARGS)
	$(COVERAGE) $(BIN)/python -m coverage run -m pytest $(SIDE_BY_SIDE) $(LONG_FIRST) -m "not long and not alone" $(ENGINE_TESTS) $(PYTEST_ARGS)
	$(COVERAGE) $(BIN)/python -m coverage run -m pytest -m "alone and not long" $(ENGINE_TESTS) $(PYTEST_ARGS)
	@$(COVERAGE) $(BIN)/python -m coverage combine --quiet && $(COVERAGE) $(BIN)/python Testing/statements_not_run.py

test-312: .venv312/ready
	.venv312/bin/python -m pytest $(SIDE_BY_SIDE) $(QUICK) $(PYTEST_ARGS)
	.venv312/bin/python -m pytest $(QUICK_SLICER) $(PYTEST_ARGS)

# What `make test` leaves out: the long forms, and the units and commands under the other Pythons that are here; under
# 3.12, which is Slicer's, the module as well. All of it under one: make test-all-312 OTHER_TESTS="$(ENGINE_TESTS)".
OTHER_TESTS ?= $(addprefix Testing/system/test_,commands.py paths.py plugins.py former_home.py) Testing/unit
test-all: $(VENV)/ready $(foreach v,$(OTHER_PYTHONS),test-all-$(v))
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m long Testing/slicer $(PYTEST_ARGS)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(LONG_FIRST) -m "long and not alone" $(ENGINE_TESTS) $(PYTEST_ARGS)
	$(BIN)/python -m pytest -m "long and alone" $(ENGINE_TESTS) $(PYTEST_ARGS) || test $$? -eq 5  # 5: there are none

test-all-%: .venv%/ready
	$(if $(filter 312,$*),.venv$*/bin/python -m pytest $(SIDE_BY_SIDE) Testing/slicer $(PYTEST_ARGS))
	.venv$*/bin/python -m pytest $(SIDE_BY_SIDE) $(LONG_FIRST) -m "not long and not alone" $(OTHER_TESTS) $(PYTEST_ARGS)

check: $(VENV)/ready
	$(BIN)/ruff format --check PPIRLogic PPIRExtension Testing Benchmarks examples requirements Docs
	$(BIN)/ruff check PPIRLogic PPIRExtension Testing Benchmarks examples requirements Docs
	$(BIN)/mypy

# The site in build/docs, from Docs/ and the docstrings. Warnings are errors; nothing is downloaded but the packages.
docs: .venv-docs/ready
	.venv-docs/bin/python Docs/make_reference.py
	.venv-docs/bin/python -m sphinx -W --keep-going -q -b html Docs build/docs
	@echo "open build/docs/index.html"

bench: $(VENV)/ready .venv-bench/ready
	$(BIN)/python -m Benchmarks.run --peer-python .venv-bench/bin/python --write-docs

PAIRS_ARGS ?= --write-docs
bench-pairs: $(VENV)/ready .venv-bench/ready
	$(BIN)/python -m Benchmarks.any_pair --peer-python .venv-bench/bin/python $(PAIRS_ARGS)

# What the checks of fhe cost: beside its former forms, whose sources are in the history.
bench-former: $(VENV)/ready
	$(BIN)/python -m Benchmarks.former --write-docs

bench-paper: $(VENV)/ready
	$(BIN)/python -m Benchmarks.paper --write-docs

# Sealed images; DATA: the folder that holds nih_cxr. About half an hour on one core.
DATA ?= data
bench-primis: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m Benchmarks.primis --data $(DATA) --write-docs

# Deformation proxy: Dice, attacks, seconds; to Docs/results/proxy.md. DATA names the folder of synthseg20, ixi7 and
# ljubljana_ms.
bench-proxy: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m Benchmarks.proxy --data $(DATA) --write-docs

# Every attack on the unprotected variant and on ours; the table goes to Docs/results/attacks.md.
attacks: $(VENV)/ready
	$(BIN)/python -m pytest Testing/attacks --attacks-table Docs/results/attacks.md $(PYTEST_ARGS)

# What party 1 can reconstruct from the numbers it is entitled to; goes to Docs/results/disclosure.md.
disclosure: $(VENV)/ready
	$(BIN)/python -m Benchmarks.disclosure --write-docs

# What the short forms among the tests stand for, at length; each writes its table into Docs/results/robustness.md.
fuzz: $(VENV)/ready
	$(BIN)/python Testing/system/fuzz.py --write-docs

network: $(VENV)/ready
	$(BIN)/python Testing/system/network.py --write-docs

faults: $(VENV)/ready
	$(BIN)/python Testing/system/kills.py --kills 200 --write-docs

MINUTES ?= 30
load: $(VENV)/ready
	$(BIN)/python Testing/system/load.py --minutes $(MINUTES) --write-docs

# dist/: the wheel and the archive of sources it is built from.
wheel: $(VENV)/ready
	$(BIN)/python -m build --no-isolation

# dist/wheelhouse/: the packages that the module installs into Slicer, one folder for each version and system, for
# computers without a network; WHEELS: options, such as --slicer 5.12 --system "Windows amd64".
WHEELS ?=
wheelhouse: $(VENV)/ready
	$(BIN)/python requirements/wheelhouse.py $(WHEELS)

# dist/sbom.json: what a release needs, with versions and hashes, as CycloneDX.
SBOM ?= dist/sbom.json
sbom: .venv-supply/ready
	mkdir -p $(dir $(SBOM))
	cat $(addprefix requirements/,base.txt mpc.txt mpc-cuda.txt crypten.txt primis.txt dicom.txt) | \
		.venv-supply/bin/python -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible \
			--of JSON -o $(SBOM) -

# Known weaknesses of what a release needs; exit code 1 if there are any, 2 if no database can be had.
audit: .venv-supply/ready
	.venv-supply/bin/python requirements/audit.py

# Writes requirements/*.txt anew from requirements/*.in; MOVE: packages that go to their newest versions, or --all.
lock: .venv-lock/ready
	.venv-lock/bin/python requirements/lock.py $(MOVE)

$(VENV)/ready: $(addprefix requirements/,$(addsuffix .txt,base dev primis dicom mpc-cpu mpc mpc-cuda crypten train)) pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.13 is needed and was not found; give it with make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(HASHED) -r requirements/base.txt -r requirements/dev.txt -r requirements/primis.txt -r requirements/dicom.txt
	@$(BIN)/python $(HASHED) --no-deps -r requirements/mpc-cpu.txt 2>/dev/null || true  # gigabytes less, where pip has it
	$(BIN)/python $(HASHED) --no-deps -r requirements/mpc.txt -r requirements/crypten.txt
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python $(HASHED) --no-deps -r requirements/mpc-cuda.txt
	$(BIN)/python $(HASHED) --no-deps -r requirements/train.txt
	$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# Another Python, without the extras mpc and train: .venv311, .venv312, .venv313.
.PRECIOUS: .venv3%/ready
.venv3%/ready: $(addprefix requirements/,base.txt dev.txt primis.txt dicom.txt) pyproject.toml
	$(PYTHON3$*) -m venv .venv3$*
	.venv3$*/bin/python $(HASHED) -r requirements/base.txt -r requirements/dev.txt -r requirements/primis.txt -r requirements/dicom.txt
	.venv3$*/bin/python $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv-docs/ready: requirements/base.txt requirements/docs.txt pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python $(HASHED) -r requirements/base.txt -r requirements/docs.txt
	.venv-docs/bin/python $(PIP) --no-deps --editable .
	@touch $@

# The programs we compare with have requirements of their own.
.venv-bench/ready: requirements/bench.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python $(HASHED) -r requirements/bench.txt
	@touch $@

.venv-supply/ready: requirements/supply.txt
	$(PYTHON) -m venv .venv-supply
	.venv-supply/bin/python $(HASHED) -r requirements/supply.txt
	@touch $@

.venv-lock/ready: requirements/lock.txt
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python $(HASHED) -r requirements/lock.txt
	@touch $@

clean:
	rm -rf .venv .venv311 .venv312 .venv313 .venv-bench .venv-docs .venv-lock .venv-supply demo-output bench-output build dist *.egg-info
