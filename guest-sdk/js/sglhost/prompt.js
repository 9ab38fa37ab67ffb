// What can be appended to a state: text, generated text, images, messages, or lists of these.
import { Gen } from "./generate.js";
import { written } from "./written.js";

/** One step: the host's function, and what it is given beside the context. */
export class Part {
  constructor(step, value) {
    this.step = step;
    this.value = value;
  }

  /** Text joined to it with `+` would be "[object Object]". */
  [Symbol.toPrimitive]() {
    throw new TypeError("steps are not joined with +: give one after the other, as in s.append(system(\"…\"), user(\"…\"))");
  }
}

/** What is given as s.user`Tips on ${topic}.`, texts first, in its order. */
function woven(content) {
  const [texts, ...values] = content;
  if (!Array.isArray(texts) || !Object.hasOwn(texts, "raw")) return content;
  return texts.flatMap((text, i) => (i < values.length ? [text, values[i]] : [text]));
}

export const roleBegin = (name) => new Part("beginRole", String(name));
export const roleEnd = () => new Part("endRole");
export const role = (name, ...content) => [roleBegin(name), woven(content), roleEnd()];

export const system = (...content) => role("system", ...content);
export const systemBegin = () => roleBegin("system");
export const systemEnd = roleEnd;
export const user = (...content) => role("user", ...content);
export const userBegin = () => roleBegin("user");
export const userEnd = roleEnd;
export const assistant = (...content) => role("assistant", ...content);
export const assistantBegin = () => roleBegin("assistant");
export const assistantEnd = roleEnd;

export const markup = (text) => new Part("markup", String(text));

export function tokens(ids) {
  return new Part("tokens", Array.from(ids));
}

export function image(bytes) {
  if (!(bytes instanceof Uint8Array)) throw new TypeError(`an image is a Uint8Array, and not ${written(bytes)}`);
  return new Part("image", bytes);
}

/** The steps of some content, in order. Text is a step of its own. */
export function* partsOf(content) {
  for (const part of woven(content)) {
    if (typeof part === "number" || typeof part === "bigint" || typeof part === "boolean") yield String(part);
    else if (typeof part === "string" || part instanceof Part || part instanceof Gen) yield part;
    else if (Array.isArray(part)) yield* partsOf(part);
    else if (part instanceof Promise) throw new TypeError("a promise cannot be appended: await it first");
    else throw new TypeError(`${written(part)} cannot be appended: it is no text, nor made by gen, user and the like`);
  }
}
