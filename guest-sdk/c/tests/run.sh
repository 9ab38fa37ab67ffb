#!/bin/sh
# Compiles the parts of the header that need no host with this machine's own compiler, and runs their test.
set -eu
cd "$(dirname "$0")"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# What calls the host is left out by the linker. Attributes of WebAssembly mean nothing here.
"${CC:-cc}" -std=gnu17 -Wall -Wextra -Werror -Wno-attributes -ffunction-sections -fdata-sections -Wl,--gc-sections \
    -I../sglhost json.c -o "$scratch/json" -lm
"$scratch/json"
