# Capstan's build. `make help` lists the targets; all are safe to repeat.
# Meson does the building (meson.build); this file installs what is missing and puts steps together.

BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
DATA ?= ./data
LISTEN ?=
# Model that `make run` makes ready on a machine without one.
MODEL ?= smollm2-135m-instruct
# Leave the machine's packages alone: SETUP=no make
SETUP ?= yes
SIM_SEEDS ?= 10000
FUZZ_SECONDS ?= 60

export PKG_CONFIG_PATH := $(CURDIR)/.deps/lib/pkgconfig$(if $(PKG_CONFIG_PATH),:$(PKG_CONFIG_PATH))
export CAPSTAN_BINARY := $(CURDIR)/$(BUILD)/capstan

setup = $(if $(filter yes,$(SETUP)),scripts/setup $(1),:)
ninja = ninja -C $(1) $(if $(JOBS),-j$(JOBS))

.PHONY: all help setup console build run test test-unit test-e2e test-console test-sim test-fuzz test-agents test-fresh sanitize \
	sanitize-thread fuzz crash sim bench lint format install deb dist clean

all: build

help:
	@sed -n 's/^## //p' Makefile

## make                 install what building needs, build the console and the program
build: setup console $(BUILD)/build.ninja
	$(call ninja,$(BUILD))

setup:
	@$(call setup,build)

console:
	@scripts/console

$(BUILD)/build.ninja: | setup
	meson setup $(BUILD)

## make run             build, fetch a small local model and its engine, serve (DATA=, LISTEN=, MODEL=)
run: build
	@$(call setup,run)
	@exec $(BUILD)/capstan serve --data $(DATA) $(if $(LISTEN),--listen $(LISTEN)) --prepare $(MODEL)

## make test            all tests: unit, simulation, fuzz corpus, end to end
test: build
	@$(call setup,test)
	scripts/test all

## make test-unit | test-sim | test-fuzz | test-console | test-e2e    one of them
test-unit test-sim test-fuzz: build
	scripts/test $(@:test-%=%)
test-console test-e2e: build
	@$(call setup,test)
	scripts/test $(@:test-%=%)

## make test-agents     Claude Code and Codex, headless, against it (installs them: 700 MB)
test-agents: build
	@$(call setup,test)
	scripts/test-agents

## make test-fresh      make run and make test in minimal systems made by debootstrap (needs root; RELEASES=)
test-fresh:
	@$(call setup,fresh)
	scripts/test-fresh $(RELEASES)

## make sanitize        unit and simulation tests with address and undefined-behaviour checks, then threads
sanitize: setup console
	scripts/sanitize address
	scripts/sanitize thread

## make fuzz            every fuzz target for FUZZ_SECONDS (needs clang)
fuzz: setup
	@$(call setup,fuzz)
	scripts/fuzz $(FUZZ_SECONDS)

## make crash           power losses and kill -9 by the thousand
crash: build
	scripts/test crash

## make sim             simulation with SIM_SEEDS seeds
sim: build
	SIM_SEEDS=$(SIM_SEEDS) scripts/test sim

## make bench | bench-NAME    the published figures, each beside its yardstick
bench: build
	@$(call setup,bench)
	scripts/bench
bench-%: build
	@$(call setup,bench)
	scripts/bench $*

## make lint | format   the rules that scripts can check; format rewrites
lint:
	scripts/lint
format:
	scripts/lint --fix

## make install         DESTDIR= PREFIX= (without debug symbols: those stay in build/)
install: build
	meson configure $(BUILD) -Dprefix=$(PREFIX)
	DESTDIR=$(DESTDIR) meson install -C $(BUILD) --strip

## make deb             a Debian package in build/
deb: build
	scripts/make-deb $(BUILD)

## make dist            a source archive with the console built, so that its users need no Node
dist: console
	scripts/make-dist $(BUILD)

## make clean
clean:
	rm -rf $(BUILD) build-* web/dist
