/**
 * Prompt programs that run next to the model, in JavaScript and TypeScript.
 *
 * ```js
 * import { gen, program } from "sglhost";
 *
 * export default program({
 *   name: "basic_qa",
 *   description: "Answers a question.",
 *   arguments: {
 *     question: { type: "string", description: "What to ask." },
 *     max_tokens: { type: "integer", default: 512 },
 *   },
 *   async run(s, { question, max_tokens }) {
 *     s.system("You are a helpful assistant.");
 *     s.user(question);
 *     s.assistant(gen("answer", { maxTokens: max_tokens }));
 *     return await s.get("answer");
 *   },
 * });
 * ```
 *
 * One rule: steps start at once and wait for nothing, and what reads a result gives a promise. So the calls of forks
 * run at the same time, whether or not the program waits for one of them first.
 */

/** What JSON can hold. */
export type Json = string | number | boolean | null | Json[] | { [name: string]: Json };

// ---- The program

/** An argument of a program: JSON Schema of its values, and whether it may be left out. */
export interface Argument {
  /** What its values are. None: any JSON. */
  readonly type?: "string" | "integer" | "number" | "boolean" | "array" | "object";
  /** What it is for, for callers. */
  readonly description?: string;
  /** What the program is given when callers give nothing, or `null`. The argument may then be left out. */
  readonly default?: unknown;
  /** It may be left out, and is then `undefined`. */
  readonly optional?: boolean;
  /** Its values, if there are only a few. */
  readonly enum?: readonly unknown[];
  /** Of an `array`: what its items are. */
  readonly items?: Argument;
  /** Of a number: the least that it may be. */
  readonly minimum?: number;
  /** Of a number: the most that it may be. */
  readonly maximum?: number;
  /** More of JSON Schema, such as `maxLength`; the host checks it before a run. */
  readonly [keyword: string]: unknown;
}

/** The type of an argument's values. */
export type ValueOf<A extends Argument> = A extends { enum: readonly (infer V)[] }
  ? V
  : A extends { type: "string" }
    ? string
    : A extends { type: "integer" | "number" }
      ? number
      : A extends { type: "boolean" }
        ? boolean
        : A extends { type: "array"; items: infer I extends Argument }
          ? ValueOf<I>[]
          : A extends { type: "array" }
            ? Json[]
            : A extends { type: "object" }
              ? { [name: string]: Json }
              : Json;

/** What a program's `run` is given for its arguments. */
export type ValuesOf<A extends { readonly [name: string]: Argument }> = {
  -readonly [N in keyof A]: A[N] extends { default: {} }
    ? ValueOf<A[N]>
    : A[N] extends { optional: true }
      ? ValueOf<A[N]> | undefined
      : ValueOf<A[N]>;
};

/** A program, and what callers are told of it. */
export interface Program<A extends { readonly [name: string]: Argument } = {}, R = unknown> {
  /** Its name. */
  readonly name: string;
  /** What it does, for callers. */
  readonly description?: string;
  /** Its arguments, in this order; names are those of `sglhost run`'s flags (`max_tokens` is `--max-tokens`). */
  readonly arguments?: A;
  /**
   * What it does.
   *
   * What it returns, or what its promise resolves to, is the run's result: anything that `JSON.stringify` takes;
   * nothing, and a `State`, is `null`. What it throws ends the run: an `SglError` with its code and message, anything
   * else with the code `program` and the line that threw it. The run ends when it does: what it started without `await`
   * is not waited for, except for calls on `s`, which are.
   *
   * @param s The conversation, empty.
   * @param values The arguments, checked, by name.
   */
  readonly run: (s: State, values: ValuesOf<A>) => R | Promise<R>;
}

/**
 * Makes a program of a function. A file makes one; where it imports others that do, its own is the one that runs, and
 * theirs can be called: `await other.run(s.copy(), { city: "Paris" })`.
 *
 * @throws TypeError What is said of it is wrong, such as a default of another type.
 */
export function program<const A extends { readonly [name: string]: Argument } = {}, R = unknown>(
  program: Program<A, R>,
): Required<Program<A, R>>;

// ---- What can be appended

/** A step of a conversation, made by `role`, `markup`, `tokens`, `image` and the like. */
export interface Part {
  /** Which it is. */
  readonly step: string;
}

/** Text to be generated, made by `gen` or `select`. */
export interface Gen {
  /** What it is read by; empty for none. */
  readonly name: string;
}

