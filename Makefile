# `make run` builds the product and runs the first example; `make check` is for every change, `make test` is what CI runs.
# `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: help build run check test tools lint unit bench fuzz audit clean

# As cargo has it.
TARGET := $(or $(CARGO_TARGET_DIR),$(CARGO_BUILD_TARGET_DIR),target)
VESSL := $(TARGET)/release/vessl
FUZZ_SECONDS ?= 60

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

build: ## Build the release binary, release/vessl in the target directory
	@.ci/tools build
	cargo build --release --locked

run: build ## Build, run examples/quickstart.yaml on this machine, show its log and its result
	@.ci/tools run
	@id=$$("$(VESSL)" run create -f examples/quickstart.yaml --watch --output json | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])'); \
	"$(VESSL)" run download $$id "$(TARGET)/quickstart" --path /output; \
	echo "--- $(TARGET)/quickstart/metrics.json"; cat "$(TARGET)/quickstart/metrics.json"

check: ## What needs no root and no extra package: format, house rules, clippy, most tests
	@.ci/tools build
	cargo fmt --all --check
	cargo xtask tidy
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo nextest run --workspace --locked --profile check

test: tools lint unit run ## Everything that CI runs
	@echo "all checks passed"

tools:
	@.ci/tools test

lint: ## Format, house rules, clippy, documentation, dependencies
	cargo fmt --all --check
	cargo xtask tidy
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked
	cargo deny --log-level error check bans licenses sources

unit: ## Every test
	cargo nextest run --workspace --locked

bench: build ## Measure beside docker and runc, and compare with the limits
	@.ci/tools bench
	cargo bench --locked -p vessl-core --bench hostile
	cargo bench --locked -p vessl --bench peers

fuzz: ## Fuzz every parser for FUZZ_SECONDS seconds each (needs cargo-fuzz and a nightly toolchain)
	@for target in $$(cargo +nightly fuzz list); do \
		cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=2 -rss_limit_mb=1024; \
	done

audit: ## Ask the advisory database about the dependencies (needs the network)
	cargo deny check advisories

clean: ## Remove what was built
	cargo clean
