// One run on the page. Owns: when what is drawn, so that 100,000 events do not draw 100,000 times.

import { attribute, el, errorParts, put, say } from "./dom.js";
import { TEXT_MAX } from "./run_state.js";
import { clipped, count, duration, indented } from "./text.js";
import { Timeline, lengthOf, tokensOf, told } from "./timeline.js";
import { Transcript } from "./transcript.js";

const TABLE_ROWS_MAX = 1000;
/** Milliseconds between two drawings of the timeline of a run under way. */
const TIMELINE_EVERY = 120;

export class RunView {
  element;
  #session;
  #transcript;
  #timeline;
  #frame = 0;
  #timer = 0;
  #drawnAt = -Infinity;
  #quietUntil = 0;
  #missed = false;
  #ended = false;
  #parts;
  #watch;
  #clock;

  constructor(session) {
    this.#session = session;
    this.#transcript = new Transcript(session.state);
    this.#timeline = new Timeline(session);
    this.#build();
    session.onchange = () => this.#plan();
    this.#transcript.onseen = () => this.#plan();
    this.#watch = new ResizeObserver(() => this.#timeline.update());
    this.#watch.observe(this.#parts.timeline);
    // Time goes on without events.
    this.#clock = setInterval(() => this.#plan(), TIMELINE_EVERY);
    this.#plan();
  }