/**
 * Whatever can be appended: text, numbers, text to be generated, messages, or lists of these, one after the other. What
 * takes it may also be put before a template: s.user`Give tips on ${topic}.` is `s.user("Give tips on ", topic, ".")`.
 */
export type Content = string | number | bigint | boolean | Gen | Part | readonly Content[];

/** A whole message of any role that the model's chat template knows: `s.append(role("tool", "42"))`. */
export function role(name: string, ...content: Content[]): Content;
/** The beginning of a message of any role. */
export function roleBegin(name: string): Part;
/** The end of the message that was begun last. */
export function roleEnd(): Part;
/** A whole system message. */
export function system(...content: Content[]): Content;
/** The beginning of a system message. */
export function systemBegin(): Part;
/** The end of a system message. */
export function systemEnd(): Part;
/** A whole message of the user. */
export function user(...content: Content[]): Content;
/** The beginning of a message of the user. */
export function userBegin(): Part;
/** The end of a message of the user. */
export function userEnd(): Part;
/** A whole message of the assistant. */
export function assistant(...content: Content[]): Content;
/** The beginning of a message of the assistant. */
export function assistantBegin(): Part;
/** The end of a message of the assistant. */
export function assistantEnd(): Part;
/** Text in which the model's special tokens are recognised; plain text never becomes one. */
export function markup(text: string): Part;
/** Tokens as they are. */
export function tokens(ids: Iterable<number>): Part;
/** A picture (PNG, JPEG, WebP or GIF), for models that see; `acceptsImages` tells. */
export function image(bytes: Uint8Array): Part;

// ---- What to ask for

/** How `select` and `choices` compare. */
export type ChoicesMethod =
  /** Highest mean log-probability over the choice's tokens. The default. */
  | "token-length-normalized"
  /** Highest log-probability token by token, as greedy decoding over the choices would take them. */
  | "greedy-token-selection"
  /** Highest mean of log-probability given the prompt less log-probability without it. */
  | "unconditional-likelihood-normalized";

/** How a call generates. What is not set takes the host's default, which is SGLang's. */
export interface SamplingOptions {
  /** Most tokens to generate (default 128). */
  maxTokens?: number;
  /** Until this many tokens are generated, neither end-of-text nor a stop token is taken. */
  minTokens?: number;
  /** 0 always takes the likeliest token; 1 (the default) leaves the distribution as it is. */
  temperature?: number;
  /** Keep the likeliest tokens whose probabilities reach this sum, in (0, 1]. */
  topP?: number;
  /** Keep this many of the likeliest tokens; -1 keeps all. */
  topK?: number;
  /** Keep tokens at least this fraction as likely as the likeliest, in [0, 1]. */
  minP?: number;
  /** Subtracted from a token's logit for each time that this call took it, in [-2, 2]. */
  frequencyPenalty?: number;
  /** Subtracted once from the logit of each token that this call took, in [-2, 2]. */
  presencePenalty?: number;
  /** Divides positive and multiplies negative logits of tokens that this call took, in [0.01, 2]. */
  repetitionPenalty?: number;
  /** Stop at this text, or at any of these. It is cut off, with all after it. */
  stop?: string | readonly string[];
  /** Stop at this token, or at any of these. */
  stopTokenIds?: number | readonly number[];
  /** Stop where this regular expression (of Rust's), or any of these, matches. The match is kept. */
  stopRegex?: string | RegExp | readonly (string | RegExp)[];
  /** Go on after end-of-text. */
  ignoreEos?: boolean;
  /** Keep in the output what ended it: the stop text, stop token or end-of-text. */
  noStopTrim?: boolean;
  /** Leave control tokens out of the text (the default). */
  skipSpecialTokens?: boolean;
  /** Same seed, same prompt, same output. From 0 to 2^64 - 1; above 2^53 as a `bigint`. */
  seed?: number | bigint;
  /** What to add to the logits of tokens, each in [-1e9, 1e9]; -100 forbids in practice. By token. */
  logitBias?: { readonly [token: number]: number } | ReadonlyMap<number, number>;
  /** Report log-probabilities of the generated tokens, with this many alternatives each. */
  topLogprobs?: number;
}

