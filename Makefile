# The one task file. `make demo` and `make test` set up everything they need.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: setup demo test lint types native-test bench lock clean

setup: .venv/.ready            ## prepare .venv with the headrace command

.venv/.ready: requirements.lock pyproject.toml native/Cargo.toml native/Cargo.lock $(shell find native/src -name '*.rs')
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --require-hashes -r requirements.lock
	$(BIN)/maturin develop -q --release --skip-install 2>/dev/null || $(BIN)/maturin develop -q --release
	touch $@

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	cd native && cargo fmt --check && cargo clippy -q --all-targets -- -D warnings && cargo clippy -q --no-default-features --all-targets -- -D warnings

types: setup
	$(BIN)/mypy

native-test:
	cd native && cargo test -q --no-default-features

test: setup native-test
	$(BIN)/pytest

lock:                          ## pin the dependencies again, with hashes and no index address
	uv pip compile -q --universal --python-version 3.11 --all-extras --group dev --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" -o requirements.lock pyproject.toml

clean:
	rm -rf .venv native/target engine/_native*.so
