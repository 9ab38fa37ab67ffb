// One conversation so far, SGLang's `s`: what is appended to it, and the results by name.
//
// Nothing here waits until a result is read: a `gen` starts at once, and what is appended after it queues behind it on
// the host. So steps are plain calls, and what reads gives a promise.
import { SglError, ask, fromHost, waitFor } from "./error.js";
import { Gen, count } from "./generate.js";
import { host } from "./host.js";
import { Outcome, withText } from "./outcome.js";
import { partsOf, role, roleBegin, roleEnd } from "./prompt.js";
import { written } from "./written.js";

const STEPS = {
  markup: (context, text) => host.contextAppendMarkup(context, text),
  tokens: (context, tokens) =>
    host.contextAppendTokens(
      context,
      tokens.map((token) => count("a token", token)),
    ),
  image: (context, bytes) => host.contextAppendImage(context, host.imageDecode(bytes)),
  beginRole: (context, name) => host.contextBeginRole(context, name),
  endRole: (context) => host.contextEndRole(context),
};

/** A call, and how it ended once somebody waited for it. Copies of a state share it. */
class Pending {
  #ended;
  /** Whether the program was shown how it ended. */
  seen = false;
  /** States that have it and were not closed. */
  holders = 1;

  constructor(call) {
    this.call = call;
  }

  /** Its outcome, always the same; what it failed with is thrown as the host's. */
  wait() {
    this.#ended ??= host.callFinished(this.call).then((outcome) => new Outcome(outcome));
    return this.#ended;
  }
}

/** A context that a new state is made of. */
class Forked {
  constructor(context) {
    this.context = context;
  }
}

/** The pieces of a text, each as soon as it is there. */
async function* pieces(reader) {
  try {
    for (;;) {
      const read = await host.read(reader);
      if (read === null) return;
      yield* read;
    }
  } finally {
    host.drop(reader);
  }
}

/** Text as a number; undefined where it is none, as an empty one is no 0. */
function numeric(read, text) {
  try {
    const value = text === "" ? undefined : read(text);
    return Number.isNaN(value) ? undefined : value;
  } catch {
    return undefined;
  }
}

/** What was generated is not what is wanted. */
function wrong(name, outcome, wanted, here) {
  const cut = outcome.finishReason === "length" ? "; it was cut at maxTokens: allow it more" : "";
  const text = written(outcome.text.trim());
  const error = new SglError(`the text generated as ${written(name)} is no ${wanted}: ${text}${cut}`);
  error.stack = here.stack;
  return error;
}

export class State {
  #context;
  /** Results in the order in which they were started; the last of a name counts. */
  #results = [];
  #failure;

  constructor(model) {
    this.#context = model instanceof Forked ? model.context : ask(host.contextCreate, model);
  }

  #open() {
    if (!this.#context) throw new SglError("the state is closed", "invalid");
    return this.#context;
  }