/** What the whole output must match: at most one of these. */
export interface ConstraintOptions {
  /**
   * SGLang's `dtype`, but what it admits is JSON: an `"int"` of at most 18 digits, a `"float"` (a decimal number), a
   * `"bool"` (`true` or `false`), a `"string"` between quotes. Read it with `get(name, Number)`, `get(name, Boolean)`
   * or `getJson(name)`.
   */
  type?: "int" | "float" | "bool" | "string";
  /**
   * A regular expression over the whole output, in the syntax of Rust's `regex` crate without word boundaries. Of a
   * literal of JavaScript's it is the source.
   */
  regex?: string | RegExp;
  /**
   * JSON that this JSON Schema accepts, an object or JSON text: in one line, with a space after each `,` and `:`, and
   * properties in the schema's order. A keyword that the host does not implement is the error `unsupported`, which
   * names it. `"x-guidance": { whitespace_flexible: true }` in it leaves whitespace to the model.
   */
  jsonSchema?: string | object;
  /** What this grammar makes of `start`, in the variant of Lark's notation that the llguidance library documents. */
  lark?: string;
  /**
   * Free text in which a trigger opens one of the tags that begin with it, and what is in a tag is constrained: calls
   * of tools, for one. An object (or JSON text) of the form that SGLang takes:
   * `{ structures: [{ begin: "<f=g>", schema: {}, end: "</f>" }], triggers: ["<f="] }`, with `regex` in place of
   * `schema` where wanted.
   */
  structuralTag?: string | object;
  /** One of these texts, sampled token by token; `choices` compares them as wholes. */
  oneOf?: readonly string[];
}

/** How to choose. */
export interface SelectOptions {
  /** How choices are compared. */
  choicesMethod?: ChoicesMethod;
  /** As of `SamplingOptions`. */
  temperature?: number;
}

/** Every option of `gen`. */
export interface GenOptions extends SamplingOptions, ConstraintOptions {
  /** Take the likeliest of these continuations instead of generating freely, as `select` does. */
  choices?: readonly string[];
  /** How choices are compared. */
  choicesMethod?: ChoicesMethod;
}

/**
 * Text to be generated under this name: `s.assistant(gen("answer", { maxTokens: 512 }))`, then `await s.get("answer")`.
 * Without a name nobody can read it by one.
 *
 * @throws TypeError An option that there is not, or of another type.
 * @throws SglError `invalid`: a number that the host's options cannot hold.
 */
export function gen(name?: string, options?: GenOptions): Gen;
/** An integer: `gen(name, { type: "int" })`. */
export function genInt(name?: string, options?: SamplingOptions): Gen;
/** A decimal number: `gen(name, { type: "float" })`. */
export function genFloat(name?: string, options?: SamplingOptions): Gen;
/** `true` or `false`: `gen(name, { type: "bool" })`. */
export function genBool(name?: string, options?: SamplingOptions): Gen;
/** A string between quotes: `gen(name, { type: "string" })`. */
export function genString(name?: string, options?: SamplingOptions): Gen;
/** The likeliest of several continuations: `gen(name, { choices })`. */
export function select(name: string | undefined, choices: readonly string[], options?: SelectOptions): Gen;

// ---- What came of it

/** A token and how likely it is. */
export interface TokenLogprob {
  /** The token. */
  readonly token: number;
  /** The bytes that it stands for, not always whole characters. */
  readonly bytes: Uint8Array;
  /** The same as text; what is no whole character is U+FFFD. */
  readonly text: string;
  /** Natural logarithm of its probability under the model's own distribution, before temperature and the like. */
  readonly logprob: number;
}

/** How a call ended. */
export class Outcome {
  private constructor();
  /** The whole output; of a `select` the choice taken. */
  readonly text: string;
  /** The tokens sampled, without the one that ended the output (unless `noStopTrim` keeps it). */
  readonly tokens: readonly number[];
  /** Why it ended. */
  readonly finishReason: "stop" | "length" | "end-of-text";
  /** The stop text, regex match or token that ended it. */
  readonly matched: string | null;
  /** Of each of `tokens`, if `topLogprobs` was set. */
  readonly logprobs: TokenLogprob[];
  /** The likeliest tokens in place of `tokens[position]`, likeliest first; none if `topLogprobs` was not set. */
  topLogprobs(position: number): TokenLogprob[];
  /** Tokens before the output, cached ones included. */
  readonly promptTokens: number;
  /** Of those, tokens that were computed before. */
  readonly cachedTokens: number;
  /** Tokens of the output. */
  readonly completionTokens: number;
  /** Of those, tokens that nobody sampled, because the constraint allowed nothing else. */
  readonly forcedTokens: number;
  /** Of a `select`: which choice. */
  readonly choice: number | null;
  /** Of a `select`: the score of each choice that the method compared. */
  readonly scores: readonly number[];
}

