#!/bin/sh
# Compiles sglhost_blocking.c: compile.sh [--check] [PYTHON], where PYTHON has the package ziglang 0.16.0.
set -eu
cd "$(dirname "$0")"
made=generated/sglhost_blocking.cpython-314-wasm32-wasi.so
check=false
if [ "${1:-}" = --check ]; then check=true; shift; fi
python=${1:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m ziglang cc -target wasm32-wasi -Os -fPIC -fvisibility=hidden -fno-sanitize=all -c sglhost_blocking.c -o "$scratch/it.o"
"$python" -m ziglang wasm-ld --experimental-pic -shared --strip-all --import-undefined "$scratch/it.o" -o "$scratch/it.so"
if $check; then
    cmp "$scratch/it.so" "$made"
else
    cp "$scratch/it.so" "$made"
    chmod 644 "$made"
fi
