// What to ask the model for: `gen` and `select`, with every option that a call has.
import { SglError, ask } from "./error.js";
import { host } from "./host.js";
import { written } from "./written.js";

/** An integer of at most 18 digits that is JSON: no `+`, no leading zeros, no `-0`. */
export const INT = "0|-?[1-9][0-9]{0,17}";
/** A decimal number that is JSON. */
export const FLOAT = String.raw`-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?`;
/** As JSON writes it; SGLang has Python's `True` and `False`. */
export const BOOL = "true|false";
/** A string of JSON's, with its quotes. Escapes that are half of a character (surrogates) are left out. */
export const STRING =
  String.raw`"([^"\\\x00-\x1f\x7f]|\\(["\\/bfnrt]|u([0-9a-cefA-CEF][0-9a-fA-F]|[dD][0-7])[0-9a-fA-F]{2}))*"`;

const TYPES = { int: INT, float: FLOAT, bool: BOOL, string: STRING };

const U32 = [0n, 2n ** 32n - 1n];

/** A whole number that the host can be given; it would be taken modulo its size otherwise. */
function whole(name, value, [low, high] = U32) {
  if (typeof value !== "bigint" && !Number.isInteger(value)) {
    throw new TypeError(`${name} must be a whole number, and is ${written(value)}`);
  }
  const exact = BigInt(value);
  if (exact < low || exact > high) {
    throw new SglError(`${name} must be from ${low} to ${high}, and is ${value}`, "invalid");
  }
  return exact;
}

const u32 = (name, value) => Number(whole(name, value));

/** A count or a token, checked. */
export const count = u32;

function number(name, value) {
  if (typeof value !== "number" || Number.isNaN(value)) {
    throw new TypeError(`${name} must be a number, and is ${written(value)}`);
  }
  return value;
}

function bool(name, value) {
  if (typeof value !== "boolean") throw new TypeError(`${name} must be true or false, and is ${written(value)}`);
  return value;
}

function text(name, value) {
  if (typeof value !== "string") throw new TypeError(`${name} must be text, and is ${written(value)}`);
  return value;
}

/** A pattern of Rust's. A literal of JavaScript's saves doubling backslashes. */
function pattern(name, value) {
  if (!(value instanceof RegExp)) return text(name, value);
  if (value.flags) throw new TypeError(`${name} takes no flags: write (?i) into the pattern for ${written(value)}`);
  return value.source;
}

const json = (name, value) => {
  if (typeof value === "string") return value;
  if (typeof value === "object" && value !== null) return JSON.stringify(value);
  throw new TypeError(`${name} must be an object, or JSON as text, and is ${written(value)}`);
};

function several(name, value, check) {
  return (Array.isArray(value) ? value : [value]).map((it) => check(name, it));
}

const one = (setter, check) => (name, value) => {
  const checked = check(name, value);
  return (options) => host[setter](options, checked);
};

const each = (setter, check) => (name, value) => {
  const checked = several(name, value, check);
  return (options) => checked.forEach((it) => host[setter](options, it));
};

const constraint = (maker, check) => (name, value) => {
  const checked = check(name, value);
  return (options) => host.optionsConstrain(options, ask(host[maker], checked));
};

const list = (name, value) => {
  if (!Array.isArray(value)) throw new TypeError(`${name} must be a list of texts, and is ${written(value)}`);
  return several(name, value, text);
};

function biases(name, value) {
  const entries = value instanceof Map ? value : Object.entries(value);
  const checked = Array.from(entries, ([token, bias]) => [u32(name, Number(token)), number(name, bias)]);
  return (options) => checked.forEach(([token, bias]) => host.optionsLogitBias(options, token, bias));
}

function typeOf(name, value) {
  if (!Object.hasOwn(TYPES, value)) {
    throw new TypeError(`${name} must be one of ${Object.keys(TYPES).join(", ")}, and is ${written(value)}`);
  }
  return TYPES[value];
}

/** Of each option: from its value to what sets it on the host's options. */
const OPTIONS = {
  maxTokens: one("optionsMaxTokens", u32),
  minTokens: one("optionsMinTokens", u32),
  temperature: one("optionsTemperature", number),
  topP: one("optionsTopP", number),
  topK: one("optionsTopK", (name, value) => Number(whole(name, value, [-(2n ** 31n), 2n ** 31n - 1n]))),
  minP: one("optionsMinP", number),
  frequencyPenalty: one("optionsFrequencyPenalty", number),
  presencePenalty: one("optionsPresencePenalty", number),
  repetitionPenalty: one("optionsRepetitionPenalty", number),
  stop: each("optionsStop", text),
  stopTokenIds: each("optionsStopToken", u32),
  stopRegex: each("optionsStopRegex", pattern),
  ignoreEos: one("optionsIgnoreEos", bool),
  noStopTrim: one("optionsNoStopTrim", bool),
  skipSpecialTokens: one("optionsSkipSpecialTokens", bool),
  // All 64 bits, of which the host takes the lower half as negative.
  seed: one("optionsSeed", (name, value) => BigInt.asIntN(64, whole(name, value, [0n, 2n ** 64n - 1n]))),
  logitBias: biases,
  topLogprobs: one("optionsTopLogprobs", u32),
  choicesMethod: one("optionsChoicesMethod", text),
};

/** The same of what a call has at most one of. */
const CONSTRAINTS = {
  type: constraint("constraintRegex", typeOf),
  regex: constraint("constraintRegex", pattern),
  jsonSchema: constraint("constraintJsonSchema", json),
  lark: constraint("constraintLark", text),
  structuralTag: constraint("constraintStructuralTag", json),
  oneOf: constraint("constraintChoices", list),
};

/** Text to be generated, and how. Made by `gen`, appended like text. */
export class Gen {
  #setters = [];

  /** Text joined to it with `+` would be "[object Object]". */
  [Symbol.toPrimitive]() {
    throw new TypeError("text and what is generated are not joined with +: give both, as in s.assistant(\"Tip: \", gen(\"tip\"))");
  }

  constructor(name, { choices, ...options }) {
    this.name = name === undefined || name === null ? "" : text("the name", name);
    this.choices = choices === undefined ? undefined : list("choices", choices);
    const constraints = Object.keys(CONSTRAINTS).filter((it) => options[it] !== undefined);
    if (constraints.length + (choices === undefined ? 0 : 1) > 1) {
      throw new TypeError(`a call has one of ${[...Object.keys(CONSTRAINTS), "choices"].join(", ")}`);
    }
    for (const [option, value] of Object.entries(options)) {
      const setter = Object.hasOwn(OPTIONS, option) ? OPTIONS[option] : CONSTRAINTS[option];
      if (!setter) throw new TypeError(`gen has no option ${option}`);
      if (value !== undefined) this.#setters.push(setter(option, value));
    }
  }

  /** The options as the host takes them. A bad pattern, and the like, is thrown. */
  toOptions() {
    const options = host.options();
    if (this.name) host.optionsName(options, this.name);
    for (const set of this.#setters) set(options);
    return options;
  }
}

export const gen = (name, options = {}) => new Gen(name, options);
export const genInt = (name, options = {}) => new Gen(name, { ...options, type: "int" });
export const genFloat = (name, options = {}) => new Gen(name, { ...options, type: "float" });
export const genBool = (name, options = {}) => new Gen(name, { ...options, type: "bool" });
export const genString = (name, options = {}) => new Gen(name, { ...options, type: "string" });

export function select(name, choices, options = {}) {
  if (choices === undefined) throw new TypeError("select needs choices");
  return new Gen(name, { ...options, choices });
}
