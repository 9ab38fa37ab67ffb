"""Drives a headless Chromium over its DevTools protocol, by the pipe that `--remote-debugging-pipe` opens.

Python's standard library and a browser are all it needs: no driver is downloaded, no port is opened.
Owns: the browser's process and its profile, both gone at the end. Invariant: whatever a page complains about is kept in
`complaints`, and no dialog of it is ever answered with yes.
"""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

NAMES = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome"]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--remote-debugging-pipe",
]
# Runs before the page's own scripts: what the policy refuses is told to a page, not to its driver.
COLLECT_VIOLATIONS = """
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) =>
      violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""


class Failed(AssertionError):
    """What was waited for did not come, or the browser answered with an error."""


def find():
    """The browser: what SGLHOST_CHROMIUM names, or the first that is installed. None if there is none."""
    named = os.environ.get("SGLHOST_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A browser with a fresh profile."""

    def __init__(self, executable):
        self.profile = tempfile.mkdtemp(prefix="sglhost-chromium-")
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()

        # It reads descriptor 3 and writes 4. Moved up first: either may be 3 or 4 itself.
        def place():
            high = [os.dup2(end, number) for end, number in ((commands, 30), (answers, 31))]
            for end, number in zip(high, (3, 4)):
                os.dup2(end, number)

        self._process = subprocess.Popen(
            [executable, *FLAGS, f"--user-data-dir={self.profile}", "about:blank"],
            preexec_fn=place,
            # `place` makes the only two that are inherited.
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(commands)
        os.close(answers)
        self._received = b""
        self._last_id = 0
        self._waiting = {}
        self.pages = {}

    def close(self):
        """Ends the browser and what it left on the disk."""
        try:
            self.send("Browser.close")
            self._process.wait(10)
        except (Failed, OSError, subprocess.TimeoutExpired):
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._commands)
        os.close(self._answers)
        shutil.rmtree(self.profile, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, method, parameters=None, session=None, timeout=60):
        """Sends a command and waits for its answer."""
        number = self.post(method, parameters, session)
        deadline = time.monotonic() + timeout
        while number not in self._waiting:
            self.take(deadline - time.monotonic(), f"{method} to be answered")
        answer = self._waiting.pop(number)
        if "error" in answer:
            raise Failed(f"{method}: {answer['error']}")
        return answer["result"]

    def post(self, method, parameters=None, session=None):
        """Sends a command and waits for nothing."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters or {}}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        return self._last_id

    def take(self, seconds, what):
        """Waits for something from the browser, and takes it in."""
        if not select.select([self._answers], [], [], max(seconds, 0))[0]:
            raise Failed(f"waited in vain for {what}")
        data = os.read(self._answers, 1 << 20)
        if not data:
            raise Failed("the browser has ended")
        *messages, self._received = (self._received + data).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._waiting[message["id"]] = message
            elif message.get("sessionId") in self.pages:
                self.pages[message["sessionId"]].take(message["method"], message["params"])

    def page(self, url, width=1280, height=900, dark=False):
        """Opens a page in a profile of its own: its storage is empty."""
        context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", {"url": "about:blank", "browserContextId": context})["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = Page(self, session, target)
        self.pages[session] = page
        for domain in ("Page", "Runtime", "Log", "DOM", "Network"):
            page.send(f"{domain}.enable")
        page.send("Page.addScriptToEvaluateOnNewDocument", {"source": COLLECT_VIOLATIONS})
        page.look(width, height, dark)
        page.go(url)
        return page


class Page:
    """A tab."""

    def __init__(self, browser, session, target):
        self._browser = browser
        self._session = session
        self._target = target
        # Errors of scripts and of the policy, warnings, dialogs.
        self.complaints = []
        # Answers that are no success, which a browser lists among its errors: `(status, path)`.
        self.refused = []
        # Every URL that was asked for.
        self.urls = []

    def send(self, method, parameters=None, timeout=60):
        """Sends a command of the protocol."""
        return self._browser.send(method, parameters, self._session, timeout)

    def take(self, method, event):
        """Takes in what the browser tells of the page."""
        if method == "Runtime.exceptionThrown":
            details = event["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.complaints.append(f"console: {event['args']}")
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            if event["entry"]["source"] != "network":
                self.complaints.append(f"{event['entry']['source']}: {event['entry']['text']}")
        elif method == "Network.requestWillBeSent":
            self.urls.append(event["request"]["url"])
        elif method == "Network.responseReceived" and event["response"]["status"] >= 400:
            self.refused.append((event["response"]["status"], event["response"]["url"]))
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"a dialog: {event['message']}")
            self._browser.post("Page.handleJavaScriptDialog", {"accept": False}, self._session)

    def look(self, width, height, dark=False):
        """Sets the window's size and the reader's preference."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", {"features": [scheme]})

    def go(self, url):
        """Goes there."""
        self.send("Page.navigate", {"url": url})
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def eval(self, script):
        """The value of an expression; a promise's once it has one."""
        parameters = {"expression": script, "awaitPromise": True, "returnByValue": True}
        answer = self.send("Runtime.evaluate", parameters)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise Failed(f"{script}: {details.get('exception', {}).get('description') or details['text']}")
        return answer["result"].get("value")

    def until(self, script, timeout=30):
        """Waits until an expression is true."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.eval(f"!!({script})"):
                return
            time.sleep(0.03)
        raise Failed(f"waited {timeout} s in vain for: {script}\nThe page says: {self.text()[:2000]}")

    def text(self, selector="body"):
        """What is to be read in the first such element."""
        return self.eval(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def click(self, selector):
        """Clicks the middle of an element, as a mouse does."""
        found = json.dumps(selector)
        self.until(f"document.querySelector({found})?.checkVisibility()")
        box = self.eval(
            f"(() => {{ const e = document.querySelector({found}); e.scrollIntoView({{ block: 'center' }});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            mouse = {"type": kind, "x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            self.send("Input.dispatchMouseEvent", mouse)

    def fill(self, selector, text):
        """Types a text into a field in place of its own."""
        found = json.dumps(selector)
        self.eval(f"(() => {{ const e = document.querySelector({found}); e.focus(); e.select(); }})()")
        if text:
            self.send("Input.insertText", {"text": text})
        else:
            self.press("Delete")

    def press(self, key, modifiers=0):
        """Presses a key."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowRight": 39, "ArrowLeft": 37, "Delete": 46}
        for kind in ("keyDown", "keyUp"):
            event = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": codes[key], "modifiers": modifiers}
            if key == "Enter" and kind == "keyDown":
                event["text"] = "\r"
            self.send("Input.dispatchKeyEvent", event)

    def choose_file(self, selector, path):
        """Gives a file to an `<input type=file>`."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
        self.send("DOM.setFileInputFiles", {"files": [str(path)], "nodeId": node})

    def drop_file(self, path, x=200, y=300):
        """Drags a file in from outside and drops it."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        # A drop counts only after the page's answer to what came before has made its way.
        for kind in ("dragEnter", "dragOver", "dragOver", "dragOver", "drop"):
            time.sleep(0.05)
            self.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})

    def picture(self, path, whole=False):
        """Takes a picture, of the window or of all there is."""
        answer = self.send("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        with open(path, "wb") as file:
            file.write(base64.b64decode(answer["data"]))

    def close(self):
        """Closes the tab."""
        self._browser.send("Target.closeTarget", {"targetId": self._target})
