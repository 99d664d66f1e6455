#!/usr/bin/env bash
# Compiles the shim, lays it beside the engine, and both where the jar takes them from.
# usage: build.sh LIBPOLYSCORE_SO JNI_HEADERS NATIVE_FOLDER RESOURCE_FOLDER
set -euo pipefail
library=$1 headers=$2 native=$3 resources=$4
here=$(cd "$(dirname "$0")" && pwd)
include=$here/../../../../../include
[ -f "$library" ] || { echo "build.sh: $library is not there: cargo build --release makes it" >&2; exit 1; }
javac=$(readlink -f "$(command -v javac)") || { echo "build.sh: javac is not on the path" >&2; exit 1; }
java_home=$(dirname "$(dirname "$javac")")

# A JVM may run on the old files: they are replaced, never written into.
rm -rf "$native"
mkdir -p "$native"
"${CC:-gcc}" -std=c11 -O2 -g0 -shared -fPIC -fvisibility=hidden -fstack-protector-strong -Wall -Wextra -Werror \
    -I "$include" -I "$headers" -I "$java_home/include" -I "$java_home/include/linux" \
    -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed -s -o "$native/libpolyscore_jni.so" "$here/polyscore_jni.c"
strip --strip-debug -o "$native/libpolyscore.so" "$library"

platform=$resources/$(uname -s | tr '[:upper:]' '[:lower:]')-$(uname -m)
rm -rf "$platform"
mkdir -p "$platform"
cp "$native/libpolyscore_jni.so" "$native/libpolyscore.so" "$platform"
(cd "$platform" && sha256sum libpolyscore.so libpolyscore_jni.so > SHA256SUMS)
