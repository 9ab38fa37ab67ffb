// The page: which program and which run are looked at, and what is read from the server when.
// What is looked at is in the address after `#`: `#/program/NAME`, `#/run/ID`. A key never is.

import { askWith, forgetKey, json, storedKey } from "./api.js";
import { el, errorParts, put, say } from "./dom.js";
import { Gauges } from "./gauges.js";
import { askForKey } from "./key.js";
import { ProgramPane, Programs } from "./programs.js";
import { RunSession } from "./run_session.js";
import { RunView } from "./run_view.js";
import { Runs } from "./runs.js";
import { count } from "./text.js";
import { acceptFiles } from "./upload.js";

const STATUS_EVERY = 2000;
const RUNS_EVERY = 10_000;
/** A browser opens six connections to one server: two are left for everything else. */
const STREAMS_MAX = 4;
/** Runs of this page that are kept as they were, with their times. */
const KEPT_MAX = 10;
const PANES_MAX = 20;

const at = (id) => document.getElementById(id);

class Page {
  #gauges = new Gauges(at("gauges"));
  #programs = new Programs(at("programs"));
  #runs = new Runs(at("runs"));
  // Forms keep what was typed into them.
  #panes = new Map();
  #sessions = new Map();
  #view = null;
  #session = null;
  #route = 0;
  #runsReadAt = 0;

  async begin() {
    askWith(askForKey);
    at("forget-key").addEventListener("click", () => {
      forgetKey();
      location.reload();
    });
    acceptFiles({
      button: at("choose-file"), input: at("file"), shade: at("drop"),
      uploaded: (program) => this.#uploaded(program),
    });
    addEventListener("hashchange", () => this.#go());
    await this.#poll();
    await Promise.all([this.#programs.refresh(), this.#runs.refresh()]);
    await this.#go();
  }

  // A hidden page asks for nothing.
  async #poll() {
    if (document.visibilityState === "visible") {
      try {
        const status = await json("GET", "/v1/status");
        const { name, context_length: length } = status.model ?? {};
        say(at("about"), name ? `${name} · ${count(length)} tokens of context` : "");
        at("about").title = `version ${status.version}, ${status.mode} mode, tenant ${status.tenant}`;
        at("forget-key").hidden = storedKey() === null;
        this.#gauges.take(status);
        this.#gauges.lost(false);
        if (Date.now() - this.#runsReadAt > RUNS_EVERY) await this.#readRuns();
      } catch {
        this.#gauges.lost(true);
        say(at("about"), "The server cannot be reached.");
      }
    }
    setTimeout(() => this.#poll(), STATUS_EVERY);
  }

  async #readRuns() {
    this.#runsReadAt = Date.now();
    await this.#runs.refresh();
  }

  async #uploaded(program) {
    this.#panes.delete(program.name);
    await this.#programs.refresh();
    const here = `#/program/${program.name}`;
    if (location.hash === here) await this.#go();
    else location.hash = here;
  }

  // Shows what the address says.
  async #go() {
    const route = (this.#route += 1);
    const [, kind, rest] = /^#\/(program|run)\/(.+)$/.exec(location.hash) ?? [];
    const value = rest === undefined ? undefined : safeDecode(rest);
    if (kind === "run") {
      await this.#openRun(value, route);
    } else {
      const name = value ?? this.#programs.first;
      this.#show(null);
      if (name === undefined) this.#welcome();
      else await this.#openProgram(name, route, kind !== undefined);
    }
  }

  #welcome() {
    put(at("program"), el("section", { class: "welcome" },
      el("h2", {}, "No programs yet"),
      el("p", {}, "Drop a ", el("code", {}, ".wasm"), " component anywhere on this page, or choose a file. ",
        el("code", {}, "sglhost new"), " and ", el("code", {}, "sglhost build"), " make one.")));
  }

  async #openProgram(name, route, focus) {
    this.#programs.mark(name);
    let pane = this.#panes.get(name);
    if (pane === undefined) {
      try {
        const program = await json("GET", `/v1/programs/${encodeURIComponent(name)}`);
        pane = new ProgramPane(program, (reference, body) => this.#start(reference, body));
        if (this.#panes.size >= PANES_MAX) this.#panes.delete(this.#panes.keys().next().value);
        this.#panes.set(name, pane);
      } catch (error) {
        pane = { element: problem(error) };
      }
    }
    if (route !== this.#route) return;
    put(at("program"), pane.element);
    if (focus) pane.element.querySelector("h2")?.focus();
  }

  async #start(reference, body) {
    const streams = [...this.#sessions.values()].filter((session) => !session.state.ended).length;
    if (streams >= STREAMS_MAX) {
      throw new Error(`${STREAMS_MAX} runs stream to this page already, and a browser has few connections: ` +
        "wait for one or cancel it.");
    }
    const session = await RunSession.start(reference, body);
    this.#keep(session);
    session.done.then(() => this.#readRuns());
    this.#readRuns();
    location.hash = `#/run/${session.id}`;
  }

  #keep(session) {
    this.#sessions.set(session.id, session);
    for (const [id, kept] of this.#sessions) {
      if (this.#sessions.size <= KEPT_MAX) break;
      if (kept.state.ended && kept !== this.#session) this.#sessions.delete(id);
    }
  }

  async #openRun(id, route) {
    let session = this.#sessions.get(id);
    let failure = null;
    try {
      session ??= await RunSession.open(id);
    } catch (error) {
      failure = error;
    }
    if (route !== this.#route) {
      if (session && !this.#sessions.has(id)) session.leave();
      return;
    }
    const name = session?.program.split("@")[0];
    if (name !== undefined) await this.#openProgram(name, route, false);
    if (route !== this.#route) return;
    this.#show(session, failure);
    at("run").querySelector("h2")?.focus({ preventScroll: innerWidth >= 800 });
  }

  #show(session, failure = null) {
    this.#view?.close();
    if (this.#session && this.#session !== session && !this.#sessions.has(this.#session.id)) this.#session.leave();
    this.#session = session;
    this.#view = session ? new RunView(session) : null;
    put(at("run"), this.#view?.element, failure && problem(failure));
    this.#runs.mark(session?.id ?? "");
    document.body.classList.toggle("with-run", session !== null);
    if (session) this.#programs.mark(session.program.split("@")[0]);
  }
}

function problem(error) {
  return el("div", { class: "error", role: "alert" }, errorParts(error));
}

function safeDecode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

new Page().begin();
