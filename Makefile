# SPDX-License-Identifier: Apache-2.0
# A short front for meson.  Nothing needs to be done before any of these; see README.md.
#
#   make            build into build/
#   make run        build, make a Debian 12 (once), run it on this terminal; ARGS="--cpus 4" adds options
#   make run-kernel the same with Debian's kernel and busybox alone
#   make test       everything that must pass; the last line counts.  SUITE=unit runs one kind
#   make test-sanitized   what docs/testing.md lists, built with -Db_sanitize=address,undefined; SUITE="..." runs others
#   make fuzz       the fuzzers and the comparison with the host CPU, for SECONDS=600 each
#   make soak       stress-ng checks itself in a guest of two CPUs for SOAK=300 seconds; SOAK_OPTS= are lodge's
#   make soak-disk  kills the VMM KILLS=200 times while its guest writes: nothing acknowledged may be lost
#   make soak-boot  boots and powers off a guest over and over for SECONDS=3600
#   make soak-anytime  guests that check themselves, stopped and saved at any moment for SECONDS=600
#   make soak-starved  the tests, ROUNDS=10 times, while their threads now and then get next to no time; SUITE="unit guest"
#   make soak-devices  a hostile guest does its worst to every device, for SECONDS=600 and until ACCESSES=0 to their registers
#   make soak-devices-sanitized   the same until ACCESSES=100000000, built with the sanitizers
#   make fault      each call for memory, descriptors, processes fails in turn (tests/fault/inject); FAULT_OPTS="--points 8 NAME..."
#   make programs   how long compilers, interpreters, a database, a shell take beside the host and TCG (docs/benchmarks.md);
#                   PROGRAMS_OPTS= are lodge's, PROGRAMS_OPTS="--json ..." prints JSON
#   make test-programs   this machine's own programs, all of them, do the same in a guest as on the host
#   make bench      the engine's speed beside the bare host's and TCG's, disk and network beside TCG's, and more
#                   (docs/benchmarks.md);
#                   BENCH_OPTS="--code-cache 64M" are lodge's, BENCH_OPTS="--json ..." prints JSON
#   make bench-debian   the Debian image's first minutes: login, apt-get install gcc, a build, two programs on two CPUs
#                   (docs/benchmarks.md); BENCH_OPTS= as above
#   make install    PREFIX=/usr/local, DESTDIR=
#   make deps       install the Debian packages that are missing (packages.txt); every target does this first
#   make clean

BUILD = build
PREFIX = /usr/local
SANITIZE = none
ARGS =
SUITE =
KERNEL_ARGS = console=ttyS0
SOAK = 300
SOAK_OPTS =
PROGRAMS_OPTS =
BENCH_OPTS =

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

deps:
	@tools/deps

$(BUILD)/build.ninja: | deps
	@meson setup $(BUILD) --prefix $(PREFIX) -Db_sanitize=$(SANITIZE) $(if $(filter none,$(SANITIZE)),,-Db_lundef=false)

run: $(BUILD)/build.ninja
	@ninja -C $(BUILD) lodge
	@$(BUILD)/lodge image ls --json | grep -q '"debian"' || $(BUILD)/lodge image build debian
	@$(BUILD)/lodge run debian $(ARGS)

run-kernel: $(BUILD)/build.ninja
	@ninja -C $(BUILD) lodge
	@tools/guest $(BUILD)/guest linux
	@$(BUILD)/lodge run --kernel $(BUILD)/guest/vmlinuz --initrd $(BUILD)/guest/initrd.gz \
	    --append "$(KERNEL_ARGS)" $(ARGS)

test: $(BUILD)/build.ninja
	@tests/run $(BUILD) $(SUITE)

test-sanitized:
	@$(MAKE) --no-print-directory test BUILD=build-sanitized SANITIZE=address,undefined \
	    SUITE="$(or $(SUITE),unit fuzz guest sanitized)"

fuzz: SECONDS = 600
fuzz: all
	@LODGE_TEST_SECONDS=$(SECONDS) meson test -C $(BUILD) --no-rebuild --timeout-multiplier 0 --verbose --suite fuzz

soak: all
	@tools/guest $(BUILD)/guest linux stress
	@tests/soak_stress $(BUILD) $(SOAK) $(SOAK_OPTS)

soak-disk: KILLS = 200
soak-disk: all
	@tests/system/disk_kill $(BUILD) $(KILLS)

soak-boot: SECONDS = 3600
soak-boot: all
	@tools/guest $(BUILD)/guest linux
	@tests/soak $(BUILD) $(SECONDS)

soak-anytime: SECONDS = 600
soak-anytime: all
	@tools/guest $(BUILD)/guest linux
	@tests/soak_anytime $(BUILD) $(SECONDS)

soak-starved: ROUNDS = 10
soak-starved: all
	@tests/starve $(BUILD) $$(nproc) meson test -C $(BUILD) --no-rebuild --timeout-multiplier 6 --repeat $(ROUNDS) \
	    $(patsubst %,--suite %,$(SUITE))

soak-devices: SECONDS = 600
soak-devices: ACCESSES = 0
soak-devices: all
	@tests/guest/every_device $(BUILD) $$(date +%s) $(SECONDS) $(ACCESSES)

soak-devices-sanitized: SECONDS = 0
soak-devices-sanitized: ACCESSES = 100000000
soak-devices-sanitized:
	@$(MAKE) --no-print-directory soak-devices BUILD=build-sanitized SANITIZE=address,undefined SECONDS=$(SECONDS) \
	    ACCESSES=$(ACCESSES)

fault: FAULT_OPTS = --all
fault: all
	@tests/fault/inject $(BUILD) --jobs $$(nproc) $(FAULT_OPTS)

programs: all
	@bench/programs $(BUILD) $(PROGRAMS_OPTS)

test-programs: all
	@LODGE_BOOT_SECONDS=3600 tests/system/programs $(BUILD) $(PROGRAMS_OPTS)

bench: all
	@tools/guest $(BUILD)/guest linux
	@bench/run $(BUILD) $(BENCH_OPTS)
	@bench/io $(BUILD) $(BENCH_OPTS) || [ $$? = 77 ]

bench-debian: all
	@bench/debian $(BUILD) $(BENCH_OPTS)

install: all
	@meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf build build-sanitized

.PHONY: all fault deps run run-kernel test test-sanitized fuzz soak soak-disk soak-starved soak-devices soak-devices-sanitized soak-boot soak-anytime programs test-programs bench bench-debian install clean
