# Everything below makes its own environment in $(VENV) when it is missing or out of date.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: train test slow lint results help

help:
	@echo "make train    train CartPole with an HL-Gauss head (about three minutes, installation included)"
	@echo "make test     the fast tests"
	@echo "make slow     the tests that train, kill and resume for minutes"
	@echo "make lint     ruff and pyright"
	@echo "make results  docs/results/cartpole.md: every head on CartPole (half an hour on two cores)"

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

train: $(VENV)/.installed
	$(BIN)/classyq train

test: $(VENV)/.installed
	$(BIN)/pytest -q -n auto -m "not slow"

slow: $(VENV)/.installed
	$(BIN)/pytest -q -m slow

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

results: $(VENV)/.installed
	$(BIN)/classyq study cartpole
