// The runtime's side of the contract for tests on Node.js: contexts that remember their text, and calls that say what
// the test has told them to, when it tells them to. Loaded before the SDK.

/** A call: the test ends it. */
export class Call {
  constructor(context, options, choices) {
    Object.assign(this, { context, options, choices, cancelled: false, pieces: [] });
    this.finished = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    this.finished.catch(() => {});
  }

  /** Ends with this text, in so many pieces. */
  say(...pieces) {
    this.pieces = pieces;
    const text = pieces.join("");
    this.context.text += text;
    this.resolve({ text, finishReason: "stop", choice: this.choices ? this.choices.indexOf(text) : null });
  }

  /** Ends because of `maxTokens`. */
  cut(text) {
    this.resolve({ text, finishReason: "length", choice: null });
  }

  /** Ends with an error of the host's. */
  fail(code, message, retryable = false) {
    this.reject({ code, message, retryable });
  }
}

/** What happened, for tests to look at. `begin` makes it new. */
export const seen = {};

export function begin() {
  Object.assign(seen, { calls: [], contexts: 0, dropped: [], out: "", err: "", emitted: [], rejections: [] });
  Object.assign(seen, { answers: () => undefined });
}
begin();

const invalid = (message) => ({ code: "invalid", message, retryable: false });
const setter = (name) => (options, ...value) => void (options[name] ??= []).push(value.length === 1 ? value[0] : value);
const OPTIONS =
  "Name MaxTokens MinTokens Temperature TopP TopK MinP FrequencyPenalty PresencePenalty RepetitionPenalty Stop " +
  "StopToken StopRegex NoStopTrim SkipSpecialTokens IgnoreEos Seed LogitBias Constrain TopLogprobs ChoicesMethod";
const CONSTRAINTS = "Regex Choices JsonSchema Lark StructuralTag";

function start(context, options, choices) {
  const call = new Call(context, options, choices);
  seen.calls.push(call);
  const answer = seen.answers(call);
  if (answer !== undefined) call.say(...[answer].flat());
  return call;
}

globalThis.sglhostHost = {
  options: () => ({}),
  ...Object.fromEntries(OPTIONS.split(" ").map((name) => [`options${name}`, setter(name)])),
  ...Object.fromEntries(
    CONSTRAINTS.split(" ").map((kind) => [
      `constraint${kind}`,
      (of) => {
        if (of === "(") throw invalid("regex: unclosed group");
        return { [kind]: of };
      },
    ]),
  ),
  contextCreate(model) {
    if (model === "nobody") throw invalid('no model is called "nobody"');
    seen.contexts++;
    return { text: "", role: undefined };
  },
  contextAppend: (context, text) => void (context.text += text),
  contextAppendMarkup: (context, text) => void (context.text += `<${text}>`),
  contextAppendTokens: (context, tokens) => void (context.text += `{${tokens}}`),
  contextAppendImage() {
    throw { code: "unsupported", message: "no model takes images", retryable: false };
  },
  imageDecode: (bytes) => bytes,
  contextBeginRole(context, role) {
    context.text += `[${role}:`;
    context.role = role;
  },
  contextEndRole(context) {
    if (!context.role) throw invalid("there is no role to end");
    context.text += "]";
    context.role = undefined;
  },
  contextGenerate: (context, options) => start(context, options),
  contextSelect: (context, choices, options) => start(context, options, choices),
  contextFork(context) {
    seen.contexts++;
    return { ...context };
  },
  contextText: async (context) => context.text,
  contextTokenCount: async (context) => context.text.length,
  contextTruncate: async (context, tokens) => void (context.text = context.text.slice(0, tokens)),
  contextScore: async (_, text) => [{ token: 1, bytes: new TextEncoder().encode(text), logprob: -0.5 }],
  contextNextTokens: async (_, count) => Array(count).fill({ token: 2, bytes: Uint8Array.of(0xc3), logprob: -1 }),
  callFinished: (call) => call.finished,
  callCancel: (call) => void (call.cancelled = true),
  callText(call) {
    if (call.read) throw invalid("the text of a call is given once");
    call.read = true;
    return { call, kind: "stream" };
  },
  async read({ call }) {
    await call.finished.catch(() => {});
    return call.pieces.length ? [call.pieces.shift()] : null;
  },
  outcomeText: (outcome) => outcome.text,
  outcomeFinishReason: (outcome) => outcome.finishReason,
  outcomeChoice: (outcome) => outcome.choice,
  drop: (handle) => void seen.dropped.push(handle),
  models: () => ["fake"],
  contextLength: () => 100,
  acceptsImages: () => false,
  emit: async (channel, data) => void seen.emitted.push([channel, data]),
  tokensLeft: () => 1000,
  contextsLeft: () => 10 - seen.contexts,
  millisecondsLeft: () => 60_000,
  stdout: (text) => void (seen.out += text),
  stderr: (text) => void (seen.err += text),
  decode: (bytes) => new TextDecoder().decode(bytes),
  encode: (text) => new TextEncoder().encode(text),
  rejections: () => seen.rejections,
};

/** What the component exports, of the program made last. */
export const exported = {
  describe: () => globalThis.sglhostProgram.describe(),
  async run(values = {}) {
    return JSON.parse(await globalThis.sglhostProgram.run(JSON.stringify(values)));
  },
};
