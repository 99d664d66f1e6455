#!/usr/bin/env bash
# Installs the Debian packages that the build and the tests need and the machine lacks.
set -euo pipefail

missing=()
need() { # command package
    command -v "$1" >/dev/null || missing+=("$2")
}
need gcc gcc
need g++ g++
need cmake cmake
need pkg-config pkg-config
need valgrind valgrind
need readelf binutils
need mvn maven
need qemu-aarch64-static qemu-user-static
need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
[ -e /usr/aarch64-linux-gnu/lib/libc.so ] || missing+=(libc6-dev-arm64-cross)
need javac openjdk-17-jdk-headless
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
command -v cargo >/dev/null || { echo "setup: Rust 1.95 or newer is needed (cargo was not found)" >&2; exit 1; }

if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: installing ${missing[*]}"
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"
fi
