#!/usr/bin/env bash
# The CUDA device on a real GPU: conformance first, then benchmarks, as one Markdown file.
#
#     tests/perf/gpu.sh build                 # anywhere: release binaries into target/gpu, without debug information
#     tests/perf/gpu.sh run [FOLDER] [FLAG…]  # beside a GPU: needs the source tree, target/gpu and a driver, no compiler;
#                                             # writes FOLDER/gpu.md and its logs [FOLDER: target/gpu-results]
#
# FLAGs go to the benchmark (tests/perf/gpu/main.rs): --shapes, --steps, --requests, --bandwidth, --matrix-rate …
# Weights are made on the GPU's machine, in a folder of SGLHOST_SHAPES or of shared memory.
# Add what it wrote to tests/perf/MEASUREMENTS.md.
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() {
    sed -n '2,10p' "$0" | sed 's/^# \{0,1\}//' >&2
    exit 2
}

build() {
    local target=${CARGO_TARGET_DIR:-target} tests
    cargo build --release --locked -p sglhost-tests --example gpu_bench
    tests=$(cargo test --release --locked -p sglhost-tests --test cuda_twin --no-run --message-format json |
        python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "cuda_twin":
        print(message["executable"])')
    mkdir -p target/gpu
    strip -o target/gpu/gpu_bench "$target/release/examples/gpu_bench"
    strip -o target/gpu/cuda_tests "$tests"
    git describe --always --dirty --abbrev=10 >target/gpu/commit
    ls -l target/gpu
}

run() {
    local results=target/gpu-results status=0
    if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then results=$1 && shift; fi
    [ -x target/gpu/cuda_tests ] || { echo "gpu.sh: target/gpu is not there: gpu.sh build" >&2 && exit 1; }
    mkdir -p "$results"
    local shapes=${SGLHOST_SHAPES:-/dev/shm/sglhost-shapes}
    # The tests are those of the twin; this has them take the driver that is here.
    if ! SGLHOST_GPU=real target/gpu/cuda_tests --test-threads 1 --nocapture --skip twin_only \
        >"$results/conformance.log" 2>&1; then
        status=1
    fi
    {
        printf '### %s: %s, commit %s\n\n' "$(date -u +%Y-%m-%d)" \
            "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1 || echo 'GPU unknown')" \
            "$(cat target/gpu/commit)"
        printf 'Conformance: %s.\n\n' "$(grep -E '^test result' "$results/conformance.log" || echo 'did not end: see conformance.log')"
    } >"$results/gpu.md"
    target/gpu/gpu_bench --folder "$shapes" --plans "$results/plans" "$@" >>"$results/gpu.md" 2>"$results/bench.log" || status=1
    # What it costs that no result depends on the batch.
    printf '\nDeterministic:\n\n' >>"$results/gpu.md"
    target/gpu/gpu_bench --folder "$shapes" --shapes Qwen2.5-7B --serving false --deterministic true "$@" \
        >>"$results/gpu.md" 2>>"$results/bench.log" || status=1
    python3 tests/perf/gpu/pytorch.py >>"$results/gpu.md" 2>>"$results/bench.log" || status=1
    cat "$results/gpu.md"
    tail -n 30 "$results/conformance.log" "$results/bench.log" >&2
    return $status
}

case ${1:-} in
build) build ;;
run) shift && run "$@" ;;
*) usage ;;
esac
