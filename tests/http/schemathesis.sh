#!/usr/bin/env bash
# Asks the server what its document says it can be asked, and what it does not, by the thousand: no answer may be a
# failure of the server, or one that the document does not tell of.
#
#     tests/http/schemathesis.sh [OPTION OF st run…]
#
# Needs python3 with venv and pip, through which schemathesis comes into the target folder, and the default model.
# SGLHOST names an sglhost binary to ask in place of the debug build.
set -euo pipefail
cd "$(dirname "$0")/../.."
configuration=$PWD/tests/http/schemathesis.toml
version=4.32.5
# The same requests each time.
seed=1

target=$(cargo metadata --format-version 1 --no-deps |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
tools="$target/tools/schemathesis-$version"
if [ ! -x "$tools/bin/st" ]; then
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet "schemathesis==$version"
fi
if [ -z "${SGLHOST:-}" ]; then
    cargo build --quiet --locked --workspace --bin sglhost
    SGLHOST="$target/debug/sglhost"
fi
plugins/build.sh basic_qa

folder=$(mktemp -d)
server=
stop() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait
    rm -rf "$folder"
}
trap stop EXIT
unset SGLHOST_DATA SGLHOST_SERVER SGLHOST_KEY http_proxy HTTP_PROXY

# Short runs, since chance starts many.
serve() {
    "$SGLHOST" serve --port 0 --data "$folder/data" --device cpu --deadline 5s --max-total-tokens 64 --log-level error \
        >"$folder/ready" 2>"$folder/log" &
    server=$!
    until grep -q '^serving' "$folder/ready"; do
        kill -0 "$server" 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
        sleep 0.1
    done
    address=$(grep -o 'http://[0-9.:]*' "$folder/ready")
}

check() {
    # It leaves notes of what it saw where it is started.
    (cd "$folder" && "$tools/bin/st" --config-file "$configuration" run "$address/openapi.json" --seed "$seed" \
        --no-color --warnings off --generation-database none "$@")
    kill -0 "$server" 2>/dev/null || { echo "the server ended" >&2; cat "$folder/log" >&2; exit 1; }
    if grep -E 'panicked|ERROR' "$folder/log" >&2; then exit 1; fi
}

serve
curl --silent --fail --show-error --output /dev/null -T plugins/target/components/basic_qa.wasm \
    -H 'content-type: application/wasm' "$address/v1/programs/basic_qa?tag=stable"
check --max-examples 100 "$@"

# The same with keys, less thoroughly.
key=$("$SGLHOST" tenant add acme --data "$folder/data" 2>/dev/null | grep -o 'sgl_[0-9A-Za-z_]*')
until [ "$(curl --silent --output /dev/null --write-out '%{http_code}' "$address/v1/status")" = 401 ]; do sleep 0.1; done
check --phases examples,coverage --header "Authorization: Bearer $key" "$@"
