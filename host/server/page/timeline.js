// The fork tree over time: a lane for each context, beginning under its parent when it was forked, a bar for each call.
// Owns: the drawing and its legend; which bar is looked at. Invariant: elements are made once and moved after that.

import { attribute, el, put, say, svg } from "./dom.js";
import { clipped, count, duration, visible } from "./text.js";

const LANES_MAX = 200;
const BARS_MAX = 1000;
/** Bars that one drawing makes: more would stop everything for a moment. */
const NEW_BARS_MAX = 100;
const LANE = 30;
const BAR = 22;
const TOP = 24;
const INDENT = 10;
const INDENTS_MAX = 6;
const STRIP = 5;
const CHARACTER = 6.6;
const PARTS = ["cached", "fresh", "output"];

export class Timeline {
  element;
  #session;
  #drawing = svg("svg", { class: "timeline", role: "group", "aria-label": "Calls; arrow keys go on" });
  #axis = svg("g", { class: "axis", "aria-hidden": "true" });
  #lines = svg("g", { "aria-hidden": "true" });
  #bars = svg("g", {});
  #detail = el("p", { class: "detail", "aria-live": "off" });
  #note = el("p", { class: "dim" });
  #scroller;
  #lanes = new Map();
  #boxes = new Map();
  #rows = [];
  #contexts = 0;
  #chosen = null;

