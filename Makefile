# Both `make demo` and `make test` set up .venv by themselves; a second call finds it ready.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test test-all test-web lint clean

help:
	@echo "make demo      set up, make toy scenes, train the four tasks, evaluate, draw pictures"
	@echo "make test      set up, lint, types, import rules, tests"
	@echo "make test-all  the same with the slow tests"
	@echo "make test-web  the tests of the page in the browser (Debian: apt-get install chromium chromium-driver)"
	@echo "make lint      ruff, mypy, lint-imports"

setup: $(VENV)/ready

$(VENV)/ready: setup.py constraints.txt install_detectron2.py
	@mkdir -p output; date +%s > output/.setup_start
	@echo "== Setting up $(VENV): PyTorch, detectron2, yolor_d2 (some minutes, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])' || \
	  { echo "Python 3.11 or 3.12 is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch torchvision
	PIP_CONSTRAINT=constraints.txt $(BIN)/python install_detectron2.py
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@
	@echo "== Set up in $$(( $$(date +%s) - $$(cat output/.setup_start) )) seconds"; rm output/.setup_start

# Everything below $(DEMO) is made anew; the scenes stay.
DEMO := output/demo
TOY_CONFIG := configs/toy/yolor_elan_n_toy.yaml
demo: export DETECTRON2_DATASETS := datasets
demo: setup
	@mkdir -p output; date +%s > output/.demo_start
	@echo "== Toy scenes, in datasets/toy_scenes"
	$(BIN)/python datasets/prepare_toy_scenes.py --output datasets/toy_scenes \
	  --train 4000 --val 200 --min-size 32 --max-objects 6 --workers 2
	@echo "== Are they in order?"
	$(BIN)/python -m yolor_d2.tools.check_data --dataset toy_scenes_val
	@echo "== Train the four tasks, then evaluate"
	$(BIN)/python train_net.py --config-file $(TOY_CONFIG) --overwrite OUTPUT_DIR $(DEMO)
	@echo "== Pictures: what is true, and what the network says"
	$(BIN)/python -m yolor_d2.tools.draw_predictions --config-file $(TOY_CONFIG) \
	  --output $(DEMO)/pictures --number 12 \
	  OUTPUT_DIR $(DEMO) MODEL.WEIGHTS $(DEMO)/model_final.pth
	$(BIN)/python -m yolor_d2.tools.visualize_results --config-file $(TOY_CONFIG) \
	  --results $(DEMO)/inference/toy_scenes_val --output $(DEMO)/results
	@echo "== Done in $$(( $$(date +%s) - $$(cat output/.demo_start) )) seconds, set-up not counted:"
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
	@echo "== pytest, the slow tests too"
	$(BIN)/pytest -m ''

# Gradio wants an older Pillow: an environment of its own, which sees the rest of the other one.
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
