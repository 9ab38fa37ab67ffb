#!/usr/bin/env bash
# Makes a Rust toolchain available that builds WebAssembly components, and asks nothing.
#
#     eval "$(guest-sdk/rust/wasm-toolchain.sh)"
#     sglhost build my_program
#
# On standard output: shell exports, to be evaluated. On standard error: what it does. In order, the first that works:
#
#   1. the toolchain in use already has the target wasm32-unknown-unknown;
#   2. an earlier run of this script left a toolchain in the cache;
#   3. `rustup target add wasm32-unknown-unknown`;
#   4. where that cannot be had, the standard library is built from Debian's `rust-src` of exactly this compiler's
#      version: fetched with apt from the mirrors that this machine already uses, into private lists (no root, nothing
#      installed), and put into a hard-linked copy of the toolchain. About two minutes, once for each Rust version.
#
# `sglhost build` knows nothing of all that: it takes the toolchain's folder from SGLHOST_GUEST_TOOLCHAIN.
#
# Environment
#   SGLHOST_CACHE             where the copy lives, under toolchains/ (default ${XDG_CACHE_HOME:-~/.cache}/sglhost)
#   SGLHOST_WASM_STD=source   skip steps 1 and 3, to try step 4 on a machine that does not need it
set -euo pipefail

target=wasm32-unknown-unknown
cache=${SGLHOST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sglhost}/toolchains

# Debian suites that may carry the sources of a recent compiler, the most stable first.
suites="trixie-backports forky forky-backports sid"

# SHA-256 of packages that were tried. Others are checked by apt alone, against the archive's signed index.
known_sha256="
rust-src_1.95.0+dfsg1-2~bpo13+1_all.deb 7b76db5b880a77f9e52975d2baa6209d2f76d2c9c2789515c3088cb960e2c83b
"

say() { printf 'wasm-toolchain: %s\n' "$*" >&2; }
fail() {
    say "$@"
    exit 1
}

main() {
    command -v rustc >/dev/null && command -v cargo >/dev/null ||
        fail "no rustc and cargo on PATH; install Rust with rustup first"
    local sysroot host release commit
    sysroot=$(rustc --print sysroot)
    host=$(rustc -vV | sed -n 's/^host: //p')
    release=$(rustc -vV | sed -n 's/^release: //p')
    commit=$(rustc -vV | sed -n 's/^commit-hash: //p' | cut -c1-9)
    local copy="$cache/rust-$release-$commit-$host"

    if [ "${SGLHOST_WASM_STD:-}" != source ] && has_target "$sysroot"; then
        announce "$sysroot" "$host"
    elif has_target "$copy"; then
        announce "$copy" "$host"
    elif [ "${SGLHOST_WASM_STD:-}" != source ] && add_with_rustup "$sysroot"; then
        announce "$sysroot" "$host"
    else
        mkdir -p "$cache"
        # Whoever comes second waits here and then finds the work done. The lock goes with the process.
        exec 9>"$copy.lock"
        command -v flock >/dev/null && { flock --nonblock 9 || { say "waiting for another build of it" && flock 9; }; }
        has_target "$copy" || build_from_source "$sysroot" "$host" "$release" "$copy"
        announce "$copy" "$host"
    fi
}

has_target() {
    local libraries="$1/lib/rustlib/$target/lib"
    [ -d "$libraries" ] && [ -n "$(find "$libraries" -name 'libstd-*.rlib' -print -quit)" ]
}

add_with_rustup() {
    command -v rustup >/dev/null || return 1
    # Only a toolchain that rustup manages can be added to; a linked one or Debian's own cannot.
    say "rustup target add $target"
    local limit=
    if command -v timeout >/dev/null; then limit="timeout 180"; fi
    $limit rustup target add "$target" </dev/null >&2 || {
        say "rustup cannot add the target here"
        return 1
    }
    has_target "$1"
}

# Prints the exports. The linker that makes a component of the compiler's output comes with rustup's toolchains.
announce() {
    local toolchain=$1 host=$2
    if [ ! -x "$toolchain/lib/rustlib/$host/bin/wasm-component-ld" ] && ! command -v wasm-component-ld >/dev/null; then
        local tools="$cache/tools"
        if [ ! -x "$tools/bin/wasm-component-ld" ]; then
            say "this toolchain has no wasm-component-ld: cargo install wasm-component-ld"
            cargo install --quiet --locked --root "$tools" wasm-component-ld >&2
        fi
        printf 'export PATH=%q:"$PATH"\n' "$tools/bin"
    fi
    printf 'export SGLHOST_GUEST_TOOLCHAIN=%q\n' "$toolchain"
}

