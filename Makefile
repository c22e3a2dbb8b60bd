# make        builds the command: build/ram
# make demo   installs what is missing, builds, compresses the bundled models
# make test   installs what is missing, builds, runs every test
# Debian 12 (as root or with sudo) or macOS with Homebrew.

.PHONY: all build demo test dev lint bench clean
.DEFAULT_GOAL := all

PRESET := release
BUILD := build/$(PRESET)
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)

all: build

build:
	@tools/install_dependencies.sh build
	cmake --preset $(PRESET) -DRAM_DEVELOPER=OFF
	cmake --build --preset $(PRESET) --target ram -j $(JOBS)
	@ln -sf $(PRESET)/ram build/ram

demo: build
	@tools/demo.sh

test: .venv/ready
	@tools/install_dependencies.sh test
	cmake --preset $(PRESET) -DRAM_DEVELOPER=ON -DRAM_PYTHON=$(CURDIR)/.venv/bin/python
	cmake --build --preset $(PRESET) -j $(JOBS)
	@ln -sf $(PRESET)/ram build/ram
	ctest --preset $(PRESET) -j $(JOBS)

# The other implementations that the tests compare with, at pinned versions.
.venv/ready: tests/interop/requirements.txt
	@tools/install_dependencies.sh test
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# Sanitizers, warnings as errors.
dev: .venv/ready
	cmake --preset dev -DRAM_PYTHON=$(CURDIR)/.venv/bin/python
	cmake --build --preset dev -j $(JOBS)
	ctest --preset dev -j $(JOBS)

lint:
	tools/lint.sh

bench: build
	cmake --preset $(PRESET) -DRAM_DEVELOPER=ON
	cmake --build --preset $(PRESET) --target quantize_bench measure_bench solve_bench stats_bench \
	    tokenize_bench vector_bench attention_bench amx_bench -j $(JOBS)

clean:
	rm -rf build
