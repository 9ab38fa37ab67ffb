#!/bin/sh
# Compiles the runtime: compile.sh [--check] [PYTHON], where PYTHON has the package ziglang 0.16.0. QuickJS is what the
# crate rquickjs-sys carries (version 0.16.2 of QuickJS-ng); cargo fetches it.
set -eu
crate=rquickjs-sys version=0.14.0
cd "$(dirname "$0")"
here=$PWD made=$PWD/generated/runtime.wasm
check=false
if [ "${1:-}" = --check ]; then check=true; shift; fi
python=${1:-python3}
# Before the folder changes: it may be a path.
python=$(command -v "$python")
case $python in /*) ;; *) python=$PWD/$python ;; esac
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

mkdir "$scratch/src"
: >"$scratch/src/lib.rs"
cat >"$scratch/Cargo.toml" <<END
[package]
name = "sources"
version = "0.1.0"
edition = "2021"
[dependencies]
$crate = "=$version"
[workspace]
END
manifest=$(cd "$scratch" && cargo metadata --quiet --format-version 1 | "$python" -c '
import json, sys
packages = json.load(sys.stdin)["packages"]
print(*(it["manifest_path"] for it in packages if it["name"] == sys.argv[1]))' "$crate")
cp -R "$(dirname "$manifest")/quickjs" "$scratch/quickjs"
chmod -R u+w "$scratch/quickjs"
cp "$here"/*.c "$here"/*.h "$scratch"
# Paths from here on are relative: some are in the module.
cd "$scratch"

# QuickJS looks at its stack, but not on WASI; stack.h says what else is changed about that.
sed -i.bak -e '/^static void update_stack_limit/,/^}/s/#if defined(__wasi__)/#if 0/' \
    -e 's/^static inline bool js_check_stack_overflow(/static inline bool js_check_stack_overflow_unpadded(/' \
    -e 's/^bool lre_check_stack_overflow(/bool lre_check_stack_overflow_unpadded(/' quickjs/quickjs.c
sed -i.bak -e 's/^bool lre_check_stack_overflow(/bool lre_check_stack_overflow_unpadded(/' \
    quickjs/libregexp.c quickjs/libregexp.h

zig() { "$python" -m ziglang cc -target wasm32-wasi -Oz -std=gnu17 -fno-sanitize=all -Iquickjs "$@"; }
for file in quickjs libregexp libunicode dtoa; do
    zig -include stack.h -c "quickjs/$file.c" -o "$file.o"
done
for file in main host wasi; do
    zig -Wall -Wextra -Wno-unused-parameter -c "$file.c" -o "$file.o"
done
zig -mexec-model=reactor -s -Wl,-z,stack-size=1048576 ./*.o -o runtime.wasm

if $check; then
    cmp runtime.wasm "$made"
    cmp quickjs/LICENSE "$here/generated/LICENSE.quickjs"
else
    mkdir -p "$here/generated"
    cp runtime.wasm "$made"
    cp quickjs/LICENSE "$here/generated/LICENSE.quickjs"
    chmod 644 "$made" "$here/generated/LICENSE.quickjs"
fi
