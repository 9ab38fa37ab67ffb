// What is known of a run: its events, summed up. Owns: the reducer and its bounds. Boundary: no DOM, no network.
// Invariant: memory is bounded whatever a program sends; what is left out is counted.

/** Characters kept of one context, of one channel, log or variable. */
export const TEXT_MAX = 60_000;
const RUN_TEXT_MAX = 3_000_000;
const CONTEXTS_MAX = 1000;
const CALLS_MAX = 5000;
const PIECES_MAX = 50_000;
const NAMED_MAX = 1000;

/** A bounded text: the beginning, and how much more there was. */
class Text {
  text = "";
  dropped = 0;

  add(more, max = TEXT_MAX) {
    const room = Math.max(0, max - this.text.length);
    this.text += more.length <= room ? more : more.slice(0, room);
    this.dropped += Math.max(0, more.length - room);
  }
}

export class RunState {
  status = "running";
  /** Whether the first events are missing: contexts are then met without having been opened. */
  partial = false;
  contexts = new Map();
  calls = new Map();
  variables = new Map();
  forks = new Map();
  channels = new Map();
  log = [];
  result = null;
  error = null;
  usage = { prompt_tokens: 0, cached_tokens: 0, completion_tokens: 0 };
  cpuTimeUs = null;
  /** When the last event came, and the end of the run if it has ended: milliseconds since its start, as all moments. */
  last = 0;
  callsTotal = 0;
  contextsTotal = 0;
  /** Contexts whose text grew since a view looked, and whether anything else did. */
  changed = new Set();
  version = 0;
  #chars = 0;
  #pieces = 0;

  get ended() {
    return this.status !== "running";
  }

  /** Takes an event in. */
  take(event) {
    const at = event.at_ms;
    this.last = at;
    this.version += 1;
    switch (event.type) {
      case "context.opened": return this.#open(event, at);
      case "context.text": return this.#write(event.context, null, event.text, at);
      case "call.started": return this.#start(event, at);
      case "call.delta": return this.#delta(event, at);
      case "call.finished": return this.#finish(event, at);
      case "call.failed": return this.#fail(event, at);
      case "emit": return this.#emit(event);
      case "log": return this.#log(event);
      case "run.finished": return this.#end(event);
      default: // One that came after this page was written.
    }
  }

  /** Takes in what is kept of a run whose events are gone. */
  takeRecord(run) {
    this.version += 1;
    this.status = run.status;
    this.usage = run.usage ?? this.usage;
    this.cpuTimeUs = run.cpu_time_us ?? this.cpuTimeUs;
    this.error = run.error ?? this.error;
    if (run.result !== undefined && run.result !== null) this.result = JSON.stringify(run.result);
    this.variables = named(run.variables);
    for (const fork of run.forks ?? []) this.forks.set(fork.context, named(fork.variables));
  }

  #open({ context, parent = null }, at) {
    this.contextsTotal += 1;
    if (this.contexts.size >= CONTEXTS_MAX) return;
    const above = this.contexts.get(parent);
    this.contexts.set(context, {
      id: context, parent, depth: above ? above.depth + 1 : 0, openedAt: at, lastAt: at, pieces: [], children: [],
      text: 0, dropped: 0, call: null,
    });
    if (above) {
      above.children.push(context);
      this.#piece(above, { fork: context });
      above.lastAt = at;
    }
  }

  #place(id, at) {
    if (this.partial && !this.contexts.has(id)) this.#open({ context: id }, at);
    return this.contexts.get(id);
  }

  #write(id, call, text, at) {
    const context = this.#place(id, at);
    if (!context) return;
    context.lastAt = at;
    const room = Math.max(0, Math.min(TEXT_MAX - context.text, RUN_TEXT_MAX - this.#chars));
    const kept = text.length <= room ? text : text.slice(0, room);
    context.dropped += text.length - kept.length;
    const tail = context.pieces.at(-1);
    if (kept !== "" && tail && tail.fork === undefined && tail.call === call) tail.text += kept;
    else if (kept !== "" && !this.#piece(context, { call, text: kept })) {
      context.dropped += kept.length;
      this.changed.add(id);
      return;
    }
    context.text += kept.length;
    this.#chars += kept.length;
    this.changed.add(id);
  }

  #piece(context, piece) {
    if (this.#pieces >= PIECES_MAX) return false;
    this.#pieces += 1;
    context.pieces.push(piece);
    this.changed.add(context.id);
    return true;
  }

  #start({ call, context, name = null }, at) {
    this.callsTotal += 1;
    const place = this.#place(context, at);
    if (!place || this.calls.size >= CALLS_MAX) return;
    place.lastAt = at;
    place.call = call;
    this.changed.add(context);
    this.calls.set(call, {
      id: call, context, name, startedAt: at, firstAt: null, endedAt: null, usage: null, reason: null, error: null,
    });
  }

  #delta({ call, context, text }, at) {
    const started = this.calls.get(call);
    if (started) started.firstAt ??= at;
    this.#write(context, call, text, at);
  }

  #finish({ call, context, name = null, text, finish_reason: reason, usage }, at) {
    for (const part of Object.keys(this.usage)) this.usage[part] += usage[part];
    this.#over(call, context, at, { usage, reason });
    if (name === null) return;
    const above = this.contexts.get(context)?.parent ?? null;
    if (above !== null && !this.forks.has(context)) {
      if (this.forks.size >= NAMED_MAX) return;
      this.forks.set(context, new Map());
    }
    keep(above === null ? this.variables : this.forks.get(context), name, text);
  }

  #fail({ call, context, error }, at) {
    this.#over(call, context, at, { error });
  }

  #over(call, id, at, outcome) {
    const context = this.contexts.get(id);
    if (context) {
      context.lastAt = at;
      if (context.call === call) context.call = null;
      this.changed.add(id);
    }
    const started = this.calls.get(call);
    if (started) Object.assign(started, outcome, { endedAt: at });
  }

  #emit({ channel, data }) {
    if (!this.channels.has(channel)) {
      if (this.channels.size >= NAMED_MAX) return;
      this.channels.set(channel, new Text());
    }
    this.channels.get(channel).add(data);
  }

  #log({ stream, text }) {
    const tail = this.log.at(-1);
    if (tail?.stream === stream) return tail.add(text);
    if (this.log.length >= NAMED_MAX) return;
    this.log.push(Object.assign(new Text(), { stream }));
    this.log.at(-1).add(text);
  }

  #end({ result, usage, cpu_time_us: cpu }) {
    this.usage = usage;
    this.cpuTimeUs = cpu ?? null;
    if ("Ok" in result) {
      this.result = result.Ok;
      this.status = "succeeded";
    } else {
      this.error = result.Err;
      this.status = result.Err.code === "cancelled" ? "cancelled" : "failed";
    }
    for (const context of this.contexts.values()) {
      if (context.call !== null) this.changed.add(context.id);
      context.call = null;
    }
  }
}

function keep(variables, name, text) {
  if (variables.size < NAMED_MAX || variables.has(name)) variables.set(name, text);
}

function named(object) {
  return new Map(Object.entries(object ?? {}).slice(0, NAMED_MAX));
}
