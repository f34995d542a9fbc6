# `make` says what there is. Everything runs in .venv, which is made when it is missing or its inputs changed.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PY := .venv/bin/python
BIRDER := .venv/bin/birder
MODEL := efficientnet_lite0_in1k
COLLECTION := demo/photos.birder
PHOTOS := examples/photos
# A file's tests stay together: they share servers, browsers and models. tests/conftest.py puts the longest files first.
# PyTorch has one thread in each of two processes: with more they wait for one another. Children find compiled code.
SINGLE := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1
TWO := --numprocesses 2 --dist loadfile --no-loadscope-reorder

# pip's own lines, thinned to one a file: a first installation takes minutes and must not look stuck.
PIP_LINES := awk '/^ *(Downloading|Using cached|Processing|Installing collected)/ { print "  " substr($$0, 1, 100); fflush() }'

.PHONY: help demo test fast lint lint-js test-js format docs bench bench-embedding bench-search bench-zeroshot peers clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

.venv/.installed: pyproject.toml constraints.txt
	@for python in $${PYTHON:-} python3.11 python3 python3.12 python3.13; do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	  python=; \
	done; \
	[ -n "$$python" ] || { echo "Birder needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python3"; exit 1; }; \
	echo "Making .venv with $$("$$python" --version) and installing Birder with its dependencies"; \
	echo "(PyTorch is the large one; the first time takes a few minutes)"; \
	[ -x $(PY) ] || "$$python" -m venv .venv
	@$(PY) -m pip install --constraint constraints.txt --editable '.[serve,map,learn]' | $(PIP_LINES)
	@touch $@

.venv/.tools: .venv/.installed
	@echo "Installing what the tests and benchmarks need beside Birder"
	@$(PY) -m pip install --constraint constraints.txt --editable '.[dev]' | $(PIP_LINES)
	@touch $@

demo: .venv/.installed ## embed the example images, find similar ones, name them, learn a classifier from them
	@mkdir -p demo
	@echo "== Embedding $(PHOTOS) with $(MODEL)"
	$(BIRDER) embed $(PHOTOS) --in $(COLLECTION) --model $(MODEL) --table $(PHOTOS)/photos.csv
	@echo "== Classifying three of them with $(MODEL)"
	$(BIRDER) classify $(PHOTOS)/birds/owl.jpg $(PHOTOS)/insects/mantis.jpg $(PHOTOS)/mammals/badger.jpg --model $(MODEL) -k 3
	@echo "== The images most similar to a flamingo"
	$(BIRDER) similar $(PHOTOS)/birds/pink-flamingo.jpg --in $(COLLECTION) -k 6
	@echo "== Images that a word finds: the model has no text encoder, but names for its classes, and WordNet above them"
	$(BIRDER) search $(COLLECTION) --text bird -k 6
	@echo "== Naming images by labelled examples of their groups; a quarter is left out to measure how often that is right"
	$(BIRDER) predict --like $(COLLECTION) --column group --hold-out 0.25 -k 1
	@$(PY) examples/contact_sheet.py $(COLLECTION) demo/contact-sheet.jpg
	@echo "== Learning a classifier from the same groups, and how good it is on images that it has not seen"
	$(BIRDER) adapt $(COLLECTION) --column group --to demo/groups.safetensors --report demo/report --force
	@echo "== Done. What it gets wrong, with the images: open demo/report/report.html"
	@echo "   Look at the collection in a browser (search, filter, map, label): $(BIRDER) serve $(COLLECTION)"

test: .venv/.tools test-js ## every test, in two processes
	@$(SINGLE) $(PY) -m pytest $(TWO)

fast: .venv/.tools ## the tests that take seconds
	@$(SINGLE) $(PY) -m pytest $(TWO) -m fast

lint: .venv/.tools lint-js ## ruff and mypy --strict; Biome and tsc on the page's JavaScript where Node.js is installed
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

node_modules/.installed: package.json package-lock.json
	@npm ci --no-audit --no-fund --silent
	@touch $@

lint-js:
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory node_modules/.installed && npm run --silent lint; \
	else echo "Node.js is not installed: the page's JavaScript is not checked."; fi

test-js:
	@if command -v node >/dev/null; then node --test tests/web/*.test.js; \
	else echo "Node.js is not installed: the page's modules are not tested."; fi

format: .venv/.tools ## rewrite the code as ruff lays it out
	@.venv/bin/ruff check --fix . && .venv/bin/ruff format .

docs: .venv/.installed ## docs/api.md from the docstrings
	@$(PY) docs/make_api.py

bench: .venv/.installed ## how often the nearest neighbour is of the same group
	@$(PY) benchmarks/neighbours.py

bench-embedding: .venv/.tools .venv-peers/.installed ## speed of embedding, against the published packages
	@$(PY) benchmarks/embedding.py

bench-search: .venv/.installed .venv-peers/.installed ## a million embeddings: index, exact search, faiss
	@$(PY) benchmarks/search.py

bench-zeroshot: .venv-peers/.installed ## speed and memory of naming, against pybioclip
	@PYTHONPATH=. .venv-peers/bin/python benchmarks/zeroshot.py

.venv-peers/.installed: tests/peers/requirements.txt
	@echo "Making .venv-peers with the published packages: 6 GB, several minutes"
	@[ -x .venv-peers/bin/python ] || .venv/bin/python -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --requirement tests/peers/requirements.txt | $(PIP_LINES)
	@.venv-peers/bin/python -m pip install --no-deps megadetector==10.0.28 | $(PIP_LINES)
	@touch $@

peers: .venv/.tools .venv-peers/.installed ## agreement with the published packages (6 GB, in .venv-peers)
	@PYTHONPATH=. .venv-peers/bin/python tests/peers/openclip_full_size.py
	@BIRDER_PEERS=$(CURDIR)/.venv-peers/bin/python $(PY) -m pytest tests/peers

clean: ## remove the environments, caches and the demo's output
	rm -rf .venv .venv-peers node_modules demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
