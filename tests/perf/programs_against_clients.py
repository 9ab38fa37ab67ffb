#!/usr/bin/env python3
"""Programs inside the host against the same programs run from a client: same engine, same inputs, runs alternating.

    python3 tests/perf/programs_against_clients.py [--rounds N] [--instances 1,16] [--programs judge,…]
        [--max-tokens N] [--round-trip-ms MS] [--kv-tokens N] [--threads N] [--model PATH] [--profile release|dev]

Builds the example programs (`plugins/build.sh`) and both sides (`tests/perf/program_runs.rs`, and
`tests/perf/completion_server.rs` for `plugins/NAME/client.py`). Each measurement is a fresh process with a fresh engine
that was warmed up; what starts a process, opens the model or compiles a program is not in it. Instances of a program
get different inputs and start at once. Temperature 0, but for `self_consistency`, whose samples bring their own seeds.

The client and its server share the machine with the engine, whose threads expect a core each: leave them a core
(`--threads` below the number of cores, for both sides), or what is measured is the contention.

Prints a section for MEASUREMENTS.md. A figure means something only on a machine that does nothing else.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import urllib.request

from machine import ROOT, TARGET, commit, processor

PLUGINS = ROOT / "plugins"

PLACES = ["Lisbon", "Prague", "Oslo", "Naples", "Ghent", "Krakow", "Porto", "Riga"]
NAMES = ["Anna", "Boris", "Chen", "Dora", "Emil", "Fatma", "Goran", "Hana"]
FACTS = ["higher is Everest than Mont Blanc", "longer is the Amazon than the Danube"]
QUESTIONS = ["How do I get there and what does it cost?", "What can I see in the evening?", "How high is the tower?"]
SUBJECTS = ["a school garden", "a town library", "night trains", "cycling to work", "chess in class", "public baths"]


def essay(i):
    """The judge's example, about something else and of a length of its own: an essay that only this instance has."""
    subject, name = SUBJECTS[i % len(SUBJECTS)], NAMES[i % len(NAMES)]
    text = (PLUGINS / "judge/essay.txt").read_text().split("\n\n", 1)[1]
    opening = f"An essay by {name}, number {i + 1}: why every town needs {subject}\n\n"
    ending = f"\n{name} adds: {subject} is worth {i + 3} euros a head.\n"
    return opening + text.replace("garden", subject.split()[-1]) + ending


def documents(i):
    """Four of sixteen documents: neighbours share three, as questions to one library do."""
    originals = (PLUGINS / "multi_document_qa/documents.txt").read_text().rstrip().split("\n\n")
    pool = [text.replace("Harrow", f"{place}") for place in PLACES[:4] for text in originals]
    return [pool[(i + k) % len(pool)] for k in range(4)]


INPUTS = {
    "tree_of_thought": lambda i: {
        "problem": f"A farmer has {17 + i} sheep. All but {9 + i} run away, then {NAMES[i % 8]} gives him {5 + i} "
        "more. How many sheep has he now?"
    },
    "react_agent": lambda i: {
        "question": f"{NAMES[i % 8]} wants to know: how much {FACTS[i % 2]}, and what is that times {i + 2}?"
    },
    "self_consistency": lambda i: {
        "question": f"A box holds {3 + i} rows of 4 eggs. {NAMES[i % 8]} takes {5 + i} eggs. "
        "How many eggs are left in the box?",
        "first_seed": 100 * i,
    },
    "multi_document_qa": lambda i: {
        "question": QUESTIONS[i % 3],
        "documents": documents(i),
    },
    "judge": lambda i: {"essay": essay(i)},
    "multi_turn_chat": lambda i: {
        "messages": [
            f"Hello, my name is {NAMES[i % 8]}. I would like to visit {PLACES[i % 8]} in spring. "
            "What should I see first?",
            f"I have only {2 + i} days. Can you make a short plan?",
            "It may rain. What could I do inside?",
            "Thank you. Please sum up our plan in one sentence.",
        ]
    },
}
# With temperature 0 all samples of a vote would be the same.
TEMPERATURES = {"self_consistency": 0.7}


def build(profile):
    options = ["--release"] if profile == "release" else []
    examples = ["--example", "program_runs", "--example", "completion_server"]
    command = ["cargo", "build", "--quiet", "--locked", *options, "-p", "sglhost-tests", *examples]
    subprocess.run(command, cwd=ROOT, check=True)
    subprocess.run([PLUGINS / "build.sh", *INPUTS], check=True, stderr=subprocess.DEVNULL)
    return TARGET / ("release" if profile == "release" else "debug") / "examples"