  constructor(session) {
    this.#session = session;
    this.#drawing.append(this.#axis, this.#lines, this.#bars);
    this.#drawing.addEventListener("keydown", (event) => this.#key(event));
    this.#scroller = el("div", { class: "timeline-scroller" }, this.#drawing);
    const legend = PARTS.map((part, i) =>
      el("li", { class: part }, ["cached prompt", "new prompt", "output"][i]));
    this.element = el("div", {}, el("ul", { class: "legend", "aria-label": "Tokens of a call" }, legend),
      this.#scroller, this.#detail, this.#note);
    this.#hint();
  }

  /** Draws all as it is now; says whether there is more to draw. */
  update() {
    const { state } = this.#session;
    const width = this.#scroller.clientWidth;
    if (width === 0 || state.contexts.size === 0) return false;
    if (this.#contexts !== state.contexts.size) this.#order(state);
    const now = Math.max(this.#session.now, state.last);
    // While time goes on, the scale grows in steps, so that most bars stay where they are.
    const until = state.ended ? now : 1.08 ** Math.ceil(Math.log(now + 1) / Math.log(1.08));
    const scale = new Scale(width, until, this.#gutter());
    const height = TOP + this.#rows.length * LANE + 4;
    attribute(this.#drawing, "width", width);
    attribute(this.#drawing, "height", height);
    this.#drawAxis(scale, height);
    for (const lane of this.#rows) this.#drawLane(lane, scale);
    const calls = [...state.calls.values()].filter((call) => this.#lanes.has(call.context)).slice(0, BARS_MAX);
    const drawn = this.#boxes.size + NEW_BARS_MAX;
    for (const call of calls) {
      if (this.#boxes.size >= drawn && !this.#boxes.has(call.id)) continue;
      this.#drawBar(call, this.#lanes.get(call.context), scale);
    }
    const left = state.callsTotal - calls.length;
    put(this.#note, left > 0 ? `${count(left)} more calls are not drawn.` : "");
    return this.#boxes.size < calls.length;
  }

  // Children below their parents, in the order of opening.
  #order(state) {
    this.#contexts = state.contexts.size;
    this.#rows = [];
    const roots = [...state.contexts.values()].filter((context) => !state.contexts.has(context.parent));
    const open = roots.reverse();
    while (open.length > 0 && this.#rows.length < LANES_MAX) {
      const context = open.pop();
      const lane = this.#lanes.get(context.id) ?? this.#newLane(context);
      lane.row = this.#rows.length;
      this.#rows.push(lane);
      for (let i = context.children.length - 1; i >= 0; i -= 1) open.push(state.contexts.get(context.children[i]));
    }
    // One that was pushed out by earlier ones' forks.
    const shown = new Set(this.#rows);
    for (const [id, lane] of this.#lanes) {
      if (shown.has(lane)) continue;
      for (const element of [lane.line, lane.drop, lane.label]) element.remove();
      this.#lanes.delete(id);
    }
    for (const [id, box] of this.#boxes) {
      if (this.#lanes.has(state.calls.get(id).context)) continue;
      box.group.remove();
      this.#boxes.delete(id);
    }
  }

  #newLane(context) {
    const lane = {
      context, row: 0,
      line: svg("line", { class: "lane" }),
      drop: svg("path", { class: "branch" }),
      label: svg("text", { class: "lane-label" }, String(context.id)),
    };
    this.#lines.append(lane.drop, lane.line, lane.label);
    this.#lanes.set(context.id, lane);
    return lane;
  }

  #gutter() {
    const depth = this.#rows.reduce((most, { context }) => Math.max(most, context.depth), 0);
    return 30 + INDENT * Math.min(depth, INDENTS_MAX);
  }

  #drawAxis(scale, height) {
    const marks = scale.marks().map(([x, label]) => [
      svg("line", { x1: x, x2: x, y1: TOP - 6, y2: height }),
      svg("text", { x: x + 4, y: 12 }, label),
    ]);
    put(this.#axis, ...marks.flat());
  }

  #drawLane(lane, scale) {
    const { context } = lane;
    const y = middle(lane.row);
    const from = scale.x(context.openedAt);
    const until = context.call !== null ? this.#session.now : context.lastAt;
    place(lane.line, { x1: from, x2: Math.max(from + 3, scale.x(until)), y1: y, y2: y });
    place(lane.label, { x: 4 + INDENT * Math.min(context.depth, INDENTS_MAX), y: y + 4 });
    const parent = this.#lanes.get(context.parent);
    if (parent) attribute(lane.drop, "d", `M${from} ${middle(parent.row)}V${y - 5}q0 5 5 5`);
  }

  #drawBar(call, lane, scale) {
    const box = this.#boxes.get(call.id) ?? this.#newBar(call);
    const x = scale.x(call.startedAt);
    const end = call.endedAt ?? (this.#session.state.ended ? this.#session.state.last : this.#session.now);
    const width = Math.max(3, scale.x(end) - x);
    const y = middle(lane.row) - BAR / 2;
    if (box.x === x && box.y === y && box.width === width && box.ended === call.endedAt) return;
    Object.assign(box, { x, y, width, ended: call.endedAt });
    attribute(box.group, "transform", `translate(${x} ${y})`);
    for (const rect of [box.outer, box.ring]) attribute(rect, "width", width);
    box.group.classList.toggle("failed", call.error !== null);
    box.group.classList.toggle("open", call.endedAt === null);
    const fits = Math.floor((width - 8) / CHARACTER);
    const name = visible(call.name ?? `call ${call.id}`);
    const shown = name.length <= fits ? name : fits >= 3 ? `${name.slice(0, fits - 1)}…` : "";
    if (box.name.textContent !== shown) box.name.textContent = shown;
    this.#strip(box, call, width);
    if (call.endedAt !== null) attribute(box.group, "aria-label", summary(call));
    if (this.#chosen === call) this.#look(call);
  }

  #strip(box, call, width) {
    if (call.usage === null) return;
    const tokens = tokensOf(call.usage);
    const sum = tokens.reduce((a, b) => a + b, 0) || 1;
    let x = 0;
    box.parts.forEach((part, i) => {
      const wide = (width * tokens[i]) / sum;
      place(part, { x, width: wide });
      x += wide;
    });
  }

  #newBar(call) {
    const box = {
      outer: svg("rect", { class: "body", height: BAR, rx: 3 }),
      ring: svg("rect", { class: "ring", height: BAR, rx: 3 }),
      name: svg("text", { class: "bar-name", x: 4, y: 12 }),
      parts: PARTS.map((part) => svg("rect", { class: part, y: BAR - STRIP, height: STRIP, width: 0 })),
    };
    box.group = svg("g", {
      class: "bar", tabindex: this.#boxes.size === 0 ? "0" : "-1", role: "img", "data-call": call.id,
      "aria-label": `${call.name ?? `call ${call.id}`}, going on`,
      on: { pointerenter: () => this.#look(call), focus: () => this.#look(call), click: () => this.#look(call) },
    }, box.outer, box.parts, box.name, box.ring);
    this.#boxes.set(call.id, box);
    this.#bars.append(box.group);
    return box;
  }

  #look(call) {
    if (this.#chosen) this.#boxes.get(this.#chosen.id)?.group.classList.remove("chosen");
    this.#boxes.get(call.id)?.group.classList.add("chosen");
    this.#chosen = call;
    say(this.#detail, summary(call));
  }

  #hint() {
    say(this.#detail, "Point at a call for its numbers.");
  }

  // One stop of the tab key for all bars; arrows go on from there.
  #key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const groups = [...this.#bars.children];
    const at = groups.indexOf(document.activeElement);
    const next = groups[Math.min(groups.length - 1, Math.max(0, at + step))];
    if (at >= 0) attribute(groups[at], "tabindex", "-1");
    attribute(next, "tabindex", "0");
    next?.focus();
  }
}

class Scale {
  constructor(width, until, gutter) {
    this.until = Math.max(until, 10);
    this.gutter = gutter;
    this.width = Math.max(40, width - gutter - 12);
  }

  x(at) {
    return Math.round((this.gutter + (Math.min(at, this.until) / this.until) * this.width) * 10) / 10;
  }

  /** Round moments, as many as there is room for. */
  marks() {
    const rough = this.until / Math.max(1, this.width / 90);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => power * factor >= rough);
    const marks = [];
    for (let at = 0; at < this.until - step * 0.35; at += step) marks.push([this.x(at), this.#label(at)]);
    return marks;
  }

  #label(at) {
    return at < 1000 && this.until < 3000 ? `${Math.round(at)} ms` : `${+(at / 1000).toFixed(2)} s`;
  }
}

/** Tokens of a prompt that were cached, that were new, and of the output. */
export function tokensOf(usage) {
  return [usage.cached_tokens, usage.prompt_tokens - usage.cached_tokens, usage.completion_tokens];
}

/** How long a call took. */
export function lengthOf(call) {
  return call.endedAt === null ? "" : duration(call.endedAt - call.startedAt);
}

/** An error in a line. */
export function told(error) {
  return clipped(`${error.code}: ${error.message}`, 300);
}

function summary(call) {
  const name = clipped(call.name ?? `call ${call.id}`, 100);
  const parts = [`${name} on context ${call.context}`];
  if (call.endedAt !== null) parts.push(lengthOf(call));
  if (call.usage) {
    const [cached, fresh, output] = tokensOf(call.usage);
    parts.push(`${count(cached)} cached, ${count(fresh)} new, ${count(output)} output tokens`, call.reason);
  } else {
    parts.push(call.error ? told(call.error) : "going on");
  }
  return parts.join(" · ");
}

function middle(row) {
  return TOP + row * LANE + LANE / 2;
}

function place(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) attribute(element, name, value);
}
