# SPDX-License-Identifier: Apache-2.0
# What people type. The build itself is meson's; this only names the common calls. `make help` lists them.

BUILD := build
ASAN := build-asan
CLANG := build-clang
FUZZ := build-fuzz
SECONDS := 60
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: build run test test-asan bench lint format fuzz install clean help deps-%
.DEFAULT_GOAL := build
# Two package installations at once would wait for the same lock; ninja brings the parallelism.
.NOTPARALLEL:

build: deps-build $(BUILD)/build.ninja ## compile (default)
	@ninja -C $(BUILD)

run: deps-run $(BUILD)/build.ninja ## show it: two real guests through the switch, and an uplink
	@ninja -C $(BUILD) src/main/flued cli/flue
	@FLUE_BUILD=$(abspath $(BUILD)) devtools/run-demo

test: deps-test build ## all tests: unit, namespaces, real guests
	@devtools/test --build $(BUILD) unit net vm

test-asan: deps-test $(ASAN)/build.ninja ## unit and namespace tests under the address and undefined-behaviour sanitizers
	@ninja -C $(ASAN)
	@devtools/test --build $(ASAN) unit net

bench: deps-bench build ## measure, beside the peers; numbers and plots go to build/bench/
	@FLUE_BUILD=$(abspath $(BUILD)) tests/bench/run --json $(BUILD)/bench/bench.json --html $(BUILD)/bench/bench.html
	@FLUE_BUILD=$(abspath $(BUILD)) tests/bench/wires

lint: deps-lint $(BUILD)/build.ninja $(CLANG)/build.ninja ## format, static analysis, our own checks
	@devtools/lint $(BUILD) $(CLANG)

format: deps-lint ## let clang-format have its way
	@git ls-files '*.c' '*.h' | xargs clang-format -i

fuzz: deps-fuzz $(FUZZ)/build.ninja ## each fuzzer for a minute (SECONDS=60)
	@ninja -C $(FUZZ)
	@devtools/fuzz --build $(FUZZ) --seconds $(SECONDS)

install: build ## install (DESTDIR, and meson's prefix)
	@meson install -C $(BUILD) --no-rebuild

clean: ## remove the build directories, and with them the cached guest
	@rm -rf $(BUILD) $(ASAN) $(CLANG) $(FUZZ)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/make \1\t\2/p' Makefile | expand -t 18

deps-%:
	@devtools/deps $*

$(BUILD)/build.ninja: | deps-build
	@meson setup $(BUILD)

$(ASAN)/build.ninja: | deps-build
	@meson setup $(ASAN) --buildtype=debug -Db_sanitize=address,undefined

$(CLANG)/build.ninja: | deps-build
	@CC=clang meson setup $(CLANG)

$(FUZZ)/build.ninja: | deps-build
	@CC=clang meson setup $(FUZZ) --buildtype=debugoptimized -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false