/**
 * A failure that the host, or the program itself, found. It is thrown where a step is made, and what a promise is
 * rejected with where a result is read. One that nobody catches ends the run with its code and message;
 * `throw new SglError("there is no such city")` is the program's way to end with an error of its own.
 */
export class SglError extends Error {
  /**
   * @param message For people: names the input, the limit and the way out.
   * @param code As below; `program` if it is not given.
   * @param retryable As below; false if it is not given.
   */
  constructor(message: string, code?: string, retryable?: boolean);
  /**
   * What kind of failure it is, from an open set: `invalid`, `limit-exceeded`, `too-long`, `unsupported`, `cancelled`,
   * `deadline-exceeded`, `unavailable`, or `program` for one that the program itself found.
   */
  readonly code: string;
  /** Whether the same step may succeed later. */
  readonly retryable: boolean;
}

// ---- The state

/**
 * A conversation with the model: text, generated results by name, and their place in the host's cache.
 *
 * Methods that append return the state and wait for nothing; they throw `SglError` where the host refuses a step. Those
 * that read give promises, rejected with the `SglError` of a call that failed.
 */
export class State {
  /**
   * An empty conversation; a program is given its first one.
   *
   * @param model One of `models()`; none: the host's default.
   */
  constructor(model?: string);

  /** Appends text, generated text, images or messages, one after the other. */
  append(...content: Content[]): this;

  /** A whole message of any role that the model's chat template knows. */
  role(name: string, ...content: Content[]): this;
  /** The beginning of a message of any role. */
  roleBegin(name: string): this;
  /** The end of the message that was begun last. */
  roleEnd(): this;
  /**
   * A message of any role that a function writes, as SGLang's `with s.role(name):`. To be awaited if the function is
   * `async`: the message ends when it does.
   */
  roleBlock(name: string, write: (s: this) => Promise<unknown>): Promise<this>;
  roleBlock(name: string, write: (s: this) => unknown): this;

  /** A whole system message. */
  system(...content: Content[]): this;
  /** The beginning of a system message. */
  systemBegin(): this;
  /** The end of a system message. */
  systemEnd(): this;
  /** A system message that a function writes; see `roleBlock`. */
  systemBlock(write: (s: this) => Promise<unknown>): Promise<this>;
  systemBlock(write: (s: this) => unknown): this;

  /** A whole message of the user. */
  user(...content: Content[]): this;
  /** The beginning of a message of the user. */
  userBegin(): this;
  /** The end of a message of the user. */
  userEnd(): this;
  /** A message of the user that a function writes; see `roleBlock`. */
  userBlock(write: (s: this) => Promise<unknown>): Promise<this>;
  userBlock(write: (s: this) => unknown): this;

  /** A whole message of the assistant. */
  assistant(...content: Content[]): this;
  /** The beginning of a message of the assistant. */
  assistantBegin(): this;
  /** The end of a message of the assistant. */
  assistantEnd(): this;
  /** A message of the assistant that a function writes; see `roleBlock`. */
  assistantBlock(write: (s: this) => Promise<unknown>): Promise<this>;
  assistantBlock(write: (s: this) => unknown): this;

  /** Whether anything was generated under this name, ended or not. */
  has(name: string): boolean;
  /**
   * The text generated under `name`, once it is all there; of several of that name the last.
   *
   * Rejected with `SglError`: the call failed, or there is none of that name (`invalid`).
   */
  get(name: string): Promise<string>;
  /**
   * The same as a number, a bool, or what a function makes of the text: `await s.get("count", Number)`.
   *
   * Rejected with `SglError` also where the text is no number or bool; spaces around it do not matter.
   */
  get(name: string, read: NumberConstructor): Promise<number>;
  get(name: string, read: BooleanConstructor): Promise<boolean>;
  get(name: string, read: BigIntConstructor): Promise<bigint>;
  get<T>(name: string, read: (text: string) => T): Promise<T>;
  /**
   * The text generated under `name`, read as JSON: what a `jsonSchema` asked for.
   *
   * Rejected with `SglError` also where the text is no JSON: it may have reached `maxTokens` first.
   */
  getJson<T = any>(name: string): Promise<T>;
  /** How the call named `name` ended: its text, tokens, finish reason, log-probabilities, scores. */
  outcome(name: string): Promise<Outcome>;
  /**
   * The pieces of the text generated as `name`, each as soon as it is there: `for await (const piece of
   * s.stream("x"))`. At most once a call. They end where the call fails; `get` tells why.
   *
   * @throws SglError There is none of that name, or it was asked for before.
   */
  stream(name: string): AsyncGenerator<string, void, undefined>;
  /**
   * Stops generating `name`; what was delivered stays part of the conversation.
   *
   * @throws SglError There is none of that name.
   */
  cancel(name: string): void;

