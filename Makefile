# Both `make demo` and `make test` set up .venv by themselves; a second call finds it ready.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test test-all lint clean

help:
	@echo "make demo      set up, make toy scenes, draw what the model will be fed, print the network"
	@echo "make test      set up, lint, types, import rules, tests"
	@echo "make test-all  the same with the slow tests"
	@echo "make lint      ruff, mypy, lint-imports"

setup: $(VENV)/ready

$(VENV)/ready: setup.py constraints.txt install_detectron2.py
	@echo "== Setting up $(VENV): PyTorch, detectron2, yolor_d2 (some minutes, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])' || \
	  { echo "Python 3.11 or 3.12 is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch torchvision
	PIP_CONSTRAINT=constraints.txt $(BIN)/python install_detectron2.py
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	@echo "== Toy scenes, in datasets/toy_scenes"
	$(BIN)/python datasets/prepare_toy_scenes.py --output datasets/toy_scenes \
	  --train 300 --val 60 --min-size 16 --workers 2
	@echo "== Are they in order?"
	DETECTRON2_DATASETS=datasets $(BIN)/python -m yolor_d2.tools.check_data --dataset toy_scenes_val
	@echo "== What the model will be fed: strong and weak views with all their annotations"
	DETECTRON2_DATASETS=datasets $(BIN)/python -m yolor_d2.tools.show_views \
	  --config-file configs/toy/yolor_elan_n_toy.yaml --output output/demo/views --number 8
	@echo "== The network that will be"
	$(BIN)/python -m yolor_d2.tools.model_info \
	  --config-file configs/toy/yolor_elan_n_toy.yaml --size 320
	@echo "== Done: look at output/demo/views"

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
	@echo "== pytest, the slow tests too"
	$(BIN)/pytest -m ''

clean:
	rm -rf $(VENV) output build dist *.egg-info
