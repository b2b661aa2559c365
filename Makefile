# Every target sets itself up: a virtual environment in .venv, with the tested
# versions of constraints.txt, by the newest Python found of those that were
# tested. Another Python: `make demo PYTHON=python3.11`.
PYTHON ?= $(firstword $(foreach p,python3.14 python3.13 python3.12 \
	python3.11 python3,$(shell $(p) -c 'import sys; print(sys.executable)' 2>/dev/null)))
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
READY := $(VENV)/.ready

.PHONY: demo test test-all bench study docs notebooks matrix lint format clean

demo: $(READY)
	$(BIN)/python tools/demo/demo.py $(if $(VIDEOS),--videos '$(VIDEOS)')

# One process for each core, of one thread each. SEED=random, or a number,
# shuffles the tests; the seed is printed.
SEED ?=
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest \
	-n logical --maxprocesses 8 --dist loadfile $(if $(SEED),\
	-p randomly --randomly-dont-reset-seed \
	$(if $(filter-out random,$(SEED)),--randomly-seed=$(SEED)))

test: $(READY)
	@echo 'About seven minutes on two idle cores.'
	$(PYTEST) -m 'not slow'

test-all: $(READY)
	@echo 'About twelve minutes on two idle cores.'
	$(PYTEST)

# Our model beside that of transformers; then loader, model and trainer: which
# side limits, and how many cores feed a GPU that trains on GPU_CLIPS clips per
# second; then segmentation. Under a quarter of an hour on two cores.
# ARGS='...' is for the first, and leaves the others out.
GPU_CLIPS ?= 300
bench: $(READY)
	$(BIN)/python tools/benchmark.py model $(ARGS)
ifeq ($(strip $(ARGS)),)
	$(BIN)/python tools/benchmark.py training --repeats 1 4 \
		--num-steps 4 --warmup 1 --gpu-clips-per-second $(GPU_CLIPS)
	$(BIN)/python tools/benchmark.py vos --rounds 2
endif

# Does motion help? See docs/study; ARGS='...' are those of tools/study.py.
study: $(READY)
	$(BIN)/python tools/study.py $(ARGS)

# The site, in docs/_build/html; a warning is an error.
docs: $(READY)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet \
		-b html docs docs/_build/html
	@echo 'docs/_build/html/index.html'

# Run docs/notebooks and store what they print and draw.
notebooks: $(READY)
	$(BIN)/python tools/dev/notebooks.py

# The fast tests on every Python found (pyenv's, too), each with the tested, the
# lowest and the newest versions; the table is docs/get_started/matrix.md. ARGS='...' are
# those of nox: `-p 3.12`, `-k lowest`, `-- tests/models`.
matrix: $(READY)
	$(PIP) -c constraints.txt 'nox[uv]'
	PYENV_VERSION="$$(pyenv versions --bare 2>/dev/null | paste -sd: -)" \
		$(BIN)/nox $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .nox build *.egg-info .mypy_cache .pytest_cache .ruff_cache

# OpenCV's ordinary wheels, which OpenMMLab requires, need the system's libGL;
# where that is missing, the headless build is put in their place.
$(READY): setup.cfg pyproject.toml constraints.txt
	@test -n '$(PYTHON)' && '$(PYTHON)' -c 'import sys; \
		sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'error: Python 3.11 or newer is needed;' \
		'name it with PYTHON=...' >&2; exit 1; }
	@'$(PYTHON)' -m venv $(VENV) || { echo 'error: cannot make a virtual' \
		'environment; on Debian: apt-get install python3-venv' >&2; exit 1; }
	$(PIP) -c constraints.txt -e '.[demo,docs,tests,lint]'
	@$(BIN)/python -c 'import cv2' 2>/dev/null || $(PIP) --no-deps \
		--force-reinstall -c constraints.txt opencv-contrib-python-headless
	@touch $@
