"""Prompt programs from the client's side: each step is a plain completion call over HTTP, as in SGLang's frontend.

What the programs in this folder do inside the host, their `client.py` does with this module, for comparison:

- every call sends the whole text so far, and the server tokenizes all of it again;
- a choice is two calls: one for the length of the prompt, one for the log-probabilities of the text with each choice;
- forks are threads, each with a connection of its own that is kept alive.

Standard library only. The server is one that speaks SGLang's `POST /generate`.
"""

import argparse
import concurrent.futures
import http.client
import inspect
import json
import pathlib
import queue
import sys
import threading
import time
import urllib.parse

# SGLang's names of the options that a call may set; `max_tokens` is called `max_new_tokens` there.
DEFAULTS = {"max_new_tokens": 128, "temperature": 1.0}


class Server:
    """A server and the connections to it that are open and idle. Counts what goes over them."""

    def __init__(self, url, defaults=None, round_trip_ms=0.0):
        parsed = urllib.parse.urlsplit(url)
        self.address = (parsed.hostname, parsed.port or 80)
        self.defaults = {**DEFAULTS, **(defaults or {})}
        # A network that is farther away than this machine's own.
        self.round_trip = round_trip_ms / 1000
        self.idle = queue.LifoQueue()
        self.lock = threading.Lock()
        self.requests = 0
        self.sent_bytes = 0

    def generate(self, text, return_logprob=False, logprob_start_len=None, **sampling_params):
        """One request: the answer's object, or a list of them where `text` is a list."""
        body = {"text": text, "sampling_params": {**self.defaults, **sampling_params}}
        if return_logprob:
            body.update(return_logprob=True, logprob_start_len=logprob_start_len)
        data = json.dumps(body).encode()
        with self.lock:
            self.requests += 1
            self.sent_bytes += len(data)
        if self.round_trip:
            time.sleep(self.round_trip)
        try:
            connection = self.idle.get_nowait()
        except queue.Empty:
            connection = http.client.HTTPConnection(*self.address)
        connection.request("POST", "/generate", data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        self.idle.put(connection)
        if response.status != 200:
            raise RuntimeError(f"the server answered {response.status}: {answer['error']['message']}")
        return answer


class Gen:
    """Text to be generated; made by `gen` and `select`."""

    def __init__(self, name, choices=None, **options):
        if "max_tokens" in options:
            options["max_new_tokens"] = options.pop("max_tokens")
        if "seed" in options:
            options["sampling_seed"] = options.pop("seed")
        self.name, self.choices, self.options = name, choices, options


def gen(name, **options):
    return Gen(name, **options)


def select(name, choices):
    return Gen(name, choices=list(choices))


class State:
    """One conversation so far: its text, the results by name, and the scores of each `select`."""

    def __init__(self, server, watch, text="", variables=None, scores=None):
        self.server, self.watch, self.text = server, watch, text
        self.variables, self.scores = dict(variables or {}), dict(scores or {})

    def __getitem__(self, name):
        return self.variables[name]

    def fork(self, count):
        return [self.copy() for _ in range(count)]

    def copy(self):
        return State(self.server, self.watch, self.text, self.variables, self.scores)

    # The chat template, by hand: ChatML, which the default model uses.

    def begin(self, role):
        self.text += f"<|im_start|>{role}\n"

    def end(self):
        self.text += "<|im_end|>\n"

    def role(self, role, *parts):
        self.begin(role)
        self.append(*parts)
        self.end()

    def system(self, *parts):
        self.role("system", *parts)

    def user(self, *parts):
        self.role("user", *parts)

    def assistant(self, *parts):
        self.role("assistant", *parts)

    def append(self, *parts):
        """Appends text and generated text, in order; waits for each call."""
        for part in parts:
            if isinstance(part, str):
                self.text += part
            else:
                self._take(part, *(self._select(part) if part.choices else self._generate(part)))

    def _take(self, asked, text, scores=None):
        self.watch.text_came()
        self.text += text
        self.variables[asked.name] = text
        self.scores[asked.name] = scores

    def _generate(self, asked):
        sent = time.perf_counter()
        answer = self.server.generate(self.text, **asked.options)
        # What a stream would have shown at the earliest.
        first_token_ms = answer["meta_info"].get("first_token_ms")
        if first_token_ms is not None:
            self.watch.text_came(sent + self.server.round_trip + first_token_ms / 1000)
        return (answer["text"],)

    def _select(self, asked):
        """The choice whose tokens have the highest mean log-probability after the text."""
        prompt = self.server.generate(self.text, max_new_tokens=0, temperature=0.0)
        start = max(prompt["meta_info"]["prompt_tokens"] - 1, 0)
        answers = self.server.generate(
            [self.text + choice for choice in asked.choices],
            return_logprob=True,
            logprob_start_len=start,
            max_new_tokens=0,
            temperature=0.0,
        )
        scores = []
        for answer in answers:
            rows = answer["meta_info"]["input_token_logprobs"]
            # The last token of the text is the first row, unless it merged with the choice.
            if len(rows) > 1 and self.text.endswith(rows[0][2]):
                rows = rows[1:]
            scores.append(sum(row[0] for row in rows) / len(rows))
        return asked.choices[scores.index(max(scores))], scores


def parallel(function, *columns):
    """`function(a, b, …)` for each row of `columns`, all at the same time; results in order."""
    rows = list(zip(*columns))
    with concurrent.futures.ThreadPoolExecutor(len(rows)) as pool:
        return [future.result() for future in [pool.submit(function, *row) for row in rows]]


class Watch:
    """When a run began, when its first text came, and when it ended."""

    def __init__(self):
        self.lock = threading.Lock()
        self.started, self.first_text, self.ended = time.perf_counter(), None, None

    def text_came(self, at=None):
        at = at or time.perf_counter()
        with self.lock:
            self.first_text = min(at, self.first_text or at)


def run(program, server, arguments):
    """Runs a program; gives back its result and its watch."""
    watch = Watch()
    result = program(State(server, watch), **arguments)
    watch.ended = time.perf_counter()
    return result, watch


def main(program):
    """The command line of a program."""
    names = inspect.signature(program).parameters
    parser = argparse.ArgumentParser(description=inspect.getdoc(program))
    parser.add_argument("--server", default="http://127.0.0.1:30000", help="where POST /generate is served")
    parser.add_argument("--args", default="{}", help=f"a JSON object with some of: {', '.join(list(names)[1:])}")
    parser.add_argument("--batch", type=pathlib.Path, help="a file of such objects, one a line: all run at once")
    parser.add_argument("--temperature", type=float, default=DEFAULTS["temperature"])
    parser.add_argument("--max-tokens", type=int, default=DEFAULTS["max_new_tokens"])
    parser.add_argument("--round-trip-ms", type=float, default=0.0, help="wait this long before each request")
    parser.add_argument("--stats", action="store_true", help="print one object with results and times")
    given = parser.parse_args()
    defaults = {"temperature": given.temperature, "max_new_tokens": given.max_tokens}
    server = Server(given.server, defaults, given.round_trip_ms)
    lines = given.batch.read_text().splitlines() if given.batch else [given.args]
    batch = [json.loads(line) for line in lines]

    started = time.perf_counter()
    runs = parallel(lambda arguments: run(program, server, arguments), batch)
    wall = time.perf_counter() - started
    if not given.stats:
        for result, _ in runs:
            print(json.dumps(result, ensure_ascii=False))
        return
    milliseconds = lambda watch, at: round((at - watch.started) * 1000, 3)
    json.dump(
        {
            "wall_ms": round(wall * 1000, 3),
            "requests": server.requests,
            "sent_bytes": server.sent_bytes,
            "runs": [
                {
                    "result": result,
                    "first_token_ms": milliseconds(watch, watch.first_text),
                    "wall_ms": milliseconds(watch, watch.ended),
                }
                for result, watch in runs
            ],
        },
        sys.stdout,
    )
    print()
