#!/usr/bin/env bash
# Writes polyscore.h and polyscore_dl.h into a folder (default: include/), from src/capi.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-$root/include}
tools=$root/build/tools
version=0.29.4
if ! "$tools/bin/cbindgen" --version 2>/dev/null | grep -q "$version"; then
    cargo install -q --debug cbindgen --version "$version" --locked --root "$tools"
fi
python3 "$root/tests/abi/headers.py" "$tools/bin/cbindgen" "$out"