  /**
   * Independent copies from here on, with the results so far. They share the cache up to here, and their calls run at
   * the same time.
   *
   * @throws SglError The run may open no more contexts; `contextsLeft` tells beforehand.
   */
  fork(count: number): State[];
  /** One independent copy from here on. */
  copy(): State;

  /** The whole text so far, role markers included. Waits for what is queued. */
  text(): Promise<string>;
  /** Length of the conversation in tokens. Waits for what is queued. */
  tokenCount(): Promise<number>;
  /** Cuts the conversation back to its first `tokens` tokens. */
  truncate(tokens: number): Promise<void>;
  /** Log-probability of each token of `text` as the continuation. The conversation stays as it is. */
  score(text: string): Promise<TokenLogprob[]>;
  /** The likeliest next tokens, likeliest first: for search, voting and decoding of one's own. */
  nextTokens(count: number): Promise<TokenLogprob[]>;

  /** Waits for all calls of this state; rejected with the first failure. */
  sync(): Promise<void>;
  /** The first failure of a step or call of this state that was thrown, if there was one. */
  error(): SglError | undefined;
  /**
   * Gives the conversation back to the host now, and cancels what it still generates and no other state holds. It can
   * be used no more. A state that nothing refers to any more is given back as well, but a promise may refer to it.
   *
   * @throws TypeError The program waits for something of it.
   */
  close(): void;
}

// ---- The run

/**
 * Sends a piece of output to whoever started the run, at once; text as it is, anything else as JSON. To be awaited: it
 * waits when the reader is slow.
 */
export function emit(channel: string, data: unknown): Promise<void>;
/** Tokens, of prompts (cached ones count) and outputs together, that the run may still use. */
export function tokensLeft(): number;
/** States that the run may still open or fork; closing one gives it back. */
export function contextsLeft(): number;
/** Time until the run's deadline, in milliseconds. */
export function millisecondsLeft(): number;
/** Names of the models served here, the default first. */
export function models(): string[];
/**
 * Longest conversation of a model, in tokens; none: of the default model.
 *
 * @throws SglError No model of that name is served.
 */
export function contextLength(model?: string): number;
/**
 * Whether a model takes images; none: the default model.
 *
 * @throws SglError No model of that name is served.
 */
export function acceptsImages(model?: string): boolean;

// ---- What every program has besides the language

declare global {
  /** What is written with it is in the run's log. */
  interface Console {
    /** To standard output. */
    log(...values: any[]): void;
    /** To standard output. */
    info(...values: any[]): void;
    /** To standard output. */
    debug(...values: any[]): void;
    /** To standard error. */
    warn(...values: any[]): void;
    /** To standard error. */
    error(...values: any[]): void;
    /** To standard error. */
    trace(...values: any[]): void;
  }
  var console: Console;

  /** Text as UTF-8. */
  interface TextEncoder {
    readonly encoding: string;
    encode(text?: string): Uint8Array<ArrayBuffer>;
  }
  var TextEncoder: { prototype: TextEncoder; new (): TextEncoder };

  /** Text of UTF-8; what is none is U+FFFD. */
  interface TextDecoder {
    readonly encoding: string;
    decode(bytes?: ArrayBuffer | ArrayBufferView): string;
  }
  var TextDecoder: { prototype: TextDecoder; new (encoding?: string): TextDecoder };

  /** Time since the run began, in milliseconds. */
  interface Performance {
    now(): number;
  }
  var performance: Performance;

  /** Calls a function when all that runs now has waited or ended. */
  function queueMicrotask(callback: () => void): void;
  /** Text of Base64. */
  function atob(data: string): string;
  /** Base64 of text whose characters are bytes. */
  function btoa(data: string): string;
}
