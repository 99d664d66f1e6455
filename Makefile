# One command sets up all that it needs and does the job: `make demo`, `make test`.
# What the machine lacks goes to build/ (Python packages) or comes from Debian (tests/setup.sh).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON := build/venv/bin/python
LIBRARY := $(abspath target/release/libpolyscore.so)
CARGO := cargo --locked

.PHONY: demo test rust abi java python readme train bench setup venv build headers clean

demo: setup build                    ## The Hillstrom model, scored from Rust, C, C++, Java and Python: all agree.
	tests/demo/run.sh

test: setup rust abi java python readme ## Everything: what CI runs.
	@echo "make test: all parts passed"

rust: build                          ## Format, lints, unit tests, promise tests.
	cargo fmt --check
	$(CARGO) clippy --all-targets --features cli -- -D warnings
	$(CARGO) clippy --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --features cli
	$(CARGO) test --features cli

abi: build                           ## Header, symbols, misuse of the C ABI, valgrind, C and C++ consumers.
	tests/abi/run.sh $(dir $(LIBRARY))

java: build                          ## JUnit on the real library, with -Xcheck:jni.
	mvn -q -B -f bindings/java/pom.xml verify -Dpolyscore.library=$(LIBRARY)

python: build venv                   ## The package as pip installs it, and parity with PyTorch.
	$(PYTHON) -m pip install -q --force-reinstall --no-deps ./bindings/python
	$(PYTHON) -m pytest -q bindings/python/tests

readme: build venv java python       ## The code blocks of README.md.
	$(PYTHON) tests/readme.py

train: setup venv build              ## make train DATA=path/to/hillstrom.csv
	$(PYTHON) -m pip install -q --force-reinstall --no-deps ./bindings/python
	$(PYTHON) bindings/python/examples/hillstrom.py --data "$(DATA)" --out tests/models/hillstrom.safetensors

bench: setup venv build              ## The mmoe workload beside ONNX Runtime, one core, one process.
	$(PYTHON) -m pip install -q --force-reinstall --no-deps ./bindings/python
	$(PYTHON) benches/peers.py

build:
	$(CARGO) build --release --features cli

headers: build                       ## Writes include/ anew from the sources.
	tests/abi/headers.sh

setup:
	tests/setup.sh

venv: build/venv/.installed

build/venv/.installed: bindings/python/requirements-test.txt
	python3 -m venv build/venv
	build/venv/bin/python -m pip install -q -r bindings/python/requirements-test.txt
	touch $@

clean:
	rm -rf target build bindings/java/target
