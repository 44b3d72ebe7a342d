# make demo   set up, search the shipped supernet within a budget, export the winner, show its costs
# make test   set up, lint, types, site, tests
# make docs   set up, serve the documentation at http://localhost:8000
# make gpu    what needs CUDA
# make package   build wheel and sdist, install the wheel into a new environment, use it outside the repository
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check

.PHONY: demo test lint types site tests docs fuzz gpu evidence package clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	rm -rf exported/demo runs/demo
	$(BIN)/nas space hubert-tiny --budget 'params<=2.5M'
	$(BIN)/nas search --supernet hubert-tiny --budget 'params<=2.5M' --evals 64 --seed 0 --out runs/demo
	$(BIN)/nas export runs/demo --format json,safetensors --out exported/demo
	$(BIN)/nas cost --supernet hubert-tiny --subnet exported/demo/subnet.json

test: lint types site tests

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# the documentation, built strictly into build/site
site: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

tests: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest

docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs serve

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { \
	  echo "python3-venv is needed: trying apt-get" >&2; apt-get update -q && apt-get install -qy python3-venv && \
	  $(PYTHON) -m venv $(VENV); }

# soundfile brings libsndfile in its wheels; no system package is needed
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e '.[counters,onnx,optuna,report,tasks]'
	touch $@

# s3prl pins torchaudio, which has no CPU build: its LightHuBERT, the reference the tests compare with, needs omegaconf only
$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	$(BIN)/pip install $(PIP_FLAGS) --no-deps s3prl==0.4.18
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info

# ten minutes of damaged files of every format; a short run of it is part of the tests
fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m tests.faults.fuzz --minutes 10

# what needs CUDA, in under nine minutes; skipped without a GPU. AUDIO=speech/manifest.jsonl: on real speech
gpu: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.gpu $(if $(AUDIO),--audio '$(AUDIO)')

# the tables about hubert-tiny, hours of measuring; goes on where it was: make evidence AUDIO=speech/manifest.jsonl TEACHER=…
evidence: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.evidence --audio '$(AUDIO)' --teacher '$(TEACHER)'

# what pip installs: wheel and sdist, used outside the repository
package:
	.ci/package $(PYTHON)