  /** Does one step, and keeps the first failure. */
  #step(step) {
    const context = this.#open();
    try {
      return step(context);
    } catch (reason) {
      throw this.#failed(fromHost(reason));
    }
  }

  /** Asks the host what it answers later. */
  async #ask(here, question) {
    const context = this.#open();
    try {
      return await waitFor(question(context), here);
    } catch (reason) {
      throw this.#failed(fromHost(reason));
    }
  }

  #failed(error) {
    if (error instanceof SglError) this.#failure ??= error;
    return error;
  }

  append(...content) {
    for (const part of partsOf(content)) {
      if (typeof part === "string") {
        if (part) this.#step((context) => host.contextAppend(context, part));
      } else if (part instanceof Gen) {
        this.#start(part);
      } else {
        this.#step((context) => STEPS[part.step](context, part.value));
      }
    }
    return this;
  }

  #start(asked) {
    const call = this.#step((context) => {
      const options = asked.toOptions();
      if (!asked.choices) return host.contextGenerate(context, options);
      return host.contextSelect(context, asked.choices, options);
    });
    this.#results.push([asked.name, new Pending(call)]);
  }

  role(name, ...content) {
    return this.append(role(name, ...content));
  }
  roleBegin(name) {
    return this.append(roleBegin(name));
  }
  roleEnd() {
    return this.append(roleEnd());
  }
  roleBlock(name, write) {
    this.roleBegin(name);
    const wrote = write(this);
    if (wrote instanceof Promise) return wrote.then(() => this.roleEnd());
    return this.roleEnd();
  }

  system(...content) {
    return this.role("system", ...content);
  }
  systemBegin() {
    return this.roleBegin("system");
  }
  systemEnd() {
    return this.roleEnd();
  }
  systemBlock(write) {
    return this.roleBlock("system", write);
  }

  user(...content) {
    return this.role("user", ...content);
  }
  userBegin() {
    return this.roleBegin("user");
  }
  userEnd() {
    return this.roleEnd();
  }
  userBlock(write) {
    return this.roleBlock("user", write);
  }

  assistant(...content) {
    return this.role("assistant", ...content);
  }
  assistantBegin() {
    return this.roleBegin("assistant");
  }
  assistantEnd() {
    return this.roleEnd();
  }
  assistantBlock(write) {
    return this.roleBlock("assistant", write);
  }

  has(name) {
    return this.#results.some(([of]) => of === name);
  }

  #find(name) {
    const found = this.#results.findLast(([of]) => of === name);
    if (found) return found[1];
    const names = this.#results.map(([of]) => of);
    throw new SglError(`nothing was generated as ${written(name)}; there is ${written(names)}`, "invalid");
  }

  async #ended(pending, here) {
    pending.seen = true;
    try {
      return await waitFor(pending.wait(), here);
    } catch (reason) {
      throw this.#failed(reason);
    }
  }

  async outcome(name) {
    return await this.#ended(this.#find(name), new SglError(""));
  }

  async get(name, read) {
    const here = new SglError("");
    const outcome = await this.#ended(this.#find(name), here);
    if (read === undefined || read === String) return outcome.text;
    const text = outcome.text.trim();
    if (read === Boolean && (text === "true" || text === "false")) return text === "true";
    if (read === Number || read === BigInt) {
      const value = numeric(read, text);
      if (value !== undefined) return value;
    }
    if (read === Boolean || read === Number || read === BigInt) throw wrong(name, outcome, read.name, here);
    return read(outcome.text);
  }

  async getJson(name) {
    const here = new SglError("");
    const outcome = await this.#ended(this.#find(name), here);
    try {
      return JSON.parse(outcome.text);
    } catch (error) {
      throw wrong(name, outcome, `JSON (${error.message})`, here);
    }
  }

  stream(name) {
    const pending = this.#find(name);
    const reader = this.#step(() => host.callText(pending.call));
    return pieces(reader);
  }

  cancel(name) {
    host.callCancel(this.#find(name).call);
  }

  fork(count_) {
    return Array.from({ length: count("a number of forks", count_) }, () => this.copy());
  }

  copy() {
    const other = new State(new Forked(this.#step((context) => host.contextFork(context))));
    other.#results = [...this.#results];
    for (const [, pending] of other.#results) pending.holders++;
    return other;
  }

  text() {
    return this.#ask(new SglError(""), (context) => host.contextText(context));
  }
  tokenCount() {
    return this.#ask(new SglError(""), (context) => host.contextTokenCount(context));
  }
  truncate(tokens) {
    const here = new SglError("");
    return this.#ask(here, (context) => host.contextTruncate(context, count("a number of tokens", tokens)));
  }
  async score(text) {
    const here = new SglError("");
    return (await this.#ask(here, (context) => host.contextScore(context, String(text)))).map(withText);
  }
  async nextTokens(tokens) {
    const here = new SglError("");
    const ask = (context) => host.contextNextTokens(context, count("a number of tokens", tokens));
    return (await this.#ask(here, ask)).map(withText);
  }

  async sync() {
    const here = new SglError("");
    for (const [, pending] of [...this.#results]) await this.#ended(pending, here);
  }

  error() {
    return this.#failure;
  }

  close() {
    const context = this.#context;
    if (!context) return;
    this.#context = undefined;
    for (const [, pending] of this.#results) {
      if (!--pending.holders) host.callCancel(pending.call);
    }
    this.#results = [];
    host.drop(context);
  }

  /** Waits for what nobody read: it is part of the run's text and of its variables. A failure that the program was not
   * shown is the run's. */
  static async finish(state) {
    let first;
    for (const [, pending] of state.#results) {
      if (pending.seen) continue;
      try {
        await pending.wait();
      } catch (reason) {
        first ??= fromHost(reason);
      }
    }
    if (first) throw first;
  }
}

