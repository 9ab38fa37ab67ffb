#!/usr/bin/env python3
"""Token masks of sglhost, of llguidance called directly, and of XGrammar: same texts, same vocabulary, one run.

    python3 tests/perf/masks.py [MODEL]

MODEL defaults to what `sglhost model pull` fetched; only its vocabulary is read. Builds the `masks` example with the
release profile, and fetches the XGrammar package below into a virtual environment under the cargo target folder.

`first` is compiling and the first mask. `cold` is the first output under a constraint, `warm` are later ones under the
same: programs are run again and again. Figures are microseconds for a mask. XGrammar is called from Python, which adds a
microsecond or two to each of its masks; sglhost's and llguidance's are timed in one process, alternating.

Prints a section for MEASUREMENTS.md.
"""

import datetime
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import venv

from against_llama_cpp import default_model
from machine import ROOT, TARGET, commit, processor

PACKAGES = ("xgrammar==0.2.9", "torch", "numpy")
WARM = 9
KINDS = {"regex": "regular expressions", "json_schema": "JSON Schema", "lark": "Lark"}


def main():
    if sys.argv[1:2] == ["--xgrammar"]:
        return xgrammar(pathlib.Path(sys.argv[2]))
    model = pathlib.Path(sys.argv[1]) if sys.argv[1:] else default_model()
    build = ["cargo", "build", "--release", "--workspace", "--example", "masks"]
    subprocess.run(build, cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as out:
        cases = ROOT / "tests/perf/masks/cases.json"
        lines = output([TARGET / "release/examples/masks", model, cases, out])
        lines += output([environment(), __file__, "--xgrammar", out])
    report([json.loads(line) for line in lines])


def output(command):
    return subprocess.run([str(part) for part in command], check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines()


def environment():
    """The Python of a virtual environment that has XGrammar."""
    folder = TARGET / "xgrammar"
    python = folder / "bin/python"
    if not (folder / "ready").exists():
        print(f"installing {', '.join(PACKAGES)}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (folder / "ready").touch()
    return python


def xgrammar(folder):
    """Times XGrammar over the traces that the example left; prints the same lines as that."""
    import xgrammar as xgr

    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    words = [bytes(word) for word in vocabulary["words"]]
    info = xgr.TokenizerInfo(words, xgr.VocabType.RAW, vocab_size=len(words), stop_token_ids=vocabulary["end"])
    for case in json.loads((folder / "traces.json").read_text()):
        if case["kind"] == "lark":
            continue  # It takes no Lark.
        try:
            print(json.dumps(time_case(xgr, info, case)), flush=True)
        except Exception as error:  # noqa: BLE001: whatever it refuses a case with is reported.
            print(f"XGrammar refuses {case['name']}: {error}", file=sys.stderr)


def time_case(xgr, info, case):
    compiler = xgr.GrammarCompiler(info, max_threads=1, cache_enabled=False)
    bitmask = xgr.allocate_token_bitmask(1, info.vocab_size)
    started = time.perf_counter_ns()
    if case["kind"] == "regex":
        compiled = compiler.compile_regex(case["source"])
    else:
        compiled = compiler.compile_json_schema(
            case["source"], any_whitespace=False, separators=(", ", ": "), strict_mode=False)
    xgr.GrammarMatcher(compiled).fill_next_token_bitmask(bitmask)
    first = time.perf_counter_ns() - started
    rounds = []
    for _ in range(WARM + 1):
        matcher = xgr.GrammarMatcher(compiled)
        masks, advances = [], []
        for token in case["tokens"]:
            started = time.perf_counter_ns()
            matcher.fill_next_token_bitmask(bitmask)
            masks.append(time.perf_counter_ns() - started)
            started = time.perf_counter_ns()
            accepted = matcher.accept_token(token)
            advances.append(time.perf_counter_ns() - started)
            if not accepted:
                raise ValueError(f"token {token} is not accepted")
        rounds.append({"masks": masks, "advances": advances})
    warm = {key: [time for times in rounds[1:] for time in times[key]] for key in rounds[0]}
    return {"kind": case["kind"], "name": case["name"], "engine": "XGrammar", "first": first, "cold": rounds[0], "warm": warm}


def report(lines):
    print(f"### {datetime.date.today()}: {processor()}, commit {commit()}\n")
    print("| kind | engine | cases | first, median | cold p50 | cold p99 | warm p50 | warm p99 | warm advance p50 |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind, title in KINDS.items():
        for engine in ("sglhost", "llguidance", "XGrammar"):
            own = [line for line in lines if (line["kind"], line["engine"]) == (kind, engine)]
            if not own:
                continue
            pooled = lambda when, what: [time for line in own for time in line[when][what]]  # noqa: E731
            columns = [statistics.median(line["first"] for line in own)]
            for when in ("cold", "warm"):
                columns += [percentile(pooled(when, "masks"), 50), percentile(pooled(when, "masks"), 99)]
            columns.append(percentile(pooled("warm", "advances"), 50))
            print(f"| {title} | {engine} | {len(own)} | " + " | ".join(f"{time / 1000:.1f}" for time in columns) + " |")


def percentile(times, percent):
    times = sorted(times)
    return times[min(len(times) - 1, len(times) * percent // 100)]


if __name__ == "__main__":
    main()
