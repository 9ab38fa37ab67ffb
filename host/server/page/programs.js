// The list of programs, and the one that is chosen: what it is, its form, its Run button.

import { json } from "./api.js";
import { attribute, el, errorParts, put, say } from "./dom.js";
import { argumentFields, optionFields } from "./form.js";
import { ago, bytes, clipped } from "./text.js";

const PAGE = 100;
const SAMPLING = {
  temperature: { type: "number", minimum: 0, placeholder: "1", description: "0 takes the likeliest token." },
  max_tokens: { type: "integer", minimum: 0, placeholder: "128", description: "Most tokens of a call." },
};
const SEED = {
  seed: { type: "integer", minimum: 0, placeholder: "drawn", description: "The same seed, the same output." },
};

export class Programs {
  #place;
  #list = el("ul", { class: "list" });
  #more = el("button", {
    type: "button", class: "quiet", hidden: true, on: { click: () => this.#page() },
  }, "Show more");
  #empty = el("p", { class: "dim", hidden: true }, "None yet. Drop a .wasm file anywhere on this page.");
  #problem = el("p", { class: "problem", role: "alert" });
  #next = null;
  #shown = new Map();
  #current = "";

  constructor(place) {
    this.#place = place;
    put(this.#place, this.#empty, this.#list, this.#more, this.#problem);
  }

  /** Reads the list anew, from its beginning. */
  async refresh() {
    this.#next = null;
    this.#shown.clear();
    put(this.#list);
    await this.#page();
  }

  get first() {
    return this.#shown.keys().next().value;
  }

  /** Marks the one that is looked at. */
  mark(name) {
    this.#current = name;
    for (const [of, link] of this.#shown) attribute(link, "aria-current", of === name ? "true" : null);
  }

  async #page() {
    try {
      const after = this.#next === null ? "" : `&after=${encodeURIComponent(this.#next)}`;
      const { programs, next } = await json("GET", `/v1/programs?limit=${PAGE}${after}`);
      for (const program of programs) this.#list.append(this.#item(program));
      this.#next = next;
      this.#more.hidden = next === null;
      this.#empty.hidden = this.#shown.size > 0;
      put(this.#problem);
      this.mark(this.#current);
    } catch (error) {
      put(this.#problem, error.message);
    }
  }

  #item(program) {
    const link = el("a", { href: `#/program/${encodeURIComponent(program.name)}`, class: "item" },
      el("span", { class: "name" }, el("bdi", {}, program.name), el("span", { class: "dim" }, `@${program.version}`),
        program.tags.map((tag) => el("span", { class: "tag" }, tag))),
      el("span", { class: "dim small", title: program.created_at },
        `${bytes(program.size_bytes)} · ${ago(program.created_at)}`));
    this.#shown.set(program.name, link);
    return el("li", {}, link);
  }
}

/** The chosen program's pane. `run(reference, body)` starts a run. */
export class ProgramPane {
  element;
  #program;
  #fields;
  #sampling = optionFields(SAMPLING);
  #seed = optionFields(SEED);
  #run;
  #button = el("button", { type: "submit", class: "primary" }, "Run");
  #problem = el("div", { class: "error", role: "alert", hidden: true });

  constructor(program, run) {
    this.#program = program;
    this.#run = run;
    this.#fields = argumentFields(program.arguments);
    const options = el("div", { class: "fields row" }, this.#sampling.elements, this.#seed.elements);
    const said = (part, max, text) => (text ? el("p", { class: part }, clipped(String(text), max)) : null);
    const title = program.title === program.name ? null : said("title", 200, program.title);
    const form = el("form", { novalidate: true, on: {
      submit: (event) => {
        event.preventDefault();
        this.#submit();
      },
      keydown: (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#submit();
      },
    } },
      this.#fields.element,
      el("details", { class: "sampling" },
        el("summary", {}, "Sampling, where the program does not say otherwise"), options),
      el("div", { class: "actions" }, this.#button, el("span", { class: "dim small" }, "Ctrl+Enter")),
      this.#problem);
    this.element = el("section", { class: "program", "aria-labelledby": "program-title" },
      el("h2", { id: "program-title", tabindex: "-1" },
        el("bdi", {}, program.name), el("span", { class: "dim" }, `@${program.version}`)),
      title,
      said("description", 4000, program.description),
      el("p", { class: "dim small meta" },
        program.tags.map((tag) => el("span", { class: "tag" }, tag)),
        `${bytes(program.size_bytes)} · uploaded `,
        el("time", { datetime: program.created_at, title: program.created_at }, ago(program.created_at)),
        " · ", el("code", { title: program.digest }, program.digest.slice(0, 19))),
      form);
  }

  async #submit() {
    if (this.#button.disabled) return;
    this.#problem.hidden = true;
    const given = this.#fields.read();
    const sampling = this.#sampling.read();
    const seed = this.#seed.read();
    if (given === null || sampling === null || seed === null) return;
    const parts = [`"arguments":${given}`, ...seed];
    if (sampling.length > 0) parts.push(`"sampling":{${sampling.join(",")}}`);
    this.#button.disabled = true;
    say(this.#button, "Starting…");
    try {
      await this.#run(`${this.#program.name}@${this.#program.version}`, `{${parts.join(",")}}`);
    } catch (error) {
      put(this.#problem, errorParts(error));
      this.#problem.hidden = false;
    } finally {
      this.#button.disabled = false;
      say(this.#button, "Run");
    }
  }
}
