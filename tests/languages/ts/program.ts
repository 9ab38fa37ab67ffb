// Calls every function of the contract and says what came of it; `../README.md` says how.
import {
  SglError,
  State,
  acceptsImages,
  contextLength,
  contextsLeft,
  emit,
  gen,
  image,
  markup,
  millisecondsLeft,
  models,
  program,
  select,
  tokens as exactly,
  tokensLeft,
} from "sglhost";
import type { ChoicesMethod, Gen, GenOptions, TokenLogprob } from "sglhost";

type Say = (line: string) => void;

const SCHEMA =
  '{"type": "object", "properties": {"a": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["a"], "additionalProperties": false}';
const TAGS = '{"structures": [{"begin": "<f>", "schema": {"const": 7}, "end": "</f>"}], "triggers": ["<f"]}';

export default program({
  name: "every_function",
  description: "Calls every function of the contract.",
  arguments: {
    topic: { type: "string", description: "What it talks about." },
    part: { type: "string", description: "What to do instead.", default: "all" },
    count: { type: "integer", default: 3 },
    ratio: { type: "number", default: 0.5 },
    loud: { type: "boolean", default: false },
    words: { type: "array", items: { type: "string" }, description: "Said one after the other.", optional: true },
    note: { type: "string", optional: true },
  },
  async run(s, { topic, part, count, ratio, loud, words, note }) {
    switch (part) {
      case "one":
        return await slow(s, 1);
      case "four":
        return await slow(s, 4);
      case "budget":
        return await budget(s);
      case "unread":
        s.append(gen("unread", { topP: 2 }));
        return null;
      case "own error":
        throw new SglError(`no ${topic} left`);
      case "panic":
        throw new Error(`the ${topic} is cold`);
      // There is no exit: a program that waits for nothing that comes is as far as one gets.
      case "exit":
        return await new Promise<never>(() => {});
      // There is nothing that traps either: an error in a promise that nobody looks at.
      case "trap":
        Promise.reject(new RangeError(`the ${topic} is gone`));
        return null;
      case "recurse":
        return recurse(1);
    }
    const lines: string[] = [];
    const say = (line: string) => void lines.push(line);
    say(
      `arguments: topic=${topic} count=${count} ratio=${milli(ratio)} loud=${loud} ` +
        `words=${words?.join("+") ?? "none"} note=${note ?? "none"}`,
    );
    await host(say);
    await prompts(s, topic, say);
    await options(s, say);
    await wrongOptions(s, say);
    await constraints(s, say);
    await streams(s, say);
    await selects(s, say);
    await forks(s, say);
    await queued(s, say);
    await tokens(s, say);
    await errors(s, say);
    await cancelled(s, say);
    return { lines };
  },
});

async function host(say: Say) {
  say(`models: ${models().join(", ")}`);
  say(`context length: ${contextLength()} ${contextLength("scripted")}`);
  say(`images: ${acceptsImages()}`);
  say(`no such model: ${await shown(() => contextLength("nobody"))}`);
  const [tokens, contexts] = [tokensLeft(), contextsLeft()];
  const other = new State("scripted");
  other.append("abc", gen("x", { maxTokens: 5, temperature: 0 }));
  say(`another state: ${await other.get("x")}`);
  say(`tokens used: ${tokens - tokensLeft()}, contexts used: ${contexts - contextsLeft()}`);
  other.close();
  say(`contexts used after: ${contexts - contextsLeft()}`);
  say(`time left: ${millisecondsLeft() > 0}`);
  await emit("note", "hello");
}

async function prompts(s: State, topic: string, say: Say) {
  const f = s.copy();
  f.system("Be brief.");
  f.user`About ${topic}: é🙂`;
  f.role("tool", 42);
  f.userBlock((f) => f.append("in a block"));
  f.assistantBegin();
  f.append("plain <|end|> ");
  f.append(markup("marked<|end|>"));
  f.append(exactly([65, 66]));
  f.assistantEnd();
  say(`text: ${await f.text()}`);
  say(`tokens: ${await f.tokenCount()}`);
}

/** What a call on a copy of the state says. */
async function call(s: State, prompt: string, asked: Gen) {
  const f = s.copy();
  f.append(prompt, asked);
  const it = await f.outcome("x");
  return (
    `${JSON.stringify(it.text)} ${it.finishReason} matched=${it.matched ?? "none"} ` +
    `prompt=${it.promptTokens} tokens=${it.completionTokens} forced=${it.forcedTokens}`
  );
}

