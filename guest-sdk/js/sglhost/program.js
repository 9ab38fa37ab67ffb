// `program`: from a function and what it says of itself to what the host calls.
import { checkArguments, schemaOf, take } from "./arguments.js";
import { SglError } from "./error.js";
import { failureOf } from "./failure.js";
import { host } from "./host.js";
import { State } from "./state.js";

export function program({ name, description = "", arguments: declared = {}, run }) {
  if (typeof name !== "string" || !name) throw new TypeError('a program has a name: program({ name: "answer", … })');
  if (typeof run !== "function") throw new TypeError(`the program ${name} has no function run(s, arguments)`);
  checkArguments(declared);
  const made = { name, description, arguments: declared, run };
  // What the host calls, of the program that was made last: a file is evaluated after those that it imports.
  globalThis.sglhostProgram = {
    describe: () => JSON.stringify({ name, description, arguments: schemaOf(declared) }),
    run: (json) =>
      execute(made, json).catch((thrown) => {
        throw failureOf(thrown);
      }),
  };
  return made;
}

async function execute({ arguments: declared, run }, json) {
  // Before a context is opened: a wrong argument should cost nothing.
  const values = take(declared, json);
  const state = new State();
  const result = await run(state, values);
  await State.finish(state);
  // Promises that nobody awaited, and that failed.
  for (const reason of host.rejections()) throw reason;
  return toJson(result instanceof State ? null : result);
}

function toJson(result) {
  let json;
  try {
    json = JSON.stringify(result === undefined ? null : result, (key, value) => {
      // It would be written as {}.
      if (value instanceof Promise) throw new TypeError(`${key || "it"} is a promise: await it first`);
      return value;
    });
  } catch (error) {
    throw new SglError(`the result cannot be written as JSON: ${error.message}`);
  }
  if (json === undefined) throw new SglError(`the result, a ${typeof result}, cannot be written as JSON`);
  return json;
}
