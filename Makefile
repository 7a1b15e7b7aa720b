# Every target makes what it needs on a fresh machine: a virtual environment with pinned packages.
PYTHON ?= $(shell for p in python3.11 python3 python3.12; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
PYTHON312 ?= $(firstword $(foreach p,python3.12 $(wildcard $(HOME)/.pyenv/versions/3.12*/bin/python3.12),$(shell $(p) -c '' 2>/dev/null && echo $(p))))
VENV := .venv
BIN := $(VENV)/bin
PIP := -m pip install --quiet --disable-pip-version-check
HASHED := $(PIP) --require-hashes  # only the wheels whose hashes are written in requirements/
PYTEST_ARGS ?=
unexport PYTHONDONTWRITEBYTECODE  # the tests start hundreds of processes; each would compile the package again

.PHONY: demo screenshots test test-312 check docs bench bench-paper attacks disclosure fuzz network faults load wheel lock clean

demo: $(VENV)/ready
	$(BIN)/ppir demo --output demo-output
	$(BIN)/python Testing/slicer/demo.py --output demo-output

# The pictures of README.md and Docs/tutorials/slicer.md.
screenshots: $(VENV)/ready
	$(BIN)/python Testing/slicer/screenshots.py --output Resources/Screenshots

# The Slicer tests bring a Qt application of their own, so they get a process of their own.
ENGINE_TESTS := Testing/unit Testing/attacks Testing/system
SLICER_312 := $(addprefix Testing/slicer/test_,host.py conversion.py ppir_points.py ppir_results.py ppir_module.py)
COMMANDS_312 := $(addprefix Testing/system/test_,commands.py paths.py)

test: $(VENV)/ready $(if $(PYTHON312),test-312)
	$(BIN)/python -m coverage run --source PPIRExtension -m pytest Testing/slicer $(PYTEST_ARGS)
	@echo "Statements of the module that these tests did not run:" && $(BIN)/python -m coverage report
	$(BIN)/python -m pytest $(ENGINE_TESTS) $(PYTEST_ARGS)

# Slicer's Python is 3.12: the module, the units and the commands run there, too, without the mpc extra. Everything:
# make test-312 SLICER_312=Testing/slicer COMMANDS_312="Testing/attacks Testing/system"
test-312: .venv312/ready
	.venv312/bin/python -m pytest $(SLICER_312) $(PYTEST_ARGS)
	.venv312/bin/python -m pytest Testing/unit $(COMMANDS_312) $(PYTEST_ARGS)

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

bench-paper: $(VENV)/ready
	$(BIN)/python -m Benchmarks.paper --write-docs

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

# Writes requirements/*.txt anew from requirements/*.in; MOVE: packages that go to their newest versions, or --all.
lock: .venv-lock/ready
	.venv-lock/bin/python requirements/lock.py $(MOVE)

$(VENV)/ready: requirements/base.txt requirements/mpc.txt requirements/crypten.txt requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.13 is needed and was not found; give it with make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(HASHED) -r requirements/base.txt -r requirements/dev.txt
	$(BIN)/python $(PIP) -r requirements/mpc.txt
	$(BIN)/python $(PIP) --no-deps -r requirements/crypten.txt
	$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv312/ready: requirements/base.txt requirements/dev.txt pyproject.toml
	$(PYTHON312) -m venv .venv312
	.venv312/bin/python $(HASHED) -r requirements/base.txt -r requirements/dev.txt
	.venv312/bin/python $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv-docs/ready: requirements/base.txt requirements/docs.txt pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python $(PIP) -r requirements/base.txt
	.venv-docs/bin/python $(PIP) -r requirements/docs.txt
	.venv-docs/bin/python $(PIP) --no-deps --editable .
	@touch $@

# The programs we compare with have requirements of their own.
.venv-bench/ready: requirements/bench.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python $(HASHED) -r requirements/bench.txt
	@touch $@

.venv-lock/ready: requirements/lock.txt
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python $(HASHED) -r requirements/lock.txt
	@touch $@

clean:
	rm -rf .venv .venv312 .venv-bench .venv-docs .venv-lock demo-output bench-output build dist *.egg-info
