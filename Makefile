# The face of the project. Everything is built under build/; what is missing on a fresh Debian 12 is installed first.
.DEFAULT_GOAL := build
.PHONY: build run tsan test check bench fuzz soak install deb clean packages packages-build dev docs benches

JOBS ?= $(shell nproc)

packages:
	@tools/install_packages.sh

packages-build:
	@tools/install_packages.sh build

build: packages-build  ## optimised build/bin/muster and build/bin/muster-agent
	@cmake --preset release >/dev/null
	@cmake --build build -j $(JOBS) --target programs

dev: packages  ## everything with ASan and UBSan under build/dev
	@cmake --preset dev >/dev/null
	@cmake --build build/dev -j $(JOBS)

run: build  ## server on ./var, this machine enrolled as device this-machine, live health
	@tools/run.sh

tsan: packages  ## everything with ThreadSanitizer under build/tsan
	@cmake --preset tsan >/dev/null
	@cmake --build build/tsan -j $(JOBS)

test: build dev tsan  ## unit, corpus, wire and system tests; what has threads under ThreadSanitizer too
	@python3 tests/run.py

check: packages  ## format, static analysis, include table, banned calls, docs
	@cmake --preset dev >/dev/null
	@cmake --build build/dev -j $(JOBS) --target muster expr_reference muster_generated
	@python3 tools/check.py

benches: build packages  ## build/bin/ with all that the bench needs: programs, load generator, floor, certificates
	@cmake --build build -j $(JOBS) --target benches

bench: benches  ## the server's figures, peers' and the floor's as one table
	@python3 tests/bench/bench.py

fuzz: packages  ## 10 minutes each, or FUZZ_SECONDS
	@cmake --preset fuzz >/dev/null
	@cmake --build build/fuzz -j $(JOBS)
	@python3 tests/fuzz.py --seconds $(or $(FUZZ_SECONDS),600)

soak: build packages  ## long forms of the reliability tests, then SOAK_SECONDS of mixed load
	@cmake --build build -j $(JOBS) --target harness test_domain_identity_timing
	@python3 tests/soak.py

docs: packages  ## reference pages that are generated from tables
	@cmake --preset dev >/dev/null
	@cmake --build build/dev -j $(JOBS) --target muster expr_reference
	@python3 tools/check_docs.py --write

install: build
	@cmake --build build -j $(JOBS) --target installed
	@cmake --install build --prefix $(or $(PREFIX),/usr/local)

deb: build packages  ## build/muster_VERSION_ARCH.deb
	@cmake --build build -j $(JOBS) --target installed
	@cd build && cpack -G DEB

clean:
	rm -rf build
