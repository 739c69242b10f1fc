# make train [ARGS="optim.lr=0.005 ..."]   install, then train
# make test                                install, then run linters, type checker and tests
# make test-faults [ARGS="--every 8"]      fault injection: an error and a crash at every write of a run and a sweep,
#                                          100 random kills, a killed process of two, 16,000 hostile inputs
# make test-integration                    end-to-end tests: examples, launchers, the wheel, pages in a browser
# make docs                                the API reference, in build/reference
# make test-lowest                         tests with the lowest versions allowed by pyproject.toml (Python 3.11)
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
LOWEST := .venv-lowest
# removes an environment of another Python version, whose links venv would keep
FRESH  := sh -c 'test "$$($$1/bin/python -V 2>&1)" = "$$($(PYTHON) -V 2>&1)" || rm -rf "$$1"' fresh

.PHONY: train test docs test-integration test-lowest test-faults clean

train: $(READY)
	@$(BIN)/python -m mnist_mlp.train $(ARGS)

test: $(READY)
	$(BIN)/ruff check conf mnist_mlp tests examples
	$(BIN)/ruff format --check conf mnist_mlp tests examples
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest $(ARGS)

docs: $(READY)
	@$(BIN)/python -W error -m pdoc --docformat google --no-search -o build/reference mnist_mlp '!mnist_mlp\.'
	@echo "The reference is build/reference/mnist_mlp.html"

test-faults: $(READY)
	cd tests && ../$(BIN)/python faults.py $(ARGS)
	cd tests && ../$(BIN)/python kills.py
	$(BIN)/python -m pytest -m faults
	MNIST_MLP_CASES=1 $(BIN)/python -m pytest tests/runs/test_hostile_files.py tests/data/test_hostile_digits.py \
		tests/cli/test_hostile_overrides.py tests/training/test_hostile_checkpoints.py

test-integration: $(READY)
	$(BIN)/python -m pytest -m "(integration or browser) and not slow" $(ARGS)

test-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest $(ARGS)

# reinstalled if a requirement changes
$(READY): pyproject.toml constraints.txt .ci/install
	@$(FRESH) $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@sh .ci/install $(VENV) constraints.txt
	@touch $@

$(LOWEST)/.ready: pyproject.toml .ci/lowest .ci/install
	@$(FRESH) $(LOWEST)
	@$(PYTHON) -m venv $(LOWEST)
	@$(PYTHON) .ci/lowest >$(LOWEST)/constraints.txt
	@sh .ci/install $(LOWEST) $(LOWEST)/constraints.txt
	@touch $@

clean:
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