def inside(examples, program, batch, sampling, engine):
    component = PLUGINS / f"target/components/{program}.wasm"
    command = [examples / "program_runs", "--program", component, "--batch", batch, *sampling, *engine]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def from_client(examples, program, batch, sampling, engine, round_trip_ms):
    server = subprocess.Popen([examples / "completion_server", *engine], stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().strip()
        command = [sys.executable, PLUGINS / program / "client.py", "--server", url, "--batch", batch, "--stats"]
        command += [*sampling, "--round-trip-ms", str(round_trip_ms)]
        told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        with urllib.request.urlopen(f"{url}/counters") as counters:
            # The client's own figures win where both have one.
            return {**json.load(counters), **told}
    finally:
        server.terminate()
        server.wait()


def figures(told):
    """What a row of the table shows of one measurement."""
    usage, runs = told["usage"], told["runs"]
    # Every token that goes through a forward pass was either sampled or part of a prompt and not cached.
    prefilled = max(told["computed_tokens"] - usage["completion_tokens"], 0)
    return {
        "wall": told["wall_ms"] / 1000,
        "first": statistics.median(run["first_token_ms"] for run in runs),
        "computed": told["computed_tokens"],
        "sampled": usage["completion_tokens"],
        "cached": 1 - min(prefilled / max(usage["prompt_tokens"], 1), 1),
        "steps": told["steps"],
        "busy": told["busy_ms"] / 1000,
        "evicted": told["evicted_tokens"],
        "retracted": told["retractions"],
        "requests": told.get("requests", 0),
        "tokenize": told.get("tokenize_ms", 0) / 1000,
    }


def medians(rounds):
    return {key: statistics.median(figures[key] for figures in rounds) for key in rounds[0]}


def same(a, b):
    """Whether two results are equal; a mean of probabilities may differ in its last digits."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return abs(a - b) < 0.01 if isinstance(a, float) and isinstance(b, float) else a == b


def same_results(host, client):
    pairs = list(zip(host["runs"], client["runs"]))
    return sum(same(inside["result"], outside["result"]) for inside, outside in pairs), len(pairs)


def seconds(figure):
    return f"{figure:.2f}" if figure < 10 else f"{figure:.1f}"


HEADER = """\
### {date}: {profile} build, {rounds} alternating rounds, medians

{processor}, {cores} cores, {threads} of them the engine's; commit {commit}; KV memory of {kv_tokens} tokens; at most
{max_tokens} tokens a call where the program does not say; {network}. Host, then client.

| program | at once | wall, s | client / host | first token, ms | tokens computed | cached share | same results |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""

WHERE_FROM = """
Where the difference comes from. *Computing* is the time in forward passes and sampling; *waiting* is the rest of the
wall time: on the client's side requests, tokenization of the whole text each time, and the client's own code. *Tokens a
step* tells how well calls were batched, *evicted* what memory pressure took from the cache: with a larger
`--kv-tokens` there is none, and what more the client computes then, it computes because its text is tokenized anew.

| program | at once | computing, s | waiting, s | steps | tokens a step | sampled | evicted | retracted | requests | tokenizing, s |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def print_tables(rows, arguments):
    trip = arguments.round_trip_ms
    values = {
        **vars(arguments),
        "date": datetime.date.today(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": arguments.threads or "all",
        "commit": commit(),
        "kv_tokens": arguments.kv_tokens or 8192,
        "network": f"{trip:g} ms of network before each request" if trip else "no network between client and server",
    }
    print(HEADER.format(**values))
    for program, instances, host, client, same in rows:
        print(
            f"| {program} | {instances} | {seconds(host['wall'])}, {seconds(client['wall'])} "
            f"| {client['wall'] / host['wall']:.2f} | {host['first']:.0f}, {client['first']:.0f} "
            f"| {host['computed']:.0f}, {client['computed']:.0f} | {host['cached']:.0%}, {client['cached']:.0%} "
            f"| {same[0]} of {same[1]} |"
        )
    print(WHERE_FROM)
    for program, instances, host, client, _ in rows:
        both = lambda show: f"{show(host)}, {show(client)}"
        whole = lambda name: both(lambda side: f"{side[name]:.0f}")
        cells = [
            program,
            str(instances),
            both(lambda side: seconds(side["busy"])),
            both(lambda side: seconds(side["wall"] - side["busy"])),
            whole("steps"),
            both(lambda side: f"{side['computed'] / side['steps']:.1f}"),
            whole("sampled"),
            whole("evicted"),
            whole("retracted"),
            f"{client['requests']:.0f}",
            f"{client['tokenize']:.2f}",
        ]
        print(f"| {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--instances", default="1,16", help="how many runs at once")
    parser.add_argument("--programs", default=",".join(INPUTS))
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--round-trip-ms", type=float, default=0.0)
    parser.add_argument("--kv-tokens", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--profile", choices=["release", "dev"], default="release")
    arguments = parser.parse_args()
    programs = arguments.programs.split(",")
    unknown = [program for program in programs if program not in INPUTS]
    if unknown:
        raise SystemExit(f"there is no program {unknown[0]}; there are {', '.join(INPUTS)}")
    engine = []
    for name in ["model", "threads", "kv_tokens"]:
        if getattr(arguments, name):
            engine += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    examples = build(arguments.profile)

    rows = []
    for program in programs:
        for instances in map(int, arguments.instances.split(",")):
            temperature = TEMPERATURES.get(program, 0.0)
            sampling = ["--temperature", str(temperature), "--max-tokens", str(arguments.max_tokens)]
            hosts, clients = [], []
            with tempfile.TemporaryDirectory() as folder:
                batch = pathlib.Path(folder) / "batch.jsonl"
                batch.write_text("".join(json.dumps(INPUTS[program](i)) + "\n" for i in range(instances)))
                for number in range(arguments.rounds):
                    print(f"{program}, {instances} at once, round {number + 1}", file=sys.stderr)
                    host = inside(examples, program, batch, sampling, engine)
                    client = from_client(examples, program, batch, sampling, engine, arguments.round_trip_ms)
                    hosts.append(figures(host))
                    clients.append(figures(client))
            rows.append((program, instances, medians(hosts), medians(clients), same_results(host, client)))
    print_tables(rows, arguments)


if __name__ == "__main__":
    main()
