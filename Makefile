# make setup | demo | test | test-app | package | site : each works from a clean clone with Python 3.11+, git and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-app package site lint format

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: setup
	$(BIN)/pairuni demo --out runs/demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# tests/conftest.py chooses the number of workers. worksteal: a worker without tests takes another's.
test: lint
	$(BIN)/python -m pytest -n auto --dist worksteal

# gradio and trackio accept no Pillow from 13 on, which the other tests run with, so the tests of app and trackers
# have an environment of their own.
test-app: .venv-app/.installed
	.venv-app/bin/python -m pytest tests/app tests/trackers -m "not gpu"

.venv-app/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-app
	sed 's/^pillow==.*/pillow==12.3.0/' constraints.txt > .venv-app/constraints.txt
	.venv-app/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-app/constraints.txt -e ".[dev,app,browser,trackio,wandb]"
	touch $@

# sdist, and from it the wheel, in build/dist; the wheel is installed with its declared dependencies alone and used.
package: setup
	$(BIN)/python -m tools.check_package --out build/dist

# The documentation in build/site. python -m: the hooks of MkDocs import tools.
site: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

.venv/.docs: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python tools/make_cli_reference.py
	$(BIN)/python tools/make_settings_reference.py
