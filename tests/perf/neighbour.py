#!/usr/bin/env python3
"""How fast a tenant streams beside tenants whose programs attack the host, compared with alone; budgets are the default's.

    python3 tests/perf/neighbour.py [--rounds 5] [--seconds 10] [--attackers 8] [--profile release|dev]

Starts `sglhost serve` (which must be built, and have its model) on a folder of its own with three tenants. One streams a
generation; alone and beside attackers in turns. The attackers run, again and again, all the programs of
`tests/attacks/guests` that take what is not a model's: CPU time, memory, stack, handles, contexts, text, events, logs,
automata; one uploads components that have to be compiled. Two further rounds have them call the model as well: then the
engine is shared between tenants, and half is what is due.

Prints a section for MEASUREMENTS.md. A figure means something only on a machine that does nothing else.
"""

import argparse
import datetime
import http.client
import json
import os
import pathlib
import socket
import statistics
import subprocess
import tempfile
import threading
import time

from machine import ROOT, TARGET, commit, processor

GUEST = TARGET / "guests/wasm32-unknown-unknown/release/attacks.wasm"
HARM = [
    "loop", "memory", "recursion", "recursion-in-memory", "emit", "contexts", "forks", "text", "handles", "log-much",
    "regex-bombs", "schema-bombs", "result", "dropped-contexts", "emit-unawaited", "loop",
]
WITH_MODEL = ["tokens", "endless", "forks-overlap", "calls", "scores", "slow-masks"]


class Server:
    def __init__(self, binary, folder):
        self.binary, self.data = binary, folder
        self.keys = {name: self.command("tenant", "add", name) for name in ("alice", "mallory", "trudy")}
        command = [binary, "serve", "--port", "0", "--data", folder, "--log-level", "error"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.address = next(word for word in line.split() if word.startswith("http://")).removeprefix("http://")
        time.sleep(1)

    def command(self, *arguments):
        command = [self.binary, *arguments, "--data", self.data]
        output = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return next((word for word in output.stdout.split() if word.startswith("sgl_")), "")

    def ask(self, key, method, path, body, kind="application/json", opened=None, **headers):
        connection = http.client.HTTPConnection(self.address, timeout=120)
        headers = {"authorization": f"Bearer {self.keys[key]}", "content-type": kind, **headers}
        connection.request(method, path, body, headers)
        if opened is not None:
            opened.add(connection)
        response = connection.getresponse()
        if opened is not None:
            opened.discard(connection)
        return connection, response

    def start(self, key, attack, sampling, **headers):
        body = json.dumps({"arguments": {"attack": attack}, "sampling": sampling})
        return self.ask(key, "POST", "/v1/programs/attacks/runs", body, **headers)


def stream(server, seconds):
    """Deltas a second, from the first on."""
    sampling = {"max_tokens": 2000, "ignore_eos": True, "temperature": 0}
    connection, response = server.start("alice", "answer", sampling, accept="text/event-stream")
    assert response.status == 200, response.read()
    first, count = None, 0
    for line in response:
        if line.startswith(b"event: call.delta"):
            now = time.monotonic()
            first = first or now
            count += 1
            if now - first >= seconds:
                break
    rate = (count - 1) / (time.monotonic() - first)
    connection.close()
    return rate


class Attack:
    """Threads that attack until told to stop."""

    def __init__(self, server, count, programs):
        self.server, self.over, self.ends = server, threading.Event(), {}
        # Those that wait for an answer.
        self.opened = set()
        self.threads = [threading.Thread(target=self.run, args=(i, programs)) for i in range(count)]
        self.threads.append(threading.Thread(target=self.upload))
        for thread in self.threads:
            thread.start()

    def note(self, what):
        self.ends[what] = self.ends.get(what, 0) + 1

    def give_way(self):
        """Attackers sit at other machines: here their clients take what nobody else wants."""
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)

    def run(self, i, programs):
        self.give_way()
        key = ("mallory", "trudy")[i % 2]
        while not self.over.is_set():
            attack = programs[i % len(programs)]
            i += 1
            try:
                connection, response = self.server.start(key, attack, {}, opened=self.opened)
                answer = json.loads(response.read())
                connection.close()
            except (OSError, http.client.HTTPException):
                return self.note("cut off at the end" if self.over.is_set() else "no answer")
            self.note(f"{response.status} {answer.get('error', {}).get('code', 'ok')}")
            if response.status == 429:
                time.sleep(0.2)

    def upload(self):
        self.give_way()
        component = GUEST.read_bytes()
        while not self.over.is_set():
            # A section of no meaning makes it another component.
            marked = component + bytes([0, 13, 4]) + b"mark" + os.urandom(8)
            connection, response = self.server.ask("mallory", "PUT", "/v1/programs/many", marked, "application/wasm")
            response.read()
            connection.close()
            self.note(f"upload {response.status}")

    def stop(self):
        self.over.set()
        # Whoever goes away has the run cancelled.
        for connection in list(self.opened):
            if connection.sock:
                connection.sock.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--attackers", type=int, default=8)
    parser.add_argument("--profile", default="release")
    flags = parser.parse_args()
    binary = TARGET / ("debug" if flags.profile == "dev" else flags.profile) / "sglhost"
    with tempfile.TemporaryDirectory() as folder:
        server = Server(binary, pathlib.Path(folder) / "data")
        try:
            measure(server, flags)
        finally:
            server.process.kill()


def measure(server, flags):
    component = GUEST.read_bytes()
    for key in server.keys:
        connection, response = server.ask(key, "PUT", "/v1/programs/attacks", component, "application/wasm")
        assert response.status == 201, response.read()
        connection.close()
    stream(server, 1)
    print(f"### {datetime.date.today()}: {processor()}, {os.cpu_count()} cores, commit {commit()}\n")
    print("| beside | alone, deltas a second | beside attackers | share |\n| --- | ---: | ---: | ---: |")
    ends = {}
    for what, programs, rounds in [("harm", HARM, flags.rounds), ("harm and calls", HARM + WITH_MODEL, 2)]:
        shares = []
        for _ in range(rounds):
            alone = stream(server, flags.seconds)
            attack = Attack(server, flags.attackers, programs)
            # In full swing.
            time.sleep(1)
            beside = stream(server, flags.seconds)
            attack.stop()
            for end, count in attack.ends.items():
                ends[end] = ends.get(end, 0) + count
            shares.append(beside / alone)
            print(f"| {what} | {alone:.1f} | {beside:.1f} | {beside / alone:.0%} |", flush=True)
        print(f"| {what}, median | | | {statistics.median(shares):.0%} |")
    print("\nThe attacks ended so: " + ", ".join(f"{count} {end}" for end, count in sorted(ends.items())) + ".")


if __name__ == "__main__":
    main()
