# `make serve` starts the server, `make test` runs every test. Both install what they need first.
BIN := .venv/bin
# Tests run in as many processes as there are cores, at least two: much of their time is waiting.
WORKERS := $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -lt 2 ] && n=2; echo $$n)
PYTEST_ARGS ?=
BENCH_ARGS ?=

# The suites that make sandboxes, on another engine.
SUITES := tests/contract tests/differential tests/security tests/leak tests/library tests/egress/test_sandboxes.py \
    $(addprefix tests/packages/test_,layers.py downloads.py registries.py images.py)
# What shows the contract; GVISOR_TESTS="tests/contract tests/leak" is all that can run there, some two minutes more.
GVISOR_TESTS ?= $(addprefix tests/contract/test_,endings.py execute.py files.py inputs.py limits.py output.py \
    recovery.py sessions.py surroundings.py view.py) tests/leak/test_leaks.py::test_stopping_leaves_nothing

# Every container under gVisor, and Podman in Docker's place: RUNSC_TESTS=tests/contract PODMAN_TESTS=tests/contract is all
# of the contract, some five minutes more each; "no" leaves one out.
RUNSC_TESTS ?= $(addprefix tests/contract/test_,endings.py files.py sessions.py)
PODMAN_TESTS ?= $(addprefix tests/contract/test_,limits.py sessions.py view.py)
# How long the crowd of clients goes on at once; 60 is what is promised.
CROWD_SECONDS ?= 12

.PHONY: serve setup test test-v2 test-docker check unit format bench bench-soak bench-publish bench-compare lock clean

serve: ## start the server; prints where it listens and with which key
	@scripts/bootstrap
	@$(BIN)/isol8 setup
	@exec $(BIN)/isol8 serve

setup: ## install everything `serve` and `test` need, and nothing else
	@scripts/bootstrap dev
	@$(BIN)/isol8 setup

test: setup ## every test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)
	$(if $(PYTEST_ARGS),,@$(MAKE) --no-print-directory test-v2)

# What fits into a quarter of an hour there; V2_TESTS="tests" is everything that is marked, for somebody with more time.
V2_TESTS ?= tests/engine tests/contract/test_limits.py tests/contract/test_endings.py tests/security

# Without the runtimes of the data directory: they boot slowly there, and what is tested is the kernel.
test-v2: setup ## the tests of cgroups once more, on version 2: in an emulated machine, with a kernel of its own
	@scripts/v2-machine; status=$$?; \
	if [ $$status = 77 ] && [ "$$CI" != true ]; then \
	    echo 'isol8: the tests on cgroup version 2 are skipped'; \
	else \
	    ISOL8_DATA_DIR=/run/isol8 scripts/on-cgroup-v2 5400 $(BIN)/python -m pytest -n 2 --dist worksteal \
	        -p no:schemathesis -p no:hypothesispytest -m cgroup \
	        $(V2_TESTS); \
	fi

PARALLEL = $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
test-docker: setup ## the same suites on the Docker engine, and the contract's on gVisor and Podman, beside a daemon of their own (needs root)
	CROWD_SECONDS=$(CROWD_SECONDS) scripts/with-docker sh -c '$(BIN)/isol8 setup --engine docker && \
	    $(PARALLEL) --engine docker $(SUITES) tests/docker $(PYTEST_ARGS) && \
	    $(PARALLEL) --engine gvisor $(GVISOR_TESTS) $(PYTEST_ARGS) && \
	    { [ "$(RUNSC_TESTS)" = no ] || $(PARALLEL) --engine docker-runsc $(RUNSC_TESTS) $(PYTEST_ARGS); } && \
	    { [ "$(PODMAN_TESTS)" = no ] || \
	      $(BIN)/python -m tests.support.podman $(PARALLEL) --engine podman $(PODMAN_TESTS) $(PYTEST_ARGS); }'

check: ## format, lint, types, import rule, unit tests
	@scripts/bootstrap dev
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit

format: ## let ruff rewrite what it can
	@scripts/bootstrap dev
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

bench: setup ## measure beside the bare interpreters, some eight minutes; JSON in .build/
	@$(BIN)/python -m bench $(BENCH_ARGS)

bench-soak: setup ## 50,000 executions: does it get slower or larger?
	@$(BIN)/python -m bench --only soak --soak 50000 --output .build/soak.json $(BENCH_ARGS)

bench-publish: ## put the last whole run of `bench` into docs/ and the README
	@scripts/bootstrap dev
	@$(BIN)/python -m bench.publish

bench-compare: setup ## this tree against REV, in turns
	@test -n "$(REV)" || { echo "say which revision: make bench-compare REV=..." >&2; exit 2; }
	@$(BIN)/python -m bench.compare $(REV) $(BENCH_ARGS)

lock: ## resolve the dependencies again
	@scripts/bootstrap dev
	@scripts/lock

clean: ## remove what the above made in this directory
	rm -rf .venv .build build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
