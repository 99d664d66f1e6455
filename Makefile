# One command sets up all that it needs and does the job: `make demo`, `make test`.
# What the machine lacks goes to build/ (Python packages, cbindgen) or comes from Debian (tests/setup.sh).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON := build/venv/bin/python
LIBRARY := $(abspath target/release/libpolyscore.so)
CARGO := cargo --locked
MAVEN := mvn -q -B -ntp -f bindings/java/pom.xml -Dpolyscore.library=$(LIBRARY)
# The package is installed as a user would, from the library that is built already.
INSTALL := $(PYTHON) -m pip install -q --force-reinstall --no-deps --no-build-isolation ./bindings/python

# What is compiled once need not be kept in parts for the next time.
export CARGO_INCREMENTAL := 0

NOTE :=

.PHONY: demo test rust aarch64 java python readme train bench bench-all ablation errors imports networks zoo setup build headers clean

demo: setup build build/venv/.installed ## The Hillstrom model, scored from Rust, C, C++, Java and Python: all agree.
	$(INSTALL)
	$(MAVEN) package -DskipTests
	tests/demo/run.sh

test: setup                          ## Everything: what CI runs. Parts that use one core run beside others.
	$(MAKE) -j2 --output-sync=target rust aarch64 java python readme
	@echo "make test: all parts passed"

rust: setup build                    ## Format, lints, unit, promise, command line and ABI tests, documentation, spilled registers.
	cargo fmt --check
	$(CARGO) clippy --all-targets --features cli -- -D warnings
	$(CARGO) clippy --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --features cli
	$(CARGO) test --features cli
	python3 tests/spills.py $(LIBRARY)

aarch64: setup                       ## The unit tests and all golden requests on emulated 64-bit Arm, with NEON.
	tests/aarch64.sh

java: setup build                    ## JUnit on the real library, with -Xcheck:jni.
	$(MAVEN) verify

EXPORTERS := build/venv-tensorflow/.installed build/venv-paddle/.installed

python: setup build build/venv/.installed $(EXPORTERS) ## The package as pip installs it, parity with PyTorch, ONNX.
	$(INSTALL)
	$(PYTHON) -m pytest -q -n 2 --dist loadgroup bindings/python/tests

readme: java python                  ## The code blocks of README.md.
	$(PYTHON) tests/readme.py

train: setup build build/venv/.installed ## make train DATA=path/to/hillstrom.csv
	$(INSTALL)
	$(PYTHON) bindings/python/examples/hillstrom.py --data "$(DATA)" --out tests/models/hillstrom.safetensors

BENCH := setup build build/venv/.installed build/venv/.bench

bench: $(BENCH)                      ## All workloads beside ONNX Runtime, OpenVINO, PyTorch: one core, one process. NOTE="a sentence"
	$(INSTALL)
	$(PYTHON) benches/peers.py --note "$(NOTE)"
	$(PYTHON) benches/tables.py

bench-all: bench java                ## And each engine alone, languages, latency, memory, opening, threads, ablation, errors.
	$(PYTHON) benches/peers.py --warm --note "$(NOTE)"
	$(PYTHON) benches/languages.py --note "$(NOTE)"
	for what in latency memory opening threads; do $(PYTHON) benches/serving.py $$what --note "$(NOTE)"; done
	$(PYTHON) benches/ablation.py --note "$(NOTE)"
	$(PYTHON) benches/errors.py --note "$(NOTE)"
	$(PYTHON) benches/tables.py

ablation: $(BENCH)                   ## polyscore with one thing changed at a time.
	$(INSTALL)
	$(PYTHON) benches/ablation.py --note "$(NOTE)"
	$(PYTHON) benches/tables.py

errors: setup build build/venv/.installed ## The error of every precision on every network.
	$(PYTHON) benches/errors.py --note "$(NOTE)"
	$(PYTHON) benches/tables.py

imports: setup build build/venv/.installed ## Networks that came by ONNX beside ONNX Runtime, one core, one process.
	$(INSTALL)
	$(PYTHON) benches/imports.py

networks: setup build build/venv/.installed ## The table of rates in src/network/README.md.
	$(INSTALL)
	$(PYTHON) benches/networks.py

zoo: setup build build/venv/.installed ## Writes tests/models/zoo anew from the PyTorch twins.
	$(INSTALL)
	$(PYTHON) bindings/python/tests/zoo.py tests/models/zoo

build:
	$(CARGO) build --release --features cli

headers:                             ## Writes include/ anew from the sources.
	tests/abi/headers.sh

setup:
	tests/setup.sh

build/venv/.installed: bindings/python/requirements-test.txt
	python3 -m venv build/venv
	build/venv/bin/python -m pip install -q -r bindings/python/requirements-test.txt
	touch $@

# The same environment: peers need the versions of torch and ONNX that are there, and those are large.
build/venv/.bench: bindings/python/requirements-bench.txt build/venv/.installed
	build/venv/bin/python -m pip install -q -r $<
	touch $@

# TensorFlow and Paddle, whose exporters need other versions of their libraries than ours.
build/venv-%/.installed: bindings/python/tests/exporters/requirements-%.txt
	python3 -m venv build/venv-$*
	build/venv-$*/bin/python -m pip install -q -r $<
	touch $@

clean:
	rm -rf target build bindings/java/target
