"""What the page promises, in a real browser against a real server: one function a promise.

Usage: checks.py SGLHOST COMPONENTS PICTURES. Run by run.sh, which builds what it takes.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import hostile
from chromium import Browser, find
from serving import Server

# Bytes of all the page's files together.
PAGE_BYTES_MAX = 100_000
STATUS = "document.querySelector('.run .status')?.textContent"
GENERATED = "[...document.querySelectorAll('.generated')].map((e) => e.textContent).join('|')"
RUN = "#program form button.primary"


class Checks:
    """The checks, and what they share: a browser, a server with programs, a folder for pictures."""

    def __init__(self, browser, server, components, pictures):
        self.browser = browser
        self.server = server
        self.components = components
        self.pictures = pictures
        self.opened = []

    def open(self, where="", **look):
        """Opens the page; whatever it complains of fails the check at its end."""
        page = self.browser.page(f"{self.server.url}/{where}", **look)
        self.opened.append(page)
        page.until("document.querySelector('#about').textContent !== ''")
        return page

    def program(self, name, **look):
        """Opens the page at a program, its form built."""
        page = self.open(f"#/program/{name}", **look)
        page.until(f"document.querySelector('#program-title')?.textContent.startsWith('{name}')")
        return page

    def run(self, page, status="succeeded", timeout=60):
        """Runs the program that is open, to its end; where chance would decide how long that takes, it does not."""
        page.eval("document.querySelector('.sampling').open = true")
        page.fill(self.field(page, "temperature"), "0")
        page.click(RUN)
        page.until(f"{STATUS} === '{status}'", timeout)

    def settle(self):
        """Closes what a check opened: no script failed, the policy refused nothing, nothing came from elsewhere."""
        for page in self.opened:
            violations = page.eval("window.violations")
            foreign = [url for url in page.urls if not url.startswith((self.server.url, "data:", "about:"))]
            assert not page.complaints, page.complaints
            assert not violations, violations
            assert not foreign, foreign
            page.close()
        self.opened = []

    # Programs.

    def uploads_a_chosen_file(self):
        page = self.open()
        page.choose_file("#file", self.components / "tree_of_thought.wasm")
        page.until("document.querySelector('dialog[open] #upload-name')?.value === 'tree_of_thought'")
        page.click("dialog .primary")
        page.until("document.querySelector('#program-title')?.textContent === 'tree_of_thought@1'")
        assert "tree_of_thought" in page.text("#programs"), page.text("#programs")
        assert page.eval("document.querySelector('dialog') === null")

    def uploads_a_dropped_file_under_another_name(self):
        page = self.open()
        page.drop_file(self.components / "multi_turn_chat.wasm")
        page.until("document.querySelector('dialog[open] #upload-name')")
        page.fill("#upload-name", "Not A Name")
        page.press("Enter")
        page.until("document.querySelector('dialog .error').innerText.includes('a-z')")
        page.fill("#upload-name", "dropped")
        page.fill("#upload-tag", "stable")
        page.press("Enter")
        page.until("document.querySelector('#program-title')?.textContent === 'dropped@1'")
        assert "stable" in page.text("#program .meta")

    def shows_what_is_wrong_with_a_component(self):
        with tempfile.NamedTemporaryFile(suffix=".wasm") as file:
            file.write(b"\0asm\x01\0\0\0 no component")
            file.flush()
            page = self.open()
            page.drop_file(file.name)
            page.until("document.querySelector('dialog[open]')")
            page.fill("#upload-name", "broken")
            page.press("Enter")
            page.until("document.querySelector('dialog .error pre')?.innerText.length > 10")
        assert [status for status, _ in page.refused] == [422], page.refused
        self.picture(page, "broken-component")

    # Forms.

    def builds_a_form_from_the_schema(self):
        page = self.program("tree_of_thought")
        labels = page.eval("[...document.querySelectorAll('#program .fields:not(.row) label')].map((e) => e.innerText)")
        assert sorted(labels) == ["beam", "branches", "depth", "problem"], labels
        text = page.text("#program form")
        assert "Steps of reasoning." in text and "integer, from 0 to 255" in text, text
        depth = self.field(page, "depth")
        assert page.eval(f"document.querySelector('{depth}').value") == "3"
        for typed in ("x", "3.5", "256", "-1"):
            page.fill(depth, typed)
            page.click(RUN)
            assert page.eval(f"document.activeElement.matches('{depth}[aria-invalid]')"), typed
        assert not any(url.endswith("/runs") for url in page.urls), page.urls
        problem = self.field(page, "problem")
        assert page.eval(f"document.querySelector('{problem}').tagName") == "TEXTAREA"

    def checks_lists_as_json(self):
        page = self.program("multi_turn_chat")
        messages = self.field(page, "messages")
        for typed in ('["Hello"', '{"a": 1}'):
            page.fill(messages, typed)
            page.click(RUN)
            assert page.eval(f"document.activeElement.matches('{messages}[aria-invalid]')"), typed
        page.fill(messages, '["Say hello."]')
        page.eval("document.querySelector('.sampling').open = true")
        page.fill(self.field(page, "max_tokens"), "5")
        page.fill(self.field(page, "seed"), "18446744073709551615")
        self.run(page)
        assert page.eval("document.querySelectorAll('.bar').length") == 1

    # Runs.

    def streams_a_run_and_draws_its_forks(self):
        # High enough for the text to be in sight: what is not is put in place at the end.
        page = self.program("tree_of_thought", width=1600, height=2000)
        page.eval("document.querySelector('.sampling').open = true")
        page.fill(self.field(page, "temperature"), "0")
        page.click(RUN)
        lengths = set()
        deadline = time.monotonic() + 60
        status = "running"
        while status != "succeeded" and time.monotonic() < deadline:
            status, length = page.eval(f"[{STATUS}, {GENERATED}.length]")
            lengths.add((status, length))
        streamed = {length for status, length in lengths if status == "running" and length > 0}
        assert len(streamed) > 1, f"the text did not stream: {lengths}"
        contexts = page.eval("document.querySelectorAll('.timeline .lane').length")
        indents = len(set(page.eval("[...document.querySelectorAll('.lane-label')].map((e) => e.getAttribute('x'))")))
        labels = page.eval("[...document.querySelectorAll('.bar')].map((e) => e.ariaLabel)")
        names = sorted({label.split(" ")[0] for label in labels})
        # Three levels of three ideas, each with its judge, and those that are forked from.
        assert contexts > 20 and indents > 3, (contexts, indents)
        assert names == ["answer", "rating", "step_1", "step_2", "step_3"], names
        assert page.eval("document.querySelectorAll('.branch[d]').length") == contexts - 1
        for part in ("cached", "fresh", "output"):
            widths = page.eval(f"[...document.querySelectorAll('.bar .{part}')].map((e) => e.width.baseVal.value)")
            assert max(widths) > 1, (part, widths)
        assert '"answer"' in page.text(".run pre"), page.text(".run")
        totals = page.text(".totals").replace(",", "")
        assert all(int(number) > 0 for number in totals.split() if number.isdigit()), totals
        page.eval("document.querySelector('.bar[tabindex=\"0\"]').focus()")
        page.press("ArrowRight")
        assert "output tokens" in page.text(".detail"), page.text(".detail")
        page.click(".calls summary")
        page.until("document.querySelectorAll('.calls tbody tr').length === document.querySelectorAll('.bar').length")
        page.look(1600, 1000)
        self.picture(page, "run-light-wide")
        page.look(1600, 1000, dark=True)
        self.picture(page, "run-dark-wide")

    def cancels_a_run(self):
        page = self.program("tree_of_thought")
        page.fill(self.field(page, "depth"), "200")
        page.click(RUN)
        page.until("document.querySelectorAll('.bar .output[width]').length > 0")
        page.click(".run-head button")
        page.until(f"{STATUS} === 'cancelled'", 20)
        assert "cancelled" in page.text(".run .error"), page.text(".run")
        page.until("document.querySelector('#runs .status').textContent === 'cancelled'")

    def shows_the_code_and_message_of_a_failure(self):
        page = self.program("tree_of_thought")
        page.fill(self.field(page, "branches"), "0")
        self.run(page, "failed")
        error = page.text(".run .error")
        assert "program" in error and "branches and beam must be at least 1" in error, error

    def opens_a_run_again(self):
        page = self.program("tip_suggestion")
        self.run(page)
        # All is put in place once the run has ended.
        page.until("document.querySelectorAll('.block').length === 3")
        page.eval("new Promise((done) => setTimeout(done, 300))")
        first = page.eval(GENERATED)
        page.send("Page.reload")
        page.until(f"window.violations && {STATUS} === 'succeeded'")
        page.until(f"{GENERATED} === {json.dumps(first)}")
        assert page.eval("document.querySelectorAll('.timeline .lane').length") == 3
        assert page.eval("document.querySelectorAll('.bar').length") == 3
        page.until("document.querySelector('#runs .status').textContent === 'succeeded'")
        # Events are told again with the times that they had.
        assert page.eval("document.querySelector('.run .notice').hidden")
        assert page.eval("[...document.querySelectorAll('.axis text')].every((mark) => / m?s$/.test(mark.textContent))")

    def shows_what_the_engine_does(self):
        page = self.open()
        gauges = page.text("#gauges")
        assert all(name in gauges for name in ("running", "queued", "KV slots")), gauges
        asked = "performance.getEntriesByType('resource').filter((e) => e.name.endsWith('/v1/status')).length"
        page.until(f"{asked} >= 2", 10)

    # Safety.

    def shows_hostile_programs_as_text(self):
        page = self.program("hostile")
        assert hostile.TITLE in page.text("#program .title"), page.text("#program")
        assert "<script>alert(2)</script>⟨U+202E⟩⟨ESC⟩[2J" in page.text("#program .description")
        self.run(page)
        page.until("document.querySelectorAll('.block').length === 3")
        assert f"{hostile.MARKUP}</div>⟨U+202E⟩⟨ESC⟩[2J" in page.text(".block .text"), page.text(".block .text")
        assert "<i>⟨ESC⟩[2J" in page.text(".variables"), page.text(".variables")
        page.eval("document.querySelectorAll('details').forEach((e) => (e.open = true))")
        page.until("document.querySelectorAll('.calls tbody tr').length === 3")
        self.picture(page, "hostile")
        made = page.eval("document.querySelectorAll('main img, main script, main i, main svg[onload]').length")
        assert made == 0, "markup of a program became elements"
        hidden = page.eval("/[\\u202e\\u001b]/.test(document.documentElement.outerHTML)")
        assert not hidden, "hidden characters reached the document"
        assert not any(url.endswith("/x") for url in page.urls), page.urls

    def stands_a_flood_of_events(self):
        page = self.open()
        facts = page.eval(FLOOD)
        assert facts["events"] == 100_000 and facts["kept"] <= 60_000, facts
        assert facts["text"] == "a⟨ESC⟩b\n⟨U+202E⟩⟨U+E0041⟩ ⟨CR⟩⟨U+D800⟩", facts
        assert facts["json"] == '{\n  "n": 12345678901234567890,\n  "l": [\n    1,\n    []\n  ]\n}', facts["json"]
        assert facts["ms"] < 5000, facts

    def is_small_and_asks_for_nothing_inline(self):
        page = self.open()
        page.until("document.querySelector('#program').textContent !== ''")
        sizes = page.eval(
            "performance.getEntriesByType('resource').filter((e) => e.name.includes('/assets/'))"
            ".concat(performance.getEntriesByType('navigation')).map((e) => e.encodedBodySize)"
        )
        assert 0 < sum(sizes) < PAGE_BYTES_MAX, sizes
        policy = page.eval(
            "fetch('/').then((answer) => answer.headers.get('content-security-policy'))"
        )
        assert "default-src 'none'" in policy and "unsafe" not in policy, policy
        assert page.eval("document.querySelectorAll('[style]:not(textarea), script:not([src]), style').length") == 0

    # Looks.

    def fits_narrow_and_wide_windows_in_both_schemes(self):
        page = self.program("judge", width=400, height=800)
        page.eval("document.querySelector('.sampling').open = true")
        page.fill(self.field(page, "max_tokens"), "30")
        self.run(page)
        for width in (400, 700, 1000, 1600):
            for dark in (False, True):
                page.look(width, 900, dark)
                page.eval("new Promise((done) => setTimeout(done, 150))")
                over = page.eval("document.documentElement.scrollWidth - innerWidth")
                assert over <= 0, f"{over} pixels do not fit a width of {width}"
                low = page.eval(CONTRAST)
                assert not low, f"too little contrast at {width}, dark {dark}: {low}"
                self.picture(page, f"judge-{width}-{'dark' if dark else 'light'}", whole=width == 400)

    def is_used_with_the_keyboard(self):
        page = self.program("tip_suggestion")
        unnamed = page.eval(
            "[...document.querySelectorAll('input, textarea, select, button, a[href]')]"
            ".filter((e) => e.checkVisibility() && !(e.labels?.length || e.ariaLabel || e.innerText))"
            ".map((e) => e.outerHTML)"
        )
        assert not unnamed, unnamed
        page.eval("document.querySelector('#programs a').focus()")
        stops = []
        for _ in range(60):
            page.press("Tab")
            stops.append(page.eval("document.activeElement.innerText"))
            if stops[-1] == "Run":
                break
        assert stops[-1] == "Run", stops
        page.press("Enter")
        page.until("location.hash.startsWith('#/run/')")
        page.until("document.activeElement.id === 'run-title'")
        page.until("document.querySelectorAll('.bar').length > 0")
        page.press("Tab")
        page.press("Enter")
        page.until(f"{STATUS} === 'cancelled'", 20)

    # Last: from here on the server asks for keys.

    def asks_for_a_key(self):
        key = self.server.add_tenant("page-tests")
        self.server.upload("tip_suggestion", self.components / "tip_suggestion.wasm", key)
        page = self.browser.page(f"{self.server.url}/#/program/tip_suggestion")
        self.opened.append(page)
        page.until("document.querySelector('dialog[open] #key')")
        self.picture(page, "key")
        # Escape shows nothing that a key would.
        for _ in range(2):
            page.press("Escape")
        page.until("document.querySelector('dialog[open] #key')")
        page.fill("#key", "sgl_wrong0_" + "0" * 43)
        page.press("Enter")
        page.until("document.querySelector('dialog[open]')?.innerText.includes('does not accept')")
        page.fill("#key", key)
        page.press("Enter")
        page.until("document.querySelector('#program-title')?.textContent.startsWith('tip_suggestion@')")
        assert "live runs" in page.text("#gauges"), page.text("#gauges")
        self.run(page)
        assert page.eval("document.querySelector('dialog') === null")
        assert not any(key in url for url in page.urls) and key not in page.eval("document.cookie + location.href")
        assert page.eval("Object.keys(localStorage).length") == 0
        page.click("#forget-key")
        page.until("document.querySelector('dialog[open] #key')")

    def field(self, page, name):
        """The selector of the field of that name."""
        found = page.eval(
            f"[...document.querySelectorAll('label')].find((e) => e.firstChild.textContent === '{name}')?.htmlFor"
        )
        assert found, f"no field {name}: {page.text('#program')}"
        return f"#{found}"

    def picture(self, page, name, whole=False):
        """Takes a picture, for people to look at."""
        page.eval("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        page.picture(self.pictures / f"{name}.png", whole)


# 100,000 events in pieces that end anywhere, through the page's own parser and reducer.
FLOOD = r"""
(async () => {
  const { Parser } = await import("/assets/sse.js");
  const { RunState } = await import("/assets/run_state.js");
  const { visible, indented } = await import("/assets/text.js");
  const began = performance.now();
  const state = new RunState();
  let events = 0;
  const parser = new Parser(({ id, type, data }) => {
    events += 1;
    const event = JSON.parse(data);
    if (Number(id) !== events || type !== event.type) throw new Error(`${id} ${type}`);
    state.take({ ...event, at_ms: events });
  });
  const line = (id, event) => `id: ${id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
  let text = ":\n\n" + line(1, { type: "context.opened", context: 0 });
  for (let id = 2; id <= 100000; id += 1) {
    text += line(id, { type: "call.delta", call: 0, context: 0, text: "some words, and others. " });
    if (text.length > 9000) {
      for (let at = 0; at < text.length; at += 1013) parser.push(text.slice(at, at + 1013));
      text = "";
    }
  }
  parser.push(text);
  return {
    events, kept: state.contexts.get(0).text, ms: performance.now() - began,
    text: visible("a\u001bb\n\u202e\u{e0041} \r\ud800"), json: indented('{"n":12345678901234567890,"l":[1,[]]}'),
  };
})()
"""

# Texts whose contrast with what is behind them is below 4.5 (WCAG AA).
CONTRAST = r"""
(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (color) => [...color].slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const low = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim() !== "");
    if (!own || !element.checkVisibility() || element.closest("svg, :disabled, .skip")) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.add(`${element.className || element.tagName}: ${element.textContent}`);
  }
  return [...low].slice(0, 10).join("; ");
})()
"""


def main():
    """Runs every check; says which failed and why."""
    binary, components, pictures = sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve()
    names = [name for name, value in vars(Checks).items() if callable(value) and not name.startswith("_")]
    shared = {"open", "program", "run", "settle", "field", "picture"}
    names = [name for name in names if name not in shared]
    failed = []
    with Server(binary, pictures / "server.log") as server, Browser(find()) as browser:
        twin = pictures / "hostile.wasm"
        hostile.make(components / "tip_suggestion.wasm", twin)
        server.upload("hostile", twin)
        for name in ("tip_suggestion", "multi_turn_chat", "judge"):
            server.upload(name, components / f"{name}.wasm")
        for name in names:
            began = time.monotonic()
            checks = Checks(browser, server, components, pictures)
            try:
                getattr(checks, name)()
                checks.settle()
                said = "ok"
            except AssertionError as error:
                failed.append(name)
                said = f"FAILED: {error!r}"
                if checks.opened:
                    checks.opened[-1].picture(pictures / f"failed-{name}.png")
            print(f"{name.replace('_', ' ')} ... {said} ({time.monotonic() - began:.1f} s)", flush=True)
    print(f"{len(names) - len(failed)} of {len(names)} ok; pictures are in {pictures}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
