# The words that people and CI use. `make demo` and `make test` need nothing but python3 and a package index.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= auto
# Hundreds of tests start a Python: it may keep its bytecode.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo lab soak mutants test test-fast lint examples bench bench-vmlinux docs grammar clean

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/.dev: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: .venv/.installed
	$(BIN)/python tests/demo.py

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# All but what takes seconds each: builds of packages, random users, a terabyte.
test-fast: lint
	$(BIN)/pytest -n $(JOBS) -m 'not slow'

test: lint
	$(BIN)/pytest -n $(JOBS)

# Install the example plugins as their users do, and run their tests.
examples:
	$(PYTHON) -m venv --clear build/examples
	build/examples/bin/python -m pip install --quiet --disable-pip-version-check '.[testing]' examples/*/
	for example in examples/*/; do (cd $$example && ../../build/examples/bin/python -m pytest -q tests) || exit 1; done
	build/examples/bin/memshell plugins

# Verify all recordings; write docs/fidelity.md and the counts that the fidelity command shows.
fidelity: .venv/.dev
	$(BIN)/python tests/verify/fidelity.py tests/recordings/*.json.xz

# The tutorial's scenario and others on a real kernel, the one in /boot or KERNEL=IMAGE; `memshell lab doctor` says what it needs.
LAB := tutorial/first known/auto-movable-301 known/force-waste known/kata-4847 known/memmap-on-memory-6.1-and-6.12 \
	known/ndctl-167 known/never-offline experiments/E17 experiments/E19 \
	regress/error_path_frees_altmap_to_buddy regress/memory_block_reference_leak
lab: .venv/.dev
	for scenario in $(LAB); do $(BIN)/memshell lab run $$scenario $(if $(KERNEL),--kernel $(KERNEL)) || exit 1; done

# Each line beside what is wanted and beside its floor; build/bench.jsonl keeps the history. `-n 1 -k 1T` takes a part.
# The random user of all machines for an hour, or SECONDS=N; what breaks is shortened into build/soak. SEED=N begins there.
soak: .venv/.dev
	$(BIN)/python tests/soak.py --seconds $(or $(SECONDS),3600) $(if $(SEED),--seed $(SEED))

# Breaks the model in one line at a time: the tests named in tests/mutants.py must notice each. MUTANT=WORD chooses.
mutants: .venv/.dev
	$(BIN)/python tests/mutants.py $(MUTANT)

bench: .venv/.dev
	$(BIN)/python tests/bench.py

# Beside pahole, drgn, gdb and plain pyelftools, where they are installed: make bench-vmlinux KERNEL=vmlinux-6.12
bench-vmlinux: .venv/.dev
	$(BIN)/python tests/bench_vmlinux.py $(KERNEL)

# Rewrites the examples of commands and documents, and the command reference: read the difference.
docs: .venv/.dev
	$(BIN)/python tests/renew.py

# After a change of memshell/scenario/grammar.lark.
grammar: .venv/.dev
	$(BIN)/python -m memshell.scenario.build_table

clean:
	rm -rf .venv build *.egg-info examples/*/build examples/*/*.egg-info
