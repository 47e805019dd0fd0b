# SPDX-License-Identifier: Apache-2.0
# Two commands for a newcomer: `make demo` and `make test`. Both install what
# they need (as root, Debian 12), build, and run. `make help` lists the rest.

BUILD ?= build
N ?= 300
BENCHES = replay size paths shaping stall postcopy pause forecast disk checkpoint warm hints fleet_five controller dashboard watch
PYTEST = /usr/bin/python3 -m pytest -p no:cacheprovider

.PHONY: help demo test bench bench-table bench-fleet bench-fleetdb $(subst _,-,$(BENCHES:%=bench-%)) soak acceptance build guest setup need-root unit integration sanitize tsan fuzz model coverage clean install

help:
	@echo "make demo         a real Linux machine moves between two nodes, live (KEEP=1 leaves it up)"
	@echo "make test         all tests (about 50 minutes on two cores)"
	@echo "make bench        side by side: QEMU plain, XBZRLE, multifd+zstd, NovaCron; the movers alone; by size"
	@echo "                  (one of them: bench-table BENCH_ARGS='--rows veth --rounds 1', bench-replay, -size, -paths,"
	@echo "                  -shaping, -stall, -postcopy, -pause, -forecast, -disk, -checkpoint, -warm, -fleet-five, -watch; by itself only: bench-hints, what free-page hints save;"
	@echo "                  without QEMU: bench-dashboard, what the dashboard and top take to answer a key with 1000 machines; bench-controller, pages of 100 000 migrations over REST, and how soon another one leads; bench-fleet, what decisions about 10 000 nodes cost; bench-fleetdb, pages and writes of its database)"
	@echo "make acceptance   each claim, its value, its target, its verdict: hours; ACCEPTANCE_ARGS='--only wire' for a group of them (--list)"
	@echo "make soak N=300   as many migrations of a busy guest, a random fault in each; an observer looks for a second copy"
	@echo "make build        programs only; make unit: quick tests; make integration: real QEMU"
	@echo "make sanitize     unit and fuzz replay tests under ASan+UBSan; make tsan: mover and page store under TSan"
	@echo "make model        spin checks the handoff: all interleavings of crashes, failed writes and late messages"
	@echo "make fuzz         libFuzzer targets, FUZZ_SECONDS=60 each; make coverage: line coverage"
	@echo "make install      into /usr, with systemd units (DESTDIR is respected)"

need-root:
	@[ "$$(id -u)" = 0 ] || { echo "this needs root (network namespaces, TUN devices, QEMU taps): run it with sudo" >&2; exit 1; }

setup:
	@scripts/setup-debian.sh

$(BUILD)/build.ninja: | setup
	@meson setup $(BUILD) --prefix=/usr >/dev/null || { meson setup $(BUILD) --prefix=/usr; exit 1; }

build: setup $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

guest: build
	@NC_BUILD=$(BUILD) tests/guest/build-guest.sh $(BUILD)/guest

demo: need-root guest
	@NC_BUILD=$(BUILD) /usr/bin/python3 scripts/demo.py $(if $(KEEP),--keep)

unit: build
	@meson test -C $(BUILD) --suite unit --suite fuzz --print-errorlogs

integration: need-root guest
	@NC_BUILD=$(BUILD) $(PYTEST) -q tests/integration

test: need-root guest
	@scripts/setup-debian.sh --all
	@scripts/run-tests.py

# All of them, whatever one says; fails if a target was missed.
bench: need-root guest
	@status=0; for part in table fleet fleetdb $(filter-out hints,$(BENCHES)); do $(MAKE) --no-print-directory bench-$$(echo $$part | tr _ -) || status=1; done; exit $$status

bench-table: need-root guest
	@NC_BUILD=$(BUILD) /usr/bin/python3 bench/bench.py $(BENCH_ARGS)

bench-fleet: build
	@ninja -C $(BUILD) --quiet bench/fleet_bench
	@$(BUILD)/bench/fleet_bench

bench-fleetdb: build
	@ninja -C $(BUILD) --quiet bench/fleetdb_bench
	@$(BUILD)/bench/fleetdb_bench
	@if ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then tests/lib/with_postgres.py $(BUILD)/bench/fleetdb_bench; fi

$(subst _,-,$(BENCHES:%=bench-%)): bench-%: need-root guest
	@NC_BUILD=$(BUILD) /usr/bin/python3 bench/$(subst -,_,$*)_bench.py $(BENCH_ARGS)

soak: need-root guest
	@scripts/setup-debian.sh --all
	@NC_BUILD=$(BUILD) /usr/bin/python3 tests/soak/soak.py --count $(N) $(SOAK_ARGS)

acceptance: need-root guest
	@NC_BUILD=$(BUILD) /usr/bin/python3 scripts/acceptance.py $(ACCEPTANCE_ARGS)

sanitize: build
	@scripts/run-tests.py asan-units

tsan: build
	@scripts/run-tests.py tsan

model:
	@scripts/setup-debian.sh --all
	@tests/model/run.py

fuzz:
	@scripts/setup-debian.sh --all
	@tests/fuzz/run.sh $(or $(FUZZ_SECONDS),60)

coverage: build
	@scripts/setup-debian.sh --all
	@scripts/run-tests.py asan-units coverage

install: build
	@meson install -C $(BUILD)

clean:
	rm -rf build build-*
