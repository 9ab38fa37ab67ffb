#!/usr/bin/env bash
# Checks the page of `sglhost serve` in a headless Chromium, and takes pictures of it into the target folder.
#
#     tests/page/run.sh
#
# Needs python3 and a Chromium or Chrome (Debian: apt-get install chromium), which SGLHOST_CHROMIUM may name. Without
# one nothing is checked, and that is said. SGLHOST names an sglhost binary to check in place of the debug build.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! python3 -B -c 'import sys; sys.path.insert(0, "tests/page"); import chromium; sys.exit(not chromium.find())'; then
    echo "tests/page NOT CHECKED: there is no Chromium (apt-get install chromium, or name one in SGLHOST_CHROMIUM)" >&2
    exit 0
fi

target=$(cargo metadata --format-version 1 --no-deps |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
pictures="$target/page"
mkdir -p "$pictures"
rm -f "$pictures"/*.png

if [ -z "${SGLHOST:-}" ]; then
    cargo build --quiet --locked --workspace --bin sglhost
    SGLHOST="$target/debug/sglhost"
fi
plugins/build.sh tip_suggestion tree_of_thought multi_turn_chat judge 2>"$pictures/build.log" ||
    { cat "$pictures/build.log" >&2; exit 1; }

python3 -B tests/page/checks.py "$SGLHOST" plugins/target/components "$pictures"
