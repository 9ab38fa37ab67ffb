// The list of runs, the newest first.

import { json } from "./api.js";
import { attribute, el, put } from "./dom.js";
import { ago, count, duration } from "./text.js";

const PAGE = 20;

export class Runs {
  #list = el("ul", { class: "list" });
  #more = el("button", {
    type: "button", class: "quiet", hidden: true, on: { click: () => this.#older() },
  }, "Show more");
  #empty = el("p", { class: "dim", hidden: true }, "None yet.");
  #problem = el("p", { class: "problem", role: "alert" });
  #shown = PAGE;
  #current = "";
  #last = "";
  #links = [];

  constructor(place) {
    put(place, this.#empty, this.#list, this.#more, this.#problem);
  }

  /** Reads the list anew. */
  async refresh() {
    try {
      const { runs, next } = await json("GET", `/v1/runs?limit=${this.#shown}`);
      this.#more.hidden = next === null || this.#shown >= 1000;
      this.#empty.hidden = runs.length > 0;
      put(this.#problem);
      // Built anew only if it is another: the focus may be in it.
      const now = JSON.stringify(runs.map((run) => [run.id, run.status, ago(run.created_at)]));
      if (now === this.#last) return;
      this.#last = now;
      const focused = this.#links.find(({ link }) => link === document.activeElement)?.id;
      this.#links = runs.map((run) => ({ id: run.id, link: item(run) }));
      put(this.#list, this.#links.map(({ link }) => el("li", {}, link)));
      this.mark(this.#current);
      this.#links.find(({ id }) => id === focused)?.link.focus();
    } catch (error) {
      put(this.#problem, error.message);
    }
  }

  /** Marks the one that is looked at. */
  mark(id) {
    this.#current = id;
    for (const { id: of, link } of this.#links) attribute(link, "aria-current", of === id ? "true" : null);
  }

  async #older() {
    this.#shown = Math.min(1000, this.#shown * 3);
    await this.refresh();
  }
}

function item(run) {
  const facts = [ago(run.created_at)];
  if (typeof run.wall_time_ms === "number") facts.push(duration(run.wall_time_ms));
  if (run.usage && run.status !== "running") facts.push(`${count(run.usage.completion_tokens)} tokens`);
  return el("a", { href: `#/run/${encodeURIComponent(run.id)}`, class: "item" },
    el("span", { class: "name" }, el("bdi", {}, run.program), el("span", { class: "dim" }, `@${run.version}`),
      el("span", { class: "status", "data-status": run.status }, run.status)),
    el("span", { class: "dim small", title: `${run.id}, ${run.created_at}` }, facts.join(" · ")));
}
