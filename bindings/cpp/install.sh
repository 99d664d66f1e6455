#!/usr/bin/env bash
# Installs the library, its headers, and its CMake and pkg-config packages under a prefix.
# usage: install.sh --prefix PREFIX [--library LIBPOLYSCORE_SO]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
prefix= library=$root/target/release/libpolyscore.so
while [ $# -gt 0 ]; do
    case $1 in
        --prefix) prefix=$2; shift 2 ;;
        --library) library=$2; shift 2 ;;
        *) echo "usage: install.sh --prefix PREFIX [--library LIBPOLYSCORE_SO]" >&2; exit 2 ;;
    esac
done
[ -n "$prefix" ] || { echo "install.sh: --prefix is needed" >&2; exit 2; }
[ -f "$library" ] || { echo "install.sh: $library is not there: cargo build --release makes it" >&2; exit 1; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)

mkdir -p "$prefix/include" "$prefix/lib/pkgconfig" "$prefix/lib/cmake/polyscore"
install -m 644 "$root"/include/polyscore.h "$root"/include/polyscore.hpp "$root"/include/polyscore_dl.h "$prefix/include"
# A running process keeps the old library: the new one is renamed over it, never written into it.
install -m 755 "$library" "$prefix/lib/.libpolyscore.so.$version"
mv -f "$prefix/lib/.libpolyscore.so.$version" "$prefix/lib/libpolyscore.so.$version"
ln -sfn "libpolyscore.so.$version" "$prefix/lib/libpolyscore.so.0"
ln -sfn libpolyscore.so.0 "$prefix/lib/libpolyscore.so"
sed -e "s|@VERSION@|$version|g" "$here/polyscore.pc.in" > "$prefix/lib/pkgconfig/polyscore.pc"
cp "$here/cmake/polyscore-config.cmake" "$prefix/lib/cmake/polyscore/"
sed -e "s|@VERSION@|$version|g" "$here/cmake/polyscore-config-version.cmake.in" \
    > "$prefix/lib/cmake/polyscore/polyscore-config-version.cmake"