  /** Stops drawing. The run goes on. */
  close() {
    this.#session.onchange = () => {};
    this.#watch.disconnect();
    this.#transcript.close();
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    clearInterval(this.#clock);
  }

  #build() {
    const session = this.#session;
    const parts = {
      status: el("span", { class: "status", role: "status" }),
      time: el("span", { class: "dim" }),
      cancel: el("button", { type: "button", on: { click: () => this.#cancel() } }, "Cancel"),
      totals: el("dl", { class: "totals" }),
      note: el("p", { class: "notice", hidden: true }),
      error: el("div", { class: "error", role: "alert", hidden: true }),
      result: el("section", { hidden: true }),
      calls: el("details", { class: "calls", on: { toggle: () => this.#table() } }, el("summary", {}, "Calls")),
      timeline: el("section", { class: "timeline-section" }),
      own: el("section", { hidden: true }),
      text: el("section", { class: "text-section" }, el("h3", {}, "Text"), this.#transcript.element),
    };
    parts.timeline.append(el("h3", {}, "Timeline"), this.#timeline.element, parts.calls);
    this.#parts = parts;
    this.element = el("section", { class: "run", "aria-labelledby": "run-title" },
      el("header", { class: "run-head" },
        el("h2", { id: "run-title", tabindex: "-1" }, "Run of ", el("bdi", {}, session.program)),
        parts.status, parts.time, el("code", { class: "dim id" }, session.id), parts.cancel),
      parts.note, parts.error, parts.totals, parts.result, parts.timeline, parts.own, parts.text);
  }

  #plan() {
    if (this.#frame || this.#timer) return;
    const wait = this.#quietUntil - performance.now();
    this.#missed = wait === Infinity;
    if (this.#missed) return;
    if (wait > 0) this.#timer = setTimeout(() => this.#request(), wait);
    else this.#request();
  }

  #request() {
    this.#timer = 0;
    this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    const began = performance.now();
    const { state } = this.#session;
    const first = state.ended && !this.#ended;
    this.#ended = state.ended;
    this.#transcript.update();
    this.#head();
    let more = false;
    if (first || began - this.#drawnAt > TIMELINE_EVERY) {
      more = this.#timeline.update();
      this.#own();
      this.#drawnAt = more ? -Infinity : began;
    }
    if (first) this.#result();
    // Less than half of the time is spent on drawing, however much there is. A timer that is set now comes after layout
    // and paint.
    this.#quietUntil = Infinity;
    setTimeout(() => {
      const now = performance.now();
      this.#quietUntil = now + Math.max(0, 1.5 * (now - began) - 16);
      if (this.#missed) this.#plan();
    });
    if (state.ended && !more) clearInterval(this.#clock);
  }

  #head() {
    const { state, wallTimeMs, note } = this.#session;
    say(this.#parts.status, state.status);
    attribute(this.#parts.status, "data-status", state.status);
    attribute(this.#parts.cancel, "hidden", state.ended);
    const time = wallTimeMs ?? (state.ended ? null : this.#session.now);
    say(this.#parts.time, time === null ? "" : duration(time));
    const { prompt_tokens: prompt, cached_tokens: cached, completion_tokens: output } = state.usage;
    const totals = [
      ["prompt tokens", count(prompt)], ["of them cached", count(cached)], ["output tokens", count(output)],
    ];
    if (state.callsTotal > 0) totals.push(["calls", count(state.callsTotal)], ["contexts", count(state.contextsTotal)]);
    if (state.ended && state.cpuTimeUs !== null) totals.push(["own CPU time", duration(state.cpuTimeUs / 1000)]);
    put(this.#parts.totals, totals.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
    put(this.#parts.note, note);
    attribute(this.#parts.note, "hidden", note === "");
    attribute(this.#parts.timeline, "hidden", state.contextsTotal === 0);
    attribute(this.#parts.text, "hidden", state.contextsTotal === 0);
  }

  #result() {
    const { state } = this.#session;
    const { error, result } = this.#parts;
    if (state.error) {
      put(error, errorParts(state.error));
      error.hidden = false;
    }
    const shown = [];
    if (state.result !== null && state.result !== "null") {
      const text = state.result.length <= TEXT_MAX ? indented(state.result) : state.result;
      shown.push(el("h3", {}, "Result"), pre(text));
    }
    if (state.variables.size > 0) shown.push(el("h3", {}, "Variables"), variables(state.variables));
    if (state.forks.size > 0) {
      const forks = [...state.forks].sort(([a], [b]) => a - b).slice(0, 100).map(([context, named]) =>
        el("div", {}, el("h4", {}, `Context ${context}`), variables(named)));
      shown.push(el("details", {}, el("summary", {}, `Variables of ${count(state.forks.size)} forks`), forks));
    }
    put(result, ...shown);
    result.hidden = shown.length === 0;
    this.#table();
  }

  // What the program sent or logged itself.
  #own() {
    const { channels, log, version } = this.#session.state;
    if ((channels.size === 0 && log.length === 0) || this.ownVersion === version) return;
    this.ownVersion = version;
    const noted = ({ text, dropped }) => (dropped === 0 ? text : `${text}\n… ${count(dropped)} more are not shown.`);
    const shown = [...channels].slice(0, 50).flatMap(([name, text]) =>
      [el("h3", {}, "Sent on ", el("bdi", {}, name)), el("pre", { tabindex: "0" }, noted(text))]);
    if (log.length > 0) {
      const parts = log.slice(0, 200).map((part) => el("span", { class: part.stream }, noted(part)));
      shown.push(el("h3", {}, "Log"), el("pre", { tabindex: "0" }, parts));
    }
    put(this.#parts.own, ...shown);
    this.#parts.own.hidden = false;
  }

  #table() {
    const { calls } = this.#parts;
    const { state } = this.#session;
    if (!calls.open) return;
    const head = ["Call", "Context", "Start", "Length", "Cached", "New", "Output", "End"];
    const rows = [...state.calls.values()].slice(0, TABLE_ROWS_MAX).map((call) => el("tr", {},
      el("th", { scope: "row" }, el("bdi", {}, clipped(call.name ?? `call ${call.id}`, 100))),
      el("td", {}, call.context),
      el("td", {}, duration(call.startedAt)),
      el("td", {}, lengthOf(call)),
      (call.usage ? tokensOf(call.usage).map(count) : ["", "", ""]).map((cell) => el("td", {}, cell)),
      el("td", {}, call.error ? told(call.error) : (call.reason ?? "going on"))));
    const table = el("table", {},
      el("thead", {}, el("tr", {}, head.map((cell) => el("th", { scope: "col" }, cell)))), el("tbody", {}, rows));
    const more = state.callsTotal - rows.length;
    put(calls, el("summary", {}, "Calls"),
      el("div", { class: "table-scroller", tabindex: "0", role: "region", "aria-label": "Calls" }, table),
      more > 0 ? el("p", { class: "dim" }, `${count(more)} more are not listed.`) : null);
  }

  async #cancel() {
    const { cancel, note } = this.#parts;
    cancel.disabled = true;
    try {
      await this.#session.cancel();
    } catch (error) {
      cancel.disabled = false;
      this.#session.note = `Not cancelled: ${error.message}`;
      put(note, this.#session.note);
    }
  }
}

function pre(text) {
  return el("pre", { tabindex: "0" }, clipped(text, TEXT_MAX));
}

function variables(named) {
  return el("dl", { class: "variables" }, [...named].slice(0, 200).map(([name, value]) =>
    el("div", {}, el("dt", {}, el("bdi", {}, name)), el("dd", {}, clipped(String(value), 20_000)))));
}
