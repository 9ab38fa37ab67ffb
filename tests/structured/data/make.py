#!/usr/bin/env python3
"""Makes suite.jsonl and maskbench.jsonl from clones of the two repositories that README.md names.

    make.py <git folder of JSON-Schema-Test-Suite> <git folder of jsonschemabench>

Takes the commits below, whatever is checked out. The same commits give the same files.
"""

import hashlib
import json
import os
import subprocess
import sys

SUITE_COMMIT = "44401e0c046704b476ec9d2e2fccdaee618f259d"
BENCH_COMMIT = "ba103c73756198dd9b149ddc7db7867da7a077f6"

# Schemas of each origin in MaskBench: all origins, the harder ones more often than they are there.
SHARES = {
    "BFCL": 12, "Github_easy": 30, "Github_hard": 42, "Github_medium": 42, "Github_trivial": 12, "Github_ultra": 22,
    "Glaiveai2K": 22, "Handwritten": 34, "JME": 8, "JsonSchemaStore": 32, "Kubernetes": 10, "MCPspec": 6,
    "Snowplow": 16, "Synthesized": 16, "WashingtonPost": 8,
}
# What a schema may take with its instances: few files are larger, and one of them would outweigh fifty others.
BYTES_MAX = 10_000
INSTANCES_MAX = 6


def git(folder, *arguments):
    return subprocess.run(["git", f"--git-dir={folder}", *arguments], check=True, capture_output=True).stdout


def names(folder, commit, below):
    return git(folder, "ls-tree", "-r", "--name-only", commit, below).decode().split()


def contents(folder, commit, paths):
    """The files, read by one process."""
    asked = "".join(f"{commit}:{path}\n" for path in paths).encode()
    out = subprocess.run(["git", f"--git-dir={folder}", "cat-file", "--batch"], input=asked, check=True,
                         capture_output=True).stdout
    at = 0
    for path in paths:
        end = out.index(b"\n", at)
        size = int(out[at:end].split()[-1])
        yield path, json.loads(out[end + 1 : end + 1 + size])
        at = end + 1 + size + 1


def line(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write(name, lines):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name), "w", encoding="utf-8") as file:
        file.writelines(text + "\n" for text in lines)


def suite(folder):
    below = "tests/draft2020-12"
    paths = [path for path in names(folder, SUITE_COMMIT, below) if path.endswith(".json")]
    lines = []
    for path, groups in contents(folder, SUITE_COMMIT, paths):
        file = path[len(below) + 1 : -len(".json")]
        for group in groups:
            tests = [[test["valid"], test["data"]] for test in group["tests"]]
            lines.append(line({"name": f"{file}: {group['description']}", "schema": group["schema"], "tests": tests}))
    write("suite.jsonl", lines)


def maskbench(folder):
    below = "maskbench/data"
    by_origin = {}
    for path in names(folder, BENCH_COMMIT, below):
        name = path[len(below) + 1 : -len(".json")]
        origin = next((origin for origin in SHARES if name.startswith(origin)), None)
        by_origin.setdefault(origin, []).append(name)
    assert set(by_origin) == set(SHARES), set(by_origin) ^ set(SHARES)
    lines = []
    for origin, share in SHARES.items():
        # In an order that is arbitrary and stays.
        ordered = sorted(by_origin[origin], key=lambda name: hashlib.sha256(name.encode()).digest())
        taken = 0
        for path, case in contents(folder, BENCH_COMMIT, [f"{below}/{name}.json" for name in ordered]):
            tests = [[test["valid"], test["data"]] for test in case.get("tests", [])]
            # Both kinds of instances, as far as there are.
            tests = [test for test in tests if test[0]][:INSTANCES_MAX] + \
                    [test for test in tests if not test[0]][:INSTANCES_MAX]
            text = line({"name": path[len(below) + 1 : -len(".json")], "schema": case["schema"], "tests": tests})
            if len(text.encode()) <= BYTES_MAX:
                lines.append(text)
                taken += 1
                if taken == share:
                    break
    write("maskbench.jsonl", lines)


suite(sys.argv[1])
maskbench(sys.argv[2])
