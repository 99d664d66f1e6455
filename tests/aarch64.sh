#!/usr/bin/env bash
# The unit tests, and the golden requests of every model, on emulated 64-bit Arm: the NEON kernels run.
#
# Debian's Rust is unpacked to build/, because it cannot be installed beside another one, and a compiler takes only the
# standard library of its own version.
set -euo pipefail
cd "$(dirname "$0")/.."
debian=$PWD/build/aarch64
target=aarch64-unknown-linux-gnu

if [ ! -e "$debian/.installed" ]; then
    rm -rf "$debian"
    mkdir -p "$debian"/{lists/partial,archives/partial}
    export APT_CONFIG=$debian/apt.conf
    cat >"$APT_CONFIG" <<END
APT::Architectures { "$(dpkg --print-architecture)"; "arm64"; };
APT::Sandbox::User "$(id -un)";
Dir::State::lists "$debian/lists";
Dir::Cache "$debian";
END
    apt-get update -qq
    standard=$(apt-cache depends libstd-rust-web-dev | sed -n 's/.*Depends: //p')
    llvm=$(apt-cache depends "$standard" | sed -n 's/.*Depends: \(libllvm.*\)/\1/p')
    (cd "$debian" && apt-get download -qq rustc-web libstd-rust-web-dev{,:arm64} "$standard" "$llvm" libz3-4 libedit2 libxml2)
    for package in "$debian"/*.deb; do
        dpkg -x "$package" "$debian"
        rm "$package"
    done
    unset APT_CONFIG
    touch "$debian/.installed"
fi

export RUSTC=$debian/usr/bin/rustc CARGO_TARGET_DIR=target/aarch64
LD_LIBRARY_PATH=$(echo "$debian"/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
emulator=(qemu-aarch64-static -L /usr/aarch64-linux-gnu)
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="${emulator[*]}"
# Only the tests are optimised: the program would take minutes more to compile, and runs for seconds.
export CARGO_PROFILE_TEST_OPT_LEVEL=1 CARGO_PROFILE_TEST_DEBUG=0 CARGO_PROFILE_DEV_DEBUG=0
cargo test --locked --target $target --lib
cargo build --locked --target $target --features cli
check() { # model option...
    # The least of the CPUs that have NEON.
    "${emulator[@]}" -cpu cortex-a53 "$CARGO_TARGET_DIR/$target/debug/polyscore" check --isa neon "${@:2}" "$1" >/dev/null
}
for model in tests/models/*.safetensors tests/models/zoo/*.safetensors; do
    check "$model"
done
for precision in f16 bf16 int12 int16 int8; do
    check tests/models/hillstrom.safetensors --precision $precision --max-error 5e-3
done
echo "aarch64: the golden requests of every model, with NEON: ok"
