# Everything runs in .venv, which each target makes if it is missing. PYTHON may name another interpreter.
PYTHON ?= python3
PYTHON_LOWEST ?= python3.10
BIN := .venv/bin

.PHONY: compare test test-clients test-gpu test-kernels test-slow test-lowest style readme cards docs dist

compare: .venv/.installed
	$(BIN)/python -m hf_radam compare

test: .venv/.installed
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# On a machine with a CUDA GPU, which the other tests do not see.
test-gpu: .venv/.installed
	TEST_GPU=1 $(BIN)/python -m pytest tests/core/test_devices.py

# TRL and Sentence Transformers, whose own dependencies are not needed here.
test-clients: .venv/.installed
	$(BIN)/pip install --quiet --no-deps 'trl==1.16.*' 'sentence-transformers==6.2.*'
	$(BIN)/python -m pytest -m clients

# The AdamWs of docs/low_bit.md, whose own dependencies are here already. Transformers imports two of them wherever they
# are installed, for a second.
test-kernels: .venv/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps \
		apollo-torch bitsandbytes galore-torch torch-optimi torchao
	$(BIN)/python -m pytest -m kernels

# Four processes, two-dimensional meshes, DeepSpeed (whose first run compiles for minutes).
test-slow: .venv/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt setuptools wheel ninja py-cpuinfo
	DS_BUILD_OPS=0 $(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation deepspeed
	DS_ACCELERATOR=$${DS_ACCELERATOR:-cpu} $(BIN)/python -m pytest -m 'slow and not kernels'

# The optimizer with the lower bounds of pyproject.toml, on the oldest Python, in an environment of its own. PyPI's build of
# that torch brings CUDA along (3 GB).
test-lowest: .venv-lowest/.installed
	.venv-lowest/bin/python -m pytest tests/core

style: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Tables, figures and cards of README.md, docs/ and model_cards/, from the committed records.
readme cards: .venv/.installed
	$(BIN)/python scripts/render_cards.py

# The site, in build/site. MathJax is fetched from npm once, so that a reader's browser asks nobody else.
docs: .venv/.installed docs/_static/mathjax
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -b html docs build/site

docs/_static/mathjax:
	mkdir -p build $@
	cd build && npm pack --silent mathjax@3.2.2
	tar -xzf build/mathjax-3.2.2.tgz -C $@ --strip-components 2 package/es5

# Wheel and sdist in dist/, checked: their metadata, and both commands from an environment of their own.
dist: .venv/.installed
	rm -rf dist build/check
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	test $$(stat --format %s dist/*.tar.gz) -lt 3000000
	$(PYTHON) -m venv build/check
	build/check/bin/pip install --quiet --constraint constraints.txt torch
	build/check/bin/pip install --quiet --constraint constraints.txt dist/*.whl
	build/check/bin/hf-radam --version
	build/check/bin/hf-radam optimizers

# torch first and pinned: a package that asks for just any torch would fetch several GB of CUDA libraries.
.venv/.installed: pyproject.toml constraints.txt
	# Debian keeps the part of venv that brings pip in a package of its own; the system's pip can do it too.
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv || \
		{ $(PYTHON) -m venv --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

.venv-lowest/.installed: pyproject.toml
	$(PYTHON_LOWEST) -m venv .venv-lowest
	sed -n 's/^ *"\([A-Za-z_-]*\)>=\([0-9.]*\)",$$/\1==\2/p' pyproject.toml > .venv-lowest/bounds.txt
	.venv-lowest/bin/pip install --quiet --constraint .venv-lowest/bounds.txt --editable . pytest pytest-xdist
	touch $@
