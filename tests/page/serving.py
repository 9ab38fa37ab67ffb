"""A server of its own for the tests of the page: `sglhost serve` on a free port, its data in a temporary folder."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

# What the user of this machine has set must not decide a test.
UNSET = ["SGLHOST_SERVER", "SGLHOST_KEY", "SGLHOST_DATA"]
UNSET += ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"]


def environment():
    """The environment of the binary."""
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return {**kept, "SGLHOST_DEVICE": "cpu"}


class Server:
    """`sglhost serve`, until the end of the block."""

    def __init__(self, binary, log):
        self._binary = binary
        self._log = log
        self.data = tempfile.mkdtemp(prefix="sglhost-page-")
        self.url = None
        self._process = None

    def __enter__(self):
        command = [self._binary, "serve", "--port", "0", "--data", self.data]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=environment(), text=True
            )
        # Once it serves, it says where.
        line = self._process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found is None:
            self.__exit__()
            raise AssertionError(f"the server did not start: {line}; {self._log} says more")
        self.url = found[0]
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        shutil.rmtree(self.data, ignore_errors=True)

    def upload(self, name, component, key=None):
        """Uploads a program, past the page."""
        with open(component, "rb") as file:
            headers = {"content-type": "application/wasm"}
            if key is not None:
                headers["authorization"] = f"Bearer {key}"
            request = urllib.request.Request(f"{self.url}/v1/programs/{name}", file.read(), headers, method="PUT")
        try:
            return json.load(urllib.request.urlopen(request, timeout=60))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{name} is refused: {error.read().decode()}") from error

    def add_tenant(self, name):
        """Adds a tenant, by which the server begins to ask for keys; gives back its key once that is so."""
        command = [self._binary, "tenant", "add", name, "--data", self.data]
        added = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
        key = re.search(r"sgl_[0-9A-Za-z]+_[0-9A-Za-z]+", added.stdout + added.stderr)[0]
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.url}/v1/status", timeout=5)
            except urllib.error.HTTPError as error:
                if error.code == 401:
                    return key
            time.sleep(0.1)
        raise AssertionError("the server asks for no key though it has a tenant")
