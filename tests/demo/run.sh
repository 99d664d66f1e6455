#!/usr/bin/env bash
# Runs the demo in Rust, C, C++, Java and Python, and compares their output. Called by `make demo`, which builds first.
set -euo pipefail
cd "$(dirname "$0")/../.."
model=tests/models/hillstrom.safetensors
library=$PWD/target/release
out=build/demo
mkdir -p "$out"
ln -sfn libpolyscore.so "$library/libpolyscore.so.0"

echo "== polyscore inspect (its first lines)"
target/release/polyscore inspect "$model" > "$out/inspect.txt"
head -n 20 "$out/inspect.txt"

cargo run -q --release --locked --features cli --example demo -- "$model" > "$out/rust.txt"
flags=(-O2 -Wall -Wextra -I include -L "$library" "-Wl,-rpath,$library")
gcc -std=c11 "${flags[@]}" tests/demo/demo.c -o "$out/demo-c" -lpolyscore
"$out/demo-c" "$model" > "$out/c.txt"
g++ -std=c++17 "${flags[@]}" tests/demo/demo.cpp -o "$out/demo-cpp" -lpolyscore
"$out/demo-cpp" "$model" > "$out/cpp.txt"
javac -d "$out/java" -cp bindings/java/target/classes tests/demo/Demo.java
java -cp "$out/java:bindings/java/target/classes" Demo "$model" > "$out/java.txt"
build/venv/bin/python tests/demo/demo.py "$model" > "$out/python.txt"

echo "== scores and ranks: scenario, rank, e-mail, visit, conversion, expected value"
cat "$out/rust.txt"
for language in c cpp java python; do
    cmp "$out/rust.txt" "$out/$language.txt"
done
[ "$(wc -l < "$out/rust.txt")" = 9 ]
echo "== Rust, C, C++, Java and Python agree"
