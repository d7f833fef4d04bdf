# Every target sets up what it needs: git, make and python3 (3.11 or newer, with venv) are enough.
PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .tools/bin/uv
BIN := .venv/bin
export UV_PROJECT_ENVIRONMENT := .venv
export UV_NO_PROGRESS := 1

.PHONY: demo test check bench e2e e2e-long fuzz mutation packages lint format clean help

help: ## what there is
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /	/' | sort

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit("homeport needs Python 3.11 or newer; set PYTHON=") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.ready: $(UV) pyproject.toml uv.lock
	$(UV) sync --quiet --frozen --compile-bytecode --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
	@touch $@

demo: .venv/.ready ## the main job on embedded defaults; ARGS=--once ends by itself
	@$(BIN)/homeport demo $(ARGS)

test: .venv/.ready ## the tests that need no root
	$(BIN)/pytest -n 2 -m "not root" $(ARGS)

check: .venv/.ready ## lint, types, floors, lock file
	$(UV) lock --check --quiet
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.ready ## put the code into form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What the e2e tests need and Debian has: program:package. RUNLEVEL=1: an sshd that is installed is not started.
NEEDED := sshd:openssh-server git-lfs:git-lfs cc:gcc faketime:faketime \
  dockerd:docker.io debootstrap:debootstrap mkfs.ext4:e2fsprogs systemd-analyze:systemd

# What `bench` measures beside.
PEERS := webhook:webhook restic:restic borg:borgbackup zstd:zstd

packages:
	@missing=$$(for each in $(NEEDED); do \
	  PATH="$$PATH:/usr/sbin" command -v "$${each%%:*}" >/dev/null || printf ' %s' "$${each#*:}"; done); \
	if [ -n "$$missing" ]; then echo "installing$$missing"; apt-get -qq update && \
	  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing >/dev/null; fi

e2e: .venv/.ready packages ## the tests that need root: power cuts, failing disks, a virtual Pi, real ssh hosts, a day in a minute
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m root $(ARGS)

# The seed of what is random there; it is printed, and can be given.
RANDOM_SEED ?= $(shell date +%s)

e2e-long: .venv/.ready packages ## the same with the long counts; RANDOM_SEED=N repeats a run
	POINTS_STRIDE=1 $(BIN)/pytest -n 2 tests/services/test_two_in_a_row.py tests/services/test_side_by_side.py
	POWER_CUT_STRIDE=1 SOAK_MINUTES=20 RANDOM_CUTS=500 PI_CUTS=30 BLUE_GREEN=long RANDOM_SEED=$(RANDOM_SEED) $(BIN)/pytest -m root -s $(ARGS)
	VPI_SUITE=trixie $(BIN)/pytest -n 2 --dist loadfile -m root tests/e2e  # the same on a Debian 13
	FLOOD_SECONDS=60 $(BIN)/pytest -s tests/outside/test_floods.py

fuzz: .venv/.ready ## ten times the cases of the fuzz tests; FUZZ_SEED= for other ones
	FUZZ_TIMES=$${FUZZ_TIMES:-10} $(BIN)/pytest -n 2 -rP -o timeout=3600 tests/fuzz $(ARGS)

.venv/.mutation: .venv/.ready
	$(UV) sync --quiet --frozen --group mutation
	@touch $@

# It takes hours; what was run stays in mutants/ and is run again only where code changed.
mutation: .venv/.mutation ## which changes of core and store no test notices; ARGS="agent.core.guard*" for some
	PATH="$(CURDIR)/$(BIN):$$PATH" nice -n 15 $(BIN)/mutmut run $(ARGS)
	$(BIN)/python -m tests.meta.mutation

bench: .venv/.ready ## measurements beside their peers, which are installed if root asks
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory packages NEEDED="$(NEEDED) $(PEERS)"; fi
	$(BIN)/python -m bench $(ARGS)

clean: ## what the targets made
	rm -rf .venv .tools dist mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
