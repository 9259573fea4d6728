# SPDX-License-Identifier: Apache-2.0
# A short front for meson.  Nothing needs to be done before any of these; see README.md.
#
#   make            build into build/
#   make run        build, fetch a Debian kernel, boot it on this terminal; ARGS="--cpus 4" adds options
#   make test       everything that must pass; the last line counts.  SUITE=unit runs one kind
#   make test-sanitized   the same, built with -Db_sanitize=address,undefined
#   make fuzz       the fuzzers and the comparison with the host CPU, for SECONDS=600 each
#   make soak       boots and powers off a guest over and over for SECONDS=3600
#   make bench      measures boot time, idle cost and the engine's speed
#   make install    PREFIX=/usr/local, DESTDIR=
#   make deps       install the Debian packages that are missing (packages.txt); every target does this first
#   make clean

BUILD = build
PREFIX = /usr/local
SANITIZE = none
ARGS =
SUITE =
KERNEL_ARGS = console=ttyS0

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

deps:
	@tools/deps

$(BUILD)/build.ninja: | deps
	@meson setup $(BUILD) --prefix $(PREFIX) -Db_sanitize=$(SANITIZE) $(if $(filter none,$(SANITIZE)),,-Db_lundef=false)

run: $(BUILD)/build.ninja
	@ninja -C $(BUILD) lodge
	@tools/guest $(BUILD)/guest linux
	@$(BUILD)/lodge run --kernel $(BUILD)/guest/vmlinuz --initrd $(BUILD)/guest/initrd.gz \
	    --append "$(KERNEL_ARGS)" $(ARGS)

test: $(BUILD)/build.ninja
	@tests/run $(BUILD) $(SUITE)

test-sanitized:
	@$(MAKE) --no-print-directory test BUILD=build-sanitized SANITIZE=address,undefined

fuzz: SECONDS = 600
fuzz: all
	@LODGE_TEST_SECONDS=$(SECONDS) meson test -C $(BUILD) --no-rebuild --timeout-multiplier 0 --verbose --suite fuzz

soak: SECONDS = 3600
soak: all
	@tools/guest $(BUILD)/guest linux
	@tests/soak $(BUILD) $(SECONDS)

bench: all
	@tools/guest $(BUILD)/guest linux
	@bench/run $(BUILD)

install: all
	@meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf build build-sanitized

.PHONY: all deps run test test-sanitized fuzz soak bench install clean
