import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { begin, exported, seen } from "./fake_host.js";
import { SglError, emit, gen, program } from "../sglhost/index.js";

beforeEach(begin);

test("a program describes itself as one in Rust does", () => {
  program({
    name: "answer",
    description: "Answers a question, or several.",
    arguments: {
      question: { type: "string", description: "What to ask." },
      max_tokens: { type: "integer", minimum: 0, maximum: 4294967295, default: 512 },
      language: { type: "string", description: "Language of the answer.", default: "en" },
      hints: { type: "array", items: { type: "string" }, optional: true },
    },
    run() {},
  });
  // Of guest-sdk/rust/tests/describe.rs.
  assert.equal(
    exported.describe(),
    '{"name":"answer","description":"Answers a question, or several.","arguments":{"type":"object",' +
      '"properties":{"question":{"description":"What to ask.","type":"string"},' +
      '"max_tokens":{"default":512,"maximum":4294967295,"minimum":0,"type":"integer"},' +
      '"language":{"default":"en","description":"Language of the answer.","type":"string"},' +
      '"hints":{"items":{"type":"string"},"type":"array"}},' +
      '"required":["question"],"additionalProperties":false}}',
  );
  program({ name: "nothing", run() {} });
  assert.equal(
    exported.describe(),
    '{"name":"nothing","description":"","arguments":{"type":"object","properties":{},' +
      '"required":[],"additionalProperties":false}}',
  );
});

test("arguments are checked, and have defaults", async () => {
  program({
    name: "p",
    arguments: {
      question: { type: "string" },
      count: { type: "integer", default: 3 },
      hints: { type: "array", items: { type: "string" }, optional: true },
    },
    run: (_, values) => values,
  });
  assert.deepEqual(await exported.run({ question: "Why?", count: null }), { question: "Why?", count: 3 });
  const check = (values, message) => assert.rejects(exported.run(values), { code: "invalid", message });
  await check({}, 'missing argument "question"');
  await check({ question: 1 }, 'argument "question" must be text, and is 1');
  await check({ question: "", count: 1.5 }, 'argument "count" must be an integer, and is 1.5');
  await check({ question: "", hints: ["a", 2] }, 'argument "hints" item 1 must be text, and is 2');
  await check({ qestion: "" }, 'unknown argument "qestion"; the program takes question, count, hints');
  await check([], "the arguments must be a JSON object of names and values");
  assert.equal(seen.contexts, 1, "a context was opened for wrong arguments");
});

test("what a program says of itself wrongly is told at once", () => {
  assert.throws(() => program({ run() {} }), /has a name/);
  assert.throws(() => program({ name: "p" }), /has no function run/);
  const check = (argument, message) =>
    assert.throws(() => program({ name: "p", arguments: { a: argument }, run() {} }), { message });
  check("string", 'argument a must be an object, as { type: "string" }');
  check({ type: "text" }, /argument a has the type "text"/);
  check({ type: "integer", default: "3" }, 'argument a has a default that must be an integer, and is "3"');
});

test("a result is what is returned, once all calls have ended", async () => {
  const run = (run) => {
    program({ name: "p", run });
    return exported.run();
  };
  seen.answers = () => "yes";
  assert.equal(await run(() => undefined), null);
  assert.equal(await run((s) => s.append("a")), null, "a state is no result");
  assert.deepEqual(await run(async (s) => ({ answer: await s.append(gen("a")).get("a") })), { answer: "yes" });
  await assert.rejects(run(() => 1n), { code: "program", message: /cannot be written as JSON/ });
  await assert.rejects(run(() => () => {}), { code: "program", message: /a function, cannot be written/ });

  seen.answers = () => undefined;
  seen.calls = [];
  const running = run((s) => s.append(gen("a")) && 1);
  let ended = false;
  running.then(() => (ended = true));
  await new Promise(setImmediate);
  assert.equal(ended, false, "the run ended before its call");
  seen.calls[0].say("at last");
  assert.equal(await running, 1);
});

test("what is thrown ends the run, with a message and a trace in the log", async () => {
  const check = async (run, expect) => {
    program({ name: "p", run });
    await assert.rejects(exported.run(), expect);
  };
  await check(
    () => {
      throw new SglError("no tea left", "program", true);
    },
    { code: "program", message: "no tea left", retryable: true },
  );
  await check(() => null.x, { code: "program", message: /^TypeError: / });
  assert.match(seen.err, /TypeError: /);
  await check(() => Promise.reject("words"), { code: "program", message: '"words" was thrown' });
  // A failure that nobody looked at, and one that somebody did.
  seen.answers = (call) => call.fail("limit-exceeded", "the run's tokens are used up");
  await check((s) => s.append(gen("a")) && 1, { code: "limit-exceeded", message: "the run's tokens are used up" });
  program({ name: "p", run: (s) => s.append(gen("a")).get("a").catch((error) => error.code) });
  assert.equal(await exported.run(), "limit-exceeded");
  // One in a promise that nobody awaited.
  seen.rejections = [new RangeError("gone")];
  await check(() => 1, { code: "program", message: /^RangeError: gone/ });
});

test("lines are told as the author has them", async () => {
  // As the runtime's frames are: lines 1 to 9 are the SDK's, line 12 of the script is line 7 of the program.
  globalThis.sglhostLines = JSON.stringify({
    files: ["sglhost/state.js", "program.ts"],
    runs: [
      [2, 0, 1],
      [10, 1, 5],
      [14, 0, 40],
    ],
  });
  const error = new TypeError("no number");
  error.stack =
    "    at get (script.js:3:1)\n    at inner (script.js:12:9)\n" +
    "    at run (script.js:10:5)\n    at script.js:15\n";
  program({
    name: "p",
    run() {
      throw error;
    },
  });
  try {
    await assert.rejects(exported.run(), { message: "TypeError: no number (program.ts:7)" });
  } finally {
    delete globalThis.sglhostLines;
  }
  assert.equal(seen.err, "TypeError: no number\n    at inner (program.ts:7)\n    at run (program.ts:5)\n");
});

test("output goes out", async () => {
  await emit("note", "text");
  await emit("note", { a: [1] });
  assert.deepEqual(seen.emitted, [
    ["note", "text"],
    ["note", '{"a":[1]}'],
  ]);
});
