#!/bin/sh
# Tests of the SDK: over a host that is not there, on Node.js, and of its types, with the TypeScript that npm fetches.
set -eu
cd "$(dirname "$0")"
node --test ./*.test.js
npm exec --yes --package=typescript@7.0.2 -- tsc --project tsconfig.json --pretty false
