# Selvage. `make help` lists what there is.

MAKEFLAGS += --no-print-directory

CONFIG ?= release
BUILD_FLAGS_release = -c release --static-swift-stdlib
BUILD_FLAGS_debug = -c debug
BUILD_FLAGS = $(BUILD_FLAGS_$(CONFIG))
BIN = .build/$(CONFIG)/selvage
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
SEEDS ?= 2000
FLOW_SEEDS ?= 100
WRITES ?= 2000
FUZZER = $(firstword $(wildcard $(dir $(realpath $(shell command -v swift)))../lib/clang/*/lib/linux/libclang_rt.fuzzer_no_main-x86_64.a) \
	$(wildcard $(dir $(realpath $(shell command -v swift)))../lib/clang/*/lib/x86_64-unknown-linux-gnu/libclang_rt.fuzzer_no_main.a))
LAB ?= cluster-examples/two-tenants.yaml

.PHONY: build help lab test tests unit lint sim cluster examples kernel bench fuzz install clean setup-build setup-test

build: setup-build   ## build the binary (CONFIG=debug for a debug one)
	@# BUILT=1: it is there, and what else is being built shall not be waited for.
	$(if $(BUILT),@true,swift build $(BUILD_FLAGS) --product selvage)

help:                ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /  \1: /p' $(MAKEFILE_LIST) | sed 's/: /\t/' | column -t -s "$$(printf '\t')"

lab: build           ## start the two-tenants lab and check it (LAB=FILE for another)
	@$(BIN) lab down --lab $(basename $(notdir $(LAB))) >/dev/null 2>&1 || true
	$(BIN) lab up $(LAB)

test: setup-test     ## everything that CI runs: lint, unit, sim, cluster, examples, kernel
	@.ci/test

tests: setup-build
	swift build --build-tests

unit: setup-build    ## the tests of the rooms
	@# As root of a user namespace where we are not root anyway: the conformance suite makes network namespaces.
	if [ "$$(id -u)" = 0 ]; then swift test; else unshare --user --map-root-user swift test; fi

lint:                ## formatting and file rules
	swift format lint --strict --recursive --parallel --configuration .swift-format Package.swift Sources Tests

examples: build setup-test   ## every example in a lab, with real clients, as this user and as an unprivileged one
	Tests/Lab/run.sh $(abspath $(BIN)) $(PART)

sim: setup-build     ## SEEDS (2000) and FLOW_SEEDS (100) lives of simulated clusters, and what they find of known bugs
	swift build $(BUILD_FLAGS) --product selvage-sim
	.build/$(CONFIG)/selvage-sim --seeds $(SEEDS)
	.build/$(CONFIG)/selvage-sim --mutants --seeds 20000
	.build/$(CONFIG)/selvage-sim --flows --seeds $(FLOW_SEEDS)
	.build/$(CONFIG)/selvage-sim --flows --hosts 64 --seeds 2
	.build/$(CONFIG)/selvage-sim --flows --mutants --seeds 1000
	.build/$(CONFIG)/selvage-sim --scale --hosts 100

cluster: build setup-test    ## real nodes; founding, failing, strangers, recovery; WRITES (2000) while nodes are killed
	/usr/bin/python3 Tests/Cluster/life.py $(abspath $(BIN))
	/usr/bin/python3 Tests/Cluster/upgrade.py $(abspath $(BIN))
	/usr/bin/python3 Tests/Cluster/kill.py $(abspath $(BIN)) --writes $(WRITES)

kernel: build setup-test tests   ## the kernel lane: openvswitch under User-Mode Linux
	@[ "$$(id -u)" = 0 ] || { echo "the kernel lane works on this machine's files and needs root: sudo make kernel"; exit 1; }
	SELVAGE=$(abspath $(BIN)) SELVAGE_TESTS=$(abspath .build/debug/selvagePackageTests.xctest) Tests/Kernel/run.sh

bench: build         ## figures against peers in the same run: a table, and bench.json
	@.ci/setup bench
	swift build $(BUILD_FLAGS) --product selvage-bench
	python3 Tests/Bench/bench.py $(abspath $(BIN)) $(abspath .build/$(CONFIG)/selvage-bench)

fuzz: setup-build    ## any bytes into any parser, for FUZZ_SECONDS (60)
	SELVAGE_FUZZER=$(FUZZER) swift build -c release --scratch-path .build-fuzz --product selvage-fuzz
	mkdir -p .build-fuzz/corpus
	SWIFT_BACKTRACE=enable=no .build-fuzz/release/selvage-fuzz -max_total_time=$(FUZZ_SECONDS) -max_len=4096 \
		-artifact_prefix=.build-fuzz/ .build-fuzz/corpus Tests/Fuzz/Corpus

install: build       ## binary and completions under PREFIX, a systemd unit in /lib/systemd/system, /etc/selvage; all below DESTDIR
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/selvage
	strip --strip-debug $(DESTDIR)$(PREFIX)/bin/selvage
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d $(DESTDIR)/etc/selvage
	$(BIN) --generate-completion-script bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/selvage
	$(BIN) --generate-completion-script zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_selvage
	$(BIN) --generate-completion-script fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/selvage.fish
	sed 's|@PREFIX@|$(PREFIX)|' .ci/selvage.service.in | install -D -m 644 /dev/stdin $(DESTDIR)/lib/systemd/system/selvage.service

clean:               ## remove what was built
	swift package clean
	rm -rf .build .build-fuzz bench.json

setup-build:
	@.ci/setup build

setup-test:
	@.ci/setup test
