// What the engine does just now: a number, a meter where there is a limit, and the last two minutes as a line.

import { attribute, el, put, say, svg } from "./dom.js";
import { count } from "./text.js";

const HISTORY = 60;
const WIDTH = 60;
const HEIGHT = 18;

export class Gauges {
  #place;
  #shown = new Map();

  constructor(place) {
    this.#place = place;
  }

  /** Takes in an answer of `/v1/status`. */
  take(status) {
    const { engine, runs } = status;
    // The engine tells of its slots once it has taken a step.
    const wanted = engine
      ? [
        ["running", engine.running],
        ["queued", engine.queued],
        ["KV slots", engine.used_slots, engine.slots || undefined],
      ]
      : [["live runs", runs.live, runs.max ?? undefined]];
    if ([...this.#shown.keys()].join() !== wanted.map(([name]) => name).join()) {
      this.#shown = new Map(wanted.map(([name]) => [name, new Gauge(name)]));
      put(this.#place, ...[...this.#shown.values()].map((gauge) => gauge.element));
    }
    for (const [name, value, max] of wanted) this.#shown.get(name).take(value, max);
  }

  /** The server was not reached: what is shown is old. */
  lost(lost) {
    this.#place.classList.toggle("lost", lost);
  }
}

class Gauge {
  element;
  #history = [];
  #number = el("span", { class: "number" });
  #area = svg("path", { class: "area" });
  #line = svg("path", { class: "line" });

  constructor(name) {
    const drawing = svg("svg", { width: WIDTH, height: HEIGHT, "aria-hidden": "true" }, this.#area, this.#line);
    this.element = el("div", { class: "gauge" }, el("span", { class: "dim small" }, name), this.#number, drawing);
  }

  take(value, max) {
    this.#history.push(value);
    if (this.#history.length > HISTORY) this.#history.shift();
    say(this.#number, max === undefined ? count(value) : `${count(value)} / ${count(max)}`);
    const top = Math.max(max ?? 4, ...this.#history, 1);
    const left = HISTORY - this.#history.length;
    const points = this.#history.map((at, i) => {
      const x = ((left + i) / (HISTORY - 1)) * WIDTH;
      return `${x.toFixed(1)} ${(HEIGHT - 1 - (at / top) * (HEIGHT - 3)).toFixed(1)}`;
    });
    const begin = ((left / (HISTORY - 1)) * WIDTH).toFixed(1);
    attribute(this.#line, "d", `M${points.join("L")}`);
    attribute(this.#area, "d", `M${begin} ${HEIGHT}L${points.join("L")}L${WIDTH} ${HEIGHT}Z`);
  }
}