async function options(s: State, say: Say) {
  // Always the likeliest letter.
  const x = (more: GenOptions = {}) => gen("x", { maxTokens: 8, temperature: 0, ...more });
  let f = s.copy();
  f.append("options", x());
  const { text: letters, tokens } = await f.outcome("x");
  say(`eight letters: ${letters} ${tokens.join(" ")}`);
  f.append(x());
  say(`again, cached: ${(await f.outcome("x")).cachedTokens}`);
  const sayCall = async (name: string, asked: Gen) => say(`${name}: ${await call(s, "options", asked)}`);
  await sayCall("max_tokens 0", x({ maxTokens: 0 }));
  await sayCall("seed", x({ temperature: 1, seed: 7 }));
  await sayCall("stop", x({ stop: letters.slice(3, 5) }));
  await sayCall("stop, one of two", x({ stop: ["#", letters.slice(2, 4)] }));
  await sayCall("stop kept", x({ stop: letters.slice(3, 5), noStopTrim: true }));
  await sayCall("stop token", x({ stopTokenIds: tokens[4] }));
  await sayCall("stop token after", x({ stopTokenIds: [tokens[1]!], minTokens: 4 }));
  await sayCall("stop regex", x({ stopRegex: new RegExp(`${letters[4]}.`) }));
  // The scripted model says something else for each.
  const y = (more: GenOptions) => gen("x", { maxTokens: 4, temperature: 1, seed: 7n, ...more });
  await sayCall("another seed", y({ seed: 8 }));
  await sayCall("top_p", y({ topP: 0.5 }));
  await sayCall("top_k", y({ topK: 5 }));
  await sayCall("min_p", y({ minP: 0.25 }));
  await sayCall("frequency_penalty", y({ frequencyPenalty: 0.5 }));
  await sayCall("presence_penalty", y({ presencePenalty: -0.5 }));
  await sayCall("repetition_penalty", y({ repetitionPenalty: 1.5 }));
  await sayCall("logit_bias", y({ logitBias: { 97: -1, 98: 2 } }));
  await sayCall("the end is text", y({ ignoreEos: true, skipSpecialTokens: false }));
  f = s.copy();
  f.append("options", x({ maxTokens: 2, topLogprobs: 2 }));
  const outcome = await f.outcome("x");
  say(`logprobs: ${shownLogprobs(outcome.logprobs)}`);
  say(`top logprobs: ${shownLogprobs(outcome.topLogprobs(1))}`);
}

/** A value that is refused tells that it arrived. */
async function wrongOptions(s: State, say: Say) {
  const x = (more: GenOptions) => gen("x", { maxTokens: 1, ...more });
  const wrong: { [name: string]: Gen } = {
    temperature: x({ temperature: -1.5 }),
    top_p: x({ topP: 1.5 }),
    top_k: x({ topK: -2 }),
    min_p: x({ minP: 1.5 }),
    frequency_penalty: x({ frequencyPenalty: 2.5 }),
    presence_penalty: x({ presencePenalty: -2.5 }),
    repetition_penalty: x({ repetitionPenalty: 4 }),
    stop_regex: x({ stopRegex: "(" }),
    logit_bias: x({ logitBias: new Map([[1000, 1]]) }),
    top_logprobs: x({ topLogprobs: 1000 }),
    regex: x({ regex: "(" }),
    json_schema: x({ jsonSchema: '{"type": 7}' }),
    lark: x({ lark: 'begin: "x"' }),
    structural_tag: x({ structuralTag: {} }),
    choices: x({ oneOf: [] }),
    "no choices": select("x", []),
  };
  for (const [name, asked] of Object.entries(wrong)) {
    say(`wrong ${name}: ${await shown(() => call(s, "wrong", asked))}`);
  }
}

async function constraints(s: State, say: Say) {
  const x = (more: GenOptions) => gen("x", { maxTokens: 24, temperature: 0, ...more });
  const sayCall = async (name: string, more: GenOptions) => say(`${name}: ${await call(s, "constraints", x(more))}`);
  await sayCall("regex", { regex: /[0-9]{3}-[a-f]{2}/ });
  await sayCall("choices", { oneOf: ["red", "green"] });
  await sayCall("json_schema", { jsonSchema: SCHEMA });
  await sayCall("lark", { lark: 'start: "<" /[0-9]/ ">"' });
  await sayCall("structural_tag", { structuralTag: TAGS, stop: "</f>", maxTokens: 6 });
  await sayCall("int", { type: "int" });
  await sayCall("float", { type: "float" });
  await sayCall("bool", { type: "bool" });
  await sayCall("string", { type: "string" });
  const f = s.copy();
  f.append("typed", x({ jsonSchema: JSON.parse(SCHEMA) }));
  const { a } = await f.getJson<{ a: number }>("x");
  f.append(" ", x({ regex: "[1-9]{2}" }));
  say(`typed: ${a} ${await f.get("x", Number)}`);
}

