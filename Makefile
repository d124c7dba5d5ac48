# The one task file. `make demo` and `make test` set up everything they need: with Python 3.11 or
# newer, a Rust toolchain and a C linker here, nothing else has to be installed, and nobody has to be root.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Of `make test` and `make exact`: how many processes; each has servers of its own.
TEST_WORKERS ?= 2

# Of `make fuzz`: how long each target runs, and which of them.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(sort $(basename $(notdir $(wildcard native/fuzz/fuzz_targets/*.rs))))
CARGO_FUZZ := 0.13.2

NATIVE := native/Cargo.toml native/Cargo.lock $(shell find native/src -name '*.rs')

.PHONY: help setup demo test exact faults bench lint types native-test fuzz docs lock clean

help:                          ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## */\t/' | expand -t 16

setup: .venv/.built            ## prepare .venv with the headrace command

.venv/.installed: requirements.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make setup PYTHON=/path/to/python3"; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "python -m venv does not work: on Debian, apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

.venv/.built: .venv/.installed pyproject.toml $(NATIVE)
	@command -v cargo >/dev/null || { echo "A Rust toolchain is needed: https://rustup.rs"; exit 1; }
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup                    ## a small network from nothing to rows in Postgres
	$(BIN)/headrace demo

test: setup native-test        ## all tests, against servers started from wheels
	$(BIN)/pytest -q -m "not slow" -n $(TEST_WORKERS) --dist loadfile

exact: setup                   ## the whole matrix of exactness: both recorded networks, cuts, repeats, kills, orders
	$(BIN)/pytest -q tests/exact tests/system/test_crash_points.py -n $(TEST_WORKERS) --dist load

faults: setup                  ## the tests that take long: kills, take-overs, stores away, bad relays
	$(BIN)/pytest -q -m slow --ignore=tests/exact

bench: setup                   ## decode, repositories, streams and frames to rows, latency; see bench/README.md
	$(BIN)/pytest -q -s bench/bench_decode.py
	$(BIN)/python -m bench.repositories
	$(BIN)/python -m bench.indexing
	$(BIN)/python -m bench.latency
	$(BIN)/python -m bench.identities
	$(BIN)/python -m bench.backfill_queue
	$(BIN)/python -m bench.backfilling
	$(BIN)/python -m bench.backfill_rows

native-test: setup             ## tests of the crate, without an interpreter
	cd native && cargo test -q --no-default-features

fuzz: native/fuzz/.tools/bin/cargo-fuzz ## every fuzz target for FUZZ_SECONDS (60), e.g. make fuzz FUZZ_TARGETS=frame
	cd native && FUZZ_SEEDS=fuzz/seeds cargo test -q --no-default-features --test fuzz write_seeds -- --ignored
	@# No sanitizer: the crate has no unsafe code, and the targets count allocations themselves.
	@cd native/fuzz && export PATH="$$PWD/.tools/bin:$$PATH" && cargo fuzz build --fuzz-dir . -s none -a && \
	for target in $(FUZZ_TARGETS); do \
		echo "== $$target"; mkdir -p corpus/$$target artifacts; \
		cargo fuzz run --fuzz-dir . -s none -a $$target corpus/$$target seeds/$$target -- -dict=words.dict \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -max_len=40000 \
			-print_final_stats=1 > artifacts/$$target.log 2>&1 || { tail -60 artifacts/$$target.log; exit 1; }; \
		grep -aE 'DONE|stat::number|stat::peak' artifacts/$$target.log; \
	done

native/fuzz/.tools/bin/cargo-fuzz:
	cargo install -q --locked --root native/fuzz/.tools --version $(CARGO_FUZZ) cargo-fuzz

lint: setup                    ## formatting, lints, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	cd native && cargo fmt --check && (cd fuzz && cargo fmt --check) && cargo clippy -q --all-targets -- -D warnings \
		&& cargo clippy -q --no-default-features --all-targets -- -D warnings

types: setup                   ## mypy, strict
	$(BIN)/mypy

docs: setup                    ## pages that are made from the code
	$(BIN)/python -m engine.ops.settings_doc > docs/SETTINGS.md
	$(BIN)/python -m tests.collections.fuzz_plan > native/fuzz/plan.json

lock:                          ## pin the dependencies again, with hashes and no index address
	uv pip compile -q --universal --python-version 3.11 --all-extras --group dev --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" -o requirements.lock pyproject.toml

clean:                         ## everything that was made here, except .data
	rm -rf .venv native/target native/fuzz/target native/fuzz/seeds engine/_native*.so
