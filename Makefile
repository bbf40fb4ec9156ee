# `make demo` and `make test` set up .venv on the first call.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test test-all test-web lint clean

help:
	@echo "make demo      set up, generate toy scenes, train all four tasks, evaluate, draw predictions"
	@echo "make test      set up, lint, types, import rules, tests"
	@echo "make test-all  the same, including slow tests"
	@echo "make test-web  tests of the web page in a browser (Debian: apt-get install chromium chromium-driver)"
	@echo "make lint      ruff, mypy, lint-imports"

setup: $(VENV)/ready

$(VENV)/ready: setup.py constraints.txt install_detectron2.py
	@mkdir -p output; date +%s > output/.setup_start
	@echo "== Setting up $(VENV): PyTorch, detectron2, yolor_d2 (takes minutes, only once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])' || \
	  { echo "Python 3.11 or 3.12 is required: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch torchvision
	PIP_CONSTRAINT=constraints.txt $(BIN)/python install_detectron2.py
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@
	@echo "== Set up in $$(( $$(date +%s) - $$(cat output/.setup_start) )) seconds"; rm output/.setup_start

# Output in $(DEMO) is overwritten; existing toy scenes are kept.
DEMO := output/demo
TOY_CONFIG := configs/toy/yolor_elan_n_toy.yaml
demo: export DETECTRON2_DATASETS := datasets
demo: setup
	@mkdir -p output; date +%s > output/.demo_start
	@echo "== Generate toy scenes in datasets/toy_scenes"
	$(BIN)/python datasets/prepare_toy_scenes.py --output datasets/toy_scenes \
	  --train 4000 --val 200 --min-size 32 --max-objects 6 --workers 2
	@echo "== Check the toy scenes"
	$(BIN)/python -m yolor_d2.tools.check_data --dataset toy_scenes_val
	@echo "== Train all four tasks, then evaluate"
	$(BIN)/python train_net.py --config-file $(TOY_CONFIG) --overwrite OUTPUT_DIR $(DEMO)
	@echo "== Draw ground truth and predictions"
	$(BIN)/python -m yolor_d2.tools.draw_predictions --config-file $(TOY_CONFIG) \
	  --output $(DEMO)/pictures --number 12 \
	  OUTPUT_DIR $(DEMO) MODEL.WEIGHTS $(DEMO)/model_final.pth
	$(BIN)/python -m yolor_d2.tools.visualize_results --config-file $(TOY_CONFIG) \
	  --results $(DEMO)/inference/toy_scenes_val --output $(DEMO)/results
	@echo "== Done in $$(( $$(date +%s) - $$(cat output/.demo_start) )) seconds, without set-up:"
	@echo "   $(DEMO)/pictures, $(DEMO)/results/index.html, $(DEMO)/samples, $(DEMO)/curves.png, $(DEMO)/metrics.json"
	@rm output/.demo_start

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

# Gradio requires an older Pillow: it has its own environment, which imports the rest from $(VENV).
WEB := .venv-web
SITE := import site; print(site.getsitepackages()[0])
$(WEB)/ready: $(VENV)/ready
	@echo "== Setting up $(WEB): Gradio, Selenium"
	$(BIN)/python -m venv $(WEB)
	echo "import site; site.addsitedir('$$($(BIN)/python -c '$(SITE)')')" \
	  > "$$($(WEB)/bin/python -c '$(SITE)')/main.pth"
	$(WEB)/bin/python -m pip install -q -e '.[web,browser]'
	@touch $@

test-web: $(WEB)/ready
	$(WEB)/bin/python -m pytest -n 0 -rs tests/web/test_web.py tests/web/test_page.py \
	  tests/web/test_browser.py

clean:
	rm -rf $(VENV) $(WEB) output build dist *.egg-info
