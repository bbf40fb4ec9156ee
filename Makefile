# `make demo` and `make test` set up .venv on the first call.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo docs test test-lowest test-all test-web lint clean

help:
	@echo "make demo      set up, generate toy scenes, train all four tasks, evaluate, draw predictions"
	@echo "make demo MINUTES=2  the same with two minutes of training"
	@echo "make setup HASHES=1  set up, with packages whose hashes are those of hashes.txt"
	@echo "make test      set up, lint, types, import rules, tests"
	@echo "make test-lowest  a short suite with the lowest versions that setup.py allows (Python 3.11)"
	@echo "make test-all  the same, including slow tests"
	@echo "make test-web  tests of the web page in a browser (Debian: apt-get install chromium chromium-driver)"
	@echo "make docs      the site of the documents: output/site/index.html"
	@echo "make lint      ruff, mypy, lint-imports"

setup: $(VENV)/ready

# `make setup HASHES=1` checks the files of all packages except PyTorch's against hashes.txt.
# The variable replaces constraints of the machine's pip.conf; with `-c`, both would apply.
$(VENV)/ready: export PIP_CONSTRAINT := constraints.txt
$(VENV)/ready: setup.py constraints.txt install_detectron2.py
	@mkdir -p output; date +%s > output/.setup_start
	@echo "== Setting up $(VENV): PyTorch, detectron2, yolor_d2 (takes minutes, only once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12), (3, 13)])' || \
	  { echo "Python 3.11, 3.12 or 3.13 is required: make PYTHON=python3.13 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(if $(HASHES),$(BIN)/python -m pip install -q --require-hashes --no-deps -r hashes.txt)
	$(BIN)/python -m pip install -q torch torchvision
	$(BIN)/python install_detectron2.py
	$(BIN)/python -m pip install -q -e '.[dev]'
	@touch $@
	@echo "== Set up in $$(( $$(date +%s) - $$(cat output/.setup_start) )) seconds"; rm output/.setup_start

# `make demo MINUTES=2` trains for two minutes. Output in $(DEMO) is overwritten.
DEMO := output/demo
demo: export DETECTRON2_DATASETS := datasets
demo: setup
	$(BIN)/yolor-d2 demo --output $(DEMO) $(if $(MINUTES),--minutes $(MINUTES))

lint: setup
	@echo "== ruff, mypy, lint-imports"
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	@echo "== pytest"
	$(BIN)/pytest

test-all: lint
	@echo "== pytest, including slow tests"
	$(BIN)/pytest -m ''

# The lower bounds of setup.py in an environment of their own, which is reused until setup.py changes.
LOWEST := .venv-lowest
# tests/test_earlier_runs.py is absent: its scenes and augmentations differ with OpenCV 4.
LOWEST_TESTS := tests/test_lowest_versions.py tests/test_packaging.py tests/test_tokenizer.py \
  tests/checkpoint/published/test_reading.py tests/checkpoint/test_weights.py tests/data/files \
  tests/engine/test_main.py::test_train_then_evaluate tests/engine/test_writers.py \
  tests/evaluation/caption/test_evaluator.py tests/evaluation/coco tests/evaluation/panoptic \
  tests/inference/test_media.py tests/inference/test_predictor.py \
  tests/modeling/test_meta_arch.py tests/tools/test_model_info.py \
  tests/tools/test_release_weights.py tests/visualization/test_text.py
$(LOWEST)/ready: setup.py install_detectron2.py tests/lowest_versions.py | $(VENV)/ready
	@echo "== Setting up $(LOWEST): the lowest versions that setup.py allows"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Python 3.11 is required: make PYTHON=python3.11 test-lowest"; exit 1; }
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(BIN)/python -m tests.lowest_versions > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install -q -c $(LOWEST)/constraints.txt -e '.[dev]'
	$(LOWEST)/bin/python install_detectron2.py
	@touch $@

test-lowest: $(LOWEST)/ready
	@echo "== pytest with the lowest versions"
	$(LOWEST)/bin/python -m pytest $(LOWEST_TESTS)

test-web: $(VENV)/ready
	$(BIN)/python -m pip install -q -e '.[browser]'
	$(BIN)/python -m pytest -n 0 -rs tests/web

# The site; a broken link or a page that is not in mkdocs.yml is an error.
DOCS := .venv-docs
SITE := import site; print(site.getsitepackages()[0])
$(DOCS)/ready: $(VENV)/ready
	@echo "== Setting up $(DOCS): MkDocs"
	$(BIN)/python -m venv $(DOCS)
	echo "import site; site.addsitedir('$$($(BIN)/python -c '$(SITE)')')" \
	  > "$$($(DOCS)/bin/python -c '$(SITE)')/main.pth"
	$(DOCS)/bin/python -m pip install -q -e '.[docs]'
	@touch $@

docs: $(DOCS)/ready
	@echo "== mkdocs"
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -W ignore -m mkdocs build -q --strict
	@echo "   output/site/index.html"

clean:
	rm -rf $(VENV) $(LOWEST) $(DOCS) output build dist *.egg-info
