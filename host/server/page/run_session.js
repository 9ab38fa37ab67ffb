// A run that this page follows: started here, or opened again. Owns: its stream and what becomes of it.
// Invariant: a run that was started here goes on being read until it ends, whatever else is looked at: the server
// cancels a run whose reader goes away.

import { ApiError, json, request } from "./api.js";
import { RunState } from "./run_state.js";
import { readEvents } from "./sse.js";

const RETRIES_MAX = 5;

export class RunSession {
  /** The run's id; "" until the server has said it. */
  id = "";
  /** `name@version`. */
  program;
  state;
  /** Said to people beside the state: why there are no events. */
  note = "";
  /** When it began, by this page's clock or the server's. */
  beganAt = Date.now();
  wallTimeMs = null;
  /** Called after each event, and once more at the end. */
  onchange = () => {};
  #abort = new AbortController();
  /** By this page's clock: what comes late began no later. */
  #began = performance.now();
  #lastId = "";

  constructor(program) {
    this.program = program;
    this.state = new RunState();
  }

  /** Starts a run; its first event is not waited for. Throws ApiError if the server does not take it. */
  static async start(program, body) {
    const session = new RunSession(program);
    const response = await request("POST", `/v1/programs/${encodeURIComponent(program).replace("%40", "@")}/runs`, {
      body,
      headers: { "content-type": "application/json", accept: "text/event-stream" },
      signal: session.#abort.signal,
    });
    session.id = response.headers.get("x-run-id") ?? "";
    session.#began = performance.now();
    session.done = session.#follow(response);
    return session;
  }

  /** Opens a run again: its events if they are still there, else its record. */
  static async open(id) {
    const run = await json("GET", `/v1/runs/${id}`);
    const session = new RunSession(`${run.program}@${run.version}`);
    session.id = id;
    session.beganAt = Date.parse(run.created_at);
    session.done = session.#reopen(run);
    return session;
  }

  get now() {
    return this.state.ended ? this.state.last : performance.now() - this.#began;
  }

  /** Asks the server to end the run. Throws ApiError if it cannot be asked. */
  async cancel() {
    if (this.id === "") return this.#abort.abort();
    await request("POST", `/v1/runs/${this.id}/cancel`);
  }

  /** Reads no further; for runs that were not started here. */
  leave() {
    this.#abort.abort();
  }

  async #follow(response) {
    try {
      await this.#read(response);
    } catch {
      // Said below: what counts is whether the run's end was seen.
    }
    if (!this.state.ended) await this.#takeRecord("The connection was lost.");
    this.#finish();
  }

  async #reopen(run) {
    for (let tries = 0; !this.state.ended && tries <= RETRIES_MAX; tries += 1) {
      if (tries > 0) await new Promise((resolve) => setTimeout(resolve, 500 * tries));
      try {
        const headers = { accept: "text/event-stream", ...(this.#lastId && { "last-event-id": this.#lastId }) };
        await this.#read(await request("GET", `/v1/runs/${this.id}/events`, { headers, signal: this.#abort.signal }));
      } catch (error) {
        if (error.name === "AbortError") return;
        // The oldest events may be forgotten before the run ends; the message says what is there.
        const gone = error.status === 410;
        const [, after] = (gone && this.#lastId === "" && /\bafter=(\d+)/.exec(error.message)) || [];
        if (after !== undefined) {
          this.#lastId = after;
          this.state.partial = true;
          this.note = `The first ${after} events are no longer kept.`;
          continue;
        }
        if (error instanceof ApiError && error.status !== 0) {
          await this.#takeRecord(gone ? "This run's events are no longer kept; this is its record." : error.message);
          break;
        }
      }
    }
    if (!this.state.ended) await this.#takeRecord("The connection was lost.");
    this.wallTimeMs = run.wall_time_ms ?? this.wallTimeMs;
    this.#finish();
  }

  async #read(response) {
    await readEvents(response.body, ({ id, data }) => {
      this.#lastId = id;
      this.state.take(JSON.parse(data));
      this.#began = Math.min(this.#began, performance.now() - this.state.last);
      this.onchange();
    });
  }

  async #takeRecord(why) {
    this.note = why;
    try {
      let run = await json("GET", `/v1/runs/${this.id}`);
      // The server takes a moment to see that its reader is gone.
      for (let tries = 0; run.status === "running" && tries < RETRIES_MAX; tries += 1) {
        await new Promise((resolve) => setTimeout(resolve, 1000));
        run = await json("GET", `/v1/runs/${this.id}`);
      }
      if (run.status === "running") {
        this.note = `${why} The run goes on; open it again to follow it.`;
        run.status = "interrupted";
      }
      this.state.takeRecord(run);
      this.wallTimeMs = run.wall_time_ms ?? null;
    } catch (error) {
      const { code = "unknown", message } = error;
      this.state.takeRecord({ status: "interrupted", error: { code, message } });
    }
  }

  #finish() {
    this.wallTimeMs ??= this.state.last || null;
    this.onchange();
  }
}