async function streams(s: State, say: Say) {
  const f = s.copy();
  f.append("streams", gen("x", { maxTokens: 12, temperature: 0 }), "!");
  let pieces = "";
  for await (const piece of f.stream("x")) pieces += piece;
  say(`stream: ${pieces} ${pieces === (await f.get("x"))}`);
}

async function selects(s: State, say: Say) {
  const methods: [string, ChoicesMethod][] = [
    ["token length", "token-length-normalized"],
    ["greedy", "greedy-token-selection"],
    ["unconditional", "unconditional-likelihood-normalized"],
  ];
  for (const [name, choicesMethod] of methods) {
    const f = s.copy();
    f.append("selects 0 ", select("x", ["rare", "red", "ruby", "ready"], { choicesMethod }));
    const { text, choice, scores } = await f.outcome("x");
    say(`select by ${name}: ${text} ${choice} ${scores.map(milli).join(" ")}`);
  }
}

async function forks(s: State, say: Say) {
  const f = s.copy();
  f.append("forks ");
  const forks = f.fork(3);
  for (const [i, fork] of forks.entries()) fork.append(i, gen("x", { maxTokens: 4, temperature: 0 }));
  f.append("then", gen("y", { maxTokens: 4, temperature: 0 }));
  const said = await Promise.all(forks.map((fork) => fork.get("x")));
  say(`forks: ${said.join(" ")} ${await f.get("y")}`);
  say(`a fork's text: ${await forks[2]!.text()}`);
  say(`a fork knows: ${(await f.copy().get("y")) === (await f.get("y"))}`);
}

async function queued(s: State, say: Say) {
  const f = s.copy();
  const x = (name: string) => gen(name, { maxTokens: 3, temperature: 0 });
  f.append("queued ", x("a"), " and ", x("b"));
  f.append(".", x("a"));
  say(`queued: ${await f.get("b")} ${await f.get("a")} ${await f.text()}`);
}

async function tokens(s: State, say: Say) {
  const f = s.copy();
  f.append("tokens");
  say(`next: ${shownLogprobs(await f.nextTokens(3))}`);
  say(`score: ${shownLogprobs(await f.score("abc"))}`);
  say(`as before: ${await f.tokenCount()}`);
  await f.truncate(3);
  say(`cut: ${await f.text()} ${await f.tokenCount()}`);
}

async function errors(s: State, say: Say) {
  const check = async (name: string, step: (f: State) => unknown) => {
    const f = s.copy();
    const result = await shown(async () => {
      step(f);
      await f.sync();
      return await f.tokenCount();
    });
    say(`${name}: ${result}`);
  };
  await check("too long", (f) => f.append("0123456789".repeat(500), gen("x")));
  await check("image", (f) => f.append(image(new Uint8Array(4))));
  await check("end of no role", (f) => f.roleEnd());
  await check("no such token", (f) => f.append(exactly([100_000])));
  const f = s.copy();
  say(`cut to more: ${await shown(() => f.truncate(1000))}`);
}

async function cancelled(s: State, say: Say) {
  let f = s.copy();
  f.append("cancelled", gen("x", { maxTokens: 3000 }));
  const first = !(await f.stream("x").next()).done;
  f.cancel("x");
  let code: string;
  try {
    code = (await f.outcome("x")).finishReason;
  } catch (error) {
    if (!(error instanceof SglError)) throw error;
    code = error.code;
  }
  say(`cancelled: ${first} ${code}`);
  f = s.copy();
  f.append("dropped", gen("x", { maxTokens: 3000 }));
  f.close();
  say("dropped");
}

/** Long calls, all started before the first is read. */
async function slow(s: State, calls: number) {
  const forks = s.fork(calls);
  for (const [i, fork] of forks.entries()) fork.append(i, gen("x", { maxTokens: 40, temperature: 0 }));
  let letters = 0;
  for (const fork of forks) letters += (await fork.get("x")).length;
  return letters;
}

/** Uses up what the run may use, and says how that ended. */
async function budget(s: State) {
  try {
    for (let i = 0; i < 1000; i++) {
      s.append("more ", gen("x", { maxTokens: 20 }));
      await s.outcome("x");
    }
  } catch (error) {
    if (error instanceof SglError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "no end";
}

function recurse(depth: number): number {
  return recurse(depth + 1) + depth;
}

const milli = (value: number) => Math.round(value * 1000);

function shownLogprobs(logprobs: TokenLogprob[]) {
  return logprobs.map(({ token, text, logprob }) => `${token}:${text}:${milli(logprob)}`).join(" ");
}

/** A value, or how its error is told. */
async function shown(ask: () => unknown) {
  try {
    return `${await ask()}`;
  } catch (error) {
    if (error instanceof SglError) return `${error.code}: ${error.message} (retryable=${error.retryable})`;
    throw error;
  }
}
