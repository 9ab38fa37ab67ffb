// Arguments of a program: their JSON Schema, and the values of a run.
import { SglError } from "./error.js";
import { written } from "./written.js";

const TYPES = ["string", "integer", "number", "boolean", "array", "object"];

/** Checks what a program says of its arguments. */
export function checkArguments(declared) {
  for (const [name, argument] of Object.entries(declared)) {
    const wrong = (why) => new TypeError(`argument ${name} ${why}`);
    if (typeof argument !== "object" || argument === null) throw wrong('must be an object, as { type: "string" }');
    if (argument.type !== undefined && !TYPES.includes(argument.type)) {
      throw wrong(`has the type ${written(argument.type)}, and may have one of ${TYPES.join(", ")}`);
    }
    if (argument.default !== undefined) {
      const problem = check(argument.default, argument);
      if (problem) throw wrong(`has a default that ${problem}`);
    }
  }
}

function sorted(value) {
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** JSON Schema of all arguments together, in the order in which they were declared. */
export function schemaOf(declared) {
  const entries = Object.entries(declared);
  return {
    type: "object",
    properties: Object.fromEntries(entries.map(([name, { optional, ...schema }]) => [name, sorted(schema)])),
    required: entries.filter(([, it]) => !it.optional && it.default === undefined).map(([name]) => name),
    additionalProperties: false,
  };
}

/** The values of a run. What is wrong with them is thrown as `invalid`. */
export function take(declared, json) {
  const invalid = (message) => new SglError(message, "invalid");
  let given;
  try {
    given = JSON.parse(json.trim() || "{}");
  } catch (error) {
    throw invalid(`the arguments are no JSON: ${error.message}`);
  }
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw invalid("the arguments must be a JSON object of names and values");
  }
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(declared, name)) {
      const takes = Object.keys(declared).join(", ") || "no arguments";
      throw invalid(`unknown argument ${written(name)}; the program takes ${takes}`);
    }
  }
  const values = {};
  for (const [name, argument] of Object.entries(declared)) {
    const mayMiss = argument.optional || argument.default !== undefined;
    if (!Object.hasOwn(given, name) && !mayMiss) throw invalid(`missing argument ${written(name)}`);
    if (mayMiss && (given[name] === undefined || given[name] === null)) {
      values[name] = structured(argument.default);
      continue;
    }
    const problem = check(given[name], argument);
    if (problem) throw invalid(`argument ${written(name)} ${problem}`);
    values[name] = given[name];
  }
  return values;
}

/** A copy: what one run does to a default is not seen by another call. */
function structured(value) {
  return value === undefined ? undefined : JSON.parse(JSON.stringify(value));
}

const IS = {
  string: ["text", (value) => typeof value === "string"],
  integer: ["an integer", Number.isInteger],
  number: ["a number", Number.isFinite],
  boolean: ["true or false", (value) => typeof value === "boolean"],
  array: ["a list", Array.isArray],
  object: ["an object", (value) => typeof value === "object" && value !== null && !Array.isArray(value)],
};

/** What is wrong with a value, as in "must be an integer, and is text". The host has checked the whole schema. */
function check(value, schema) {
  if (schema.type !== undefined) {
    const [wanted, is] = IS[schema.type];
    if (!is(value)) return `must be ${wanted}, and is ${written(value)}`;
  }
  if (schema.enum && !schema.enum.includes(value)) {
    return `must be one of ${schema.enum.map((it) => written(it)).join(", ")}, and is ${written(value)}`;
  }
  const { minimum = -Infinity, maximum = Infinity } = schema;
  if (value < minimum) return `must be at least ${minimum}, and is ${value}`;
  if (value > maximum) return `must be at most ${maximum}, and is ${value}`;
  if (schema.type === "array" && schema.items) {
    for (const [index, item] of value.entries()) {
      const problem = check(item, schema.items);
      if (problem) return `item ${index} ${problem}`;
    }
  }
  return undefined;
}
