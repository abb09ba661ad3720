# Two commands for a newcomer: `make demo` does the main job, `make test` passes the tests.
# Both set up what they need in .venv, pinned by constraints.txt; no GPU, no network beyond the package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 0
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test test-slow test-libraries coverage wheel bench lint format people clean

demo: $(VENV)/.installed
	$(BIN)/unsay demo --out runs/demo --seed $(SEED)

test: $(VENV)/.installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile

# Kills, long fuzzing, simulations of coverage, whole runs, a real browser. What is skipped says why.
test-slow: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow --numprocesses 2 --dist loadfile --durations 10 -rs

# The oldest and the newest libraries that pyproject.toml allows, in environments of their own: minutes, and the network.
test-libraries: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/libraries.py --verbose -rP

# Hours at full size; `make bench BENCH=--quick` shows that all of it runs. One after another: they would slow each other down.
bench: $(VENV)/.installed
	set -e; for name in scorer sampler round padding memory growth refill modes; do $(BIN)/python benchmarks/$$name.py $(BENCH); done

# Which lines the quick tests run; slower than `make test`, and no part of it.
coverage: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile --cov --cov-report term

wheel: $(VENV)/.installed
	$(BIN)/python -m build --wheel --no-isolation

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

people: $(VENV)/.installed
	$(BIN)/python scripts/build_people.py

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs
