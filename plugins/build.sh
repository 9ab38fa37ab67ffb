#!/usr/bin/env bash
# Builds the example programs, all or those named, into plugins/target/components/NAME.wasm.
#
#     plugins/build.sh [NAME…]
#
# Makes a Rust toolchain for WebAssembly available first, if there is none. SGLHOST names an sglhost binary to build
# with (`sglhost build`); without it cargo is called as that does, so that guests need no host.
set -euo pipefail

plugins=$(cd "$(dirname "$0")" && pwd)
components="$plugins/target/components"
target=wasm32-unknown-unknown
# One folder for all, whatever the caller's own is: the SDK and its tools are compiled once.
export CARGO_TARGET_DIR="$plugins/target"
# Flags that were meant for the host.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET

if [ $# -eq 0 ]; then
    for manifest in "$plugins"/*/Cargo.toml; do
        set -- "$@" "$(basename "$(dirname "$manifest")")"
    done
fi
for name; do
    if [ ! -f "$plugins/$name/Cargo.toml" ]; then
        echo "build.sh: there is no program $name in $plugins" >&2
        exit 2
    fi
done

# Not `eval "$(..)"`: that would hide a failure.
toolchain=$("$plugins/../guest-sdk/rust/wasm-toolchain.sh")
eval "$toolchain"
mkdir -p "$components"

if [ -n "${SGLHOST:-}" ]; then
    sglhost=$(cd "$(dirname "$SGLHOST")" && pwd)/$(basename "$SGLHOST")
    for name; do
        (cd "$components" && "$sglhost" build "$plugins/$name" >&2)
    done
else
    packages=()
    for name; do packages+=(--package "$name"); done
    # The toolchain's own cargo and rustc: rustup's proxies would pick another.
    RUSTC="$SGLHOST_GUEST_TOOLCHAIN/bin/rustc" CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-component-ld \
        "$SGLHOST_GUEST_TOOLCHAIN/bin/cargo" build --release --locked --target "$target" \
        --manifest-path "$plugins/Cargo.toml" "${packages[@]}" >&2
    for name; do
        # Renamed into place: somebody may be running the old one.
        cp "$CARGO_TARGET_DIR/$target/release/$name.wasm" "$components/$name.wasm.$$"
        mv "$components/$name.wasm.$$" "$components/$name.wasm"
    done
fi