# build_from_source SYSROOT HOST RELEASE COPY: fills a folder beside COPY and renames it, so that COPY is whole or absent.
build_from_source() {
    local sysroot=$1 host=$2 release=$3 copy=$4
    local tool
    for tool in apt-get apt-cache dpkg; do
        command -v $tool >/dev/null || fail "the target $target is missing: run \`rustup target add $target\`. (Where" \
            "rustup cannot, this script builds it from Debian's sources, but there is no $tool here.)"
    done
    work=$(mktemp -d "$copy.XXXXXX")
    trap 'rm -rf "$work"' EXIT

    fetch_sources "$release" "$work"

    say "copying the toolchain (hard links)"
    mkdir -p "$work/toolchain/lib"
    local part
    for part in bin libexec; do
        if [ -d "$sysroot/$part" ]; then link_or_copy "$sysroot/$part" "$work/toolchain/$part"; fi
    done
    local entry
    for entry in "$sysroot"/lib/*; do
        if [ "${entry##*/}" != rustlib ]; then link_or_copy "$entry" "$work/toolchain/lib/${entry##*/}"; fi
    done
    mkdir -p "$work/toolchain/lib/rustlib/src/rust"
    link_or_copy "$sysroot/lib/rustlib/$host" "$work/toolchain/lib/rustlib/$host"
    mv "$work/sources/usr/src/rustc-$release/library" "$work/toolchain/lib/rustlib/src/rust/library"

    say "building the standard library for $target (about a minute)"
    build_standard_library "$work/toolchain" "$work/std"
    # Installed like a target of rustup's: from here on nobody need know how it was made.
    local libraries="$work/toolchain/lib/rustlib/$target/lib"
    mkdir -p "$libraries"
    find "$work/std/target/$target" -name '*.rlib' ! -name 'libstandard_library*' -exec cp {} "$libraries/" \;
    rm -rf "$work/toolchain/lib/rustlib/src"
    has_target "$work/toolchain" || fail "the build left no standard library in $libraries"
    mv "$work/toolchain" "$copy"
    say "ready: $copy"
}

# Hard links where the file system and the owner allow, else a copy.
link_or_copy() { cp -al "$1" "$2" 2>/dev/null || { rm -rf "$2" && cp -a "$1" "$2"; }; }

# An empty library whose build makes cargo build the standard library too.
build_standard_library() {
    local toolchain=$1 folder=$2
    mkdir -p "$folder/src"
    printf '[package]\nname = "standard_library"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$folder/Cargo.toml"
    printf '[profile.release]\nopt-level = 3\ncodegen-units = 1\ndebug = false\n' >>"$folder/Cargo.toml"
    : >"$folder/src/lib.rs"
    # Bitcode, as in rustup's own: without it guests could not use link-time optimization.
    # The copy's own cargo and rustc are named: rustup's proxies would pick another toolchain.
    (
        cd "$folder"
        unset RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET CARGO_BUILD_TARGET_DIR
        PATH="$toolchain/bin:$PATH" RUSTC="$toolchain/bin/rustc" RUSTC_BOOTSTRAP=1 \
            CARGO_TARGET_DIR="$folder/target" RUSTFLAGS="-C embed-bitcode=yes" \
            "$toolchain/bin/cargo" build --quiet --release --target "$target" -Zbuild-std=std,panic_abort >&2
    ) || fail "building the standard library failed; see above"
}

# fetch_sources RELEASE WORK: leaves the unpacked package under WORK/sources.
fetch_sources() {
    local release=$1 work=$2
    local lists="$work/apt/lists" archives="$work/apt/cache/archives" parts="$work/apt/sources"
    mkdir -p "$lists/partial" "$archives/partial" "$parts" "$work/apt/download"
    # `Signed-By` is repeated because it belongs to the machine's own entry, which is left out here.
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg signed=
    if [ -e $keyring ]; then signed="Signed-By: $keyring"; fi
    local apt=(-qq -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$parts" -o "Dir::State::Lists=$lists"
        -o "Dir::Cache=$work/apt/cache" -o "Acquire::Languages=none" -o "APT::Sandbox::User="
        -o "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false")

    local mirrors mirror suite version=
    mirrors=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | sort -u)
    [ -n "$mirrors" ] || fail "apt on this machine names no Debian mirror to fetch rust-src from"
    for mirror in $mirrors; do
        for suite in $suites; do
            printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n%s\n' \
                "$mirror" "$suite" "$signed" >"$parts/source.sources"
            say "looking for rust-src $release in Debian's $suite"
            apt-get "${apt[@]}" update >&2 || continue
            version=$(apt-cache "${apt[@]}" madison rust-src | awk -F' *[|] *' '{ print $2 }' |
                grep -m1 -E "^${release//./\\.}[+-]" || true)
            [ -z "$version" ] || break 2
        done
    done
    [ -n "$version" ] || fail "no Debian suite here carries rust-src $release, and sources of another version do not" \
        "build with this compiler: install a Rust version that one of them has ($suites), or run" \
        "\`rustup target add $target\` where rustup can reach its server"

    say "fetching rust-src $version"
    (cd "$work/apt/download" && apt-get "${apt[@]}" download "rust-src=$version" >&2) || fail "apt-get download failed"
    # apt writes `:` and `~` of a version as %3a and %7e in some releases.
    local package name expected
    package=$(find "$work/apt/download" -name 'rust-src_*.deb' -print -quit)
    name=$(basename "$package" | sed 's/%3a/:/g; s/%7e/~/g')
    expected=$(printf '%s' "$known_sha256" | awk -v name="$name" '$1 == name { print $2 }')
    if [ -n "$expected" ]; then
        printf '%s  %s\n' "$expected" "$package" | sha256sum --check --quiet - >&2 || fail "$name has the wrong SHA-256"
    fi
    dpkg -x "$package" "$work/sources"
    [ -d "$work/sources/usr/src/rustc-$release/library" ] || fail "$name holds no library folder of $release"
}

main
