import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { begin, seen } from "./fake_host.js";
import {
  SglError,
  State,
  assistant,
  gen,
  genInt,
  image,
  markup,
  select,
  system,
  tokens,
  user,
  userBegin,
  userEnd,
} from "../sglhost/index.js";

beforeEach(begin);

test("what is appended arrives in order, whatever way it is written", async () => {
  const check = async (write, expect) => {
    const s = new State();
    await write(s);
    assert.equal(await s.text(), expect);
  };
  seen.answers = (call) => `<${call.options.Name}>`;
  await check((s) => s.append("a", gen("x"), 1, [true, [2n]]), "a<x>1true2");
  await check((s) => s.user`About ${"tea"} and ${gen("x")}.`, "[user:About tea and <x>.]");
  await check((s) => s.append(system("a"), user("b", "c"), assistant(gen("x"))), "[system:a][user:bc][assistant:<x>]");
  await check((s) => s.systemBegin().append("a").systemEnd().append(userBegin(), "b", userEnd()), "[system:a][user:b]");
  await check((s) => s.userBlock((s) => s.append("a")).role("tool", 42), "[user:a][tool:42]");
  await check((s) => s.assistantBlock(async (s) => s.append("a", await Promise.resolve("b"))), "[assistant:ab]");
  await check((s) => s.append(markup("m"), tokens([1, 2]), ""), "<m>{1,2}");
  const s = new State();
  assert.throws(() => s.append(undefined), { name: "TypeError", message: /undefined cannot be appended/ });
  assert.throws(() => s.append(s.text()), { name: "TypeError", message: /await it first/ });
  assert.throws(() => image([1]), TypeError);
  // As one would in Python.
  assert.throws(() => s.append("a" + gen("x")), { name: "TypeError", message: /not joined with \+/ });
  assert.throws(() => s.append(system("a")[0] + "b"), { name: "TypeError", message: /not joined with \+/ });
});

test("nothing waits until it is read, and forks are independent", async () => {
  const s = new State().append("a");
  const forks = s.fork(3);
  for (const [i, f] of forks.entries()) f.append(i, gen("x"));
  assert.equal(seen.calls.length, 3, "all were started");
  const all = Promise.all(forks.map((f) => f.get("x")));
  seen.calls.reverse().forEach((call, i) => call.say(`said ${i}`));
  assert.deepEqual(await all, ["said 2", "said 1", "said 0"]);
  assert.equal(await forks[0].text(), "a0said 2");
  assert.equal(await s.text(), "a");
  assert.equal(await forks[1].copy().get("x"), "said 1", "a copy knows the results so far");
  for (const read of ["get", "outcome", "getJson", "stream"]) {
    const nothing = { code: "invalid", message: /nothing was generated as "x"/ };
    await assert.rejects(async () => s[read]("x"), nothing);
  }
});

test("results are read as what they are", async () => {
  const s = new State();
  const say = (text) => {
    s.append(gen("x"));
    seen.calls.at(-1).say(text);
    return s;
  };
  assert.equal(await say(" 12\n").get("x", Number), 12);
  assert.equal(await say("12").get("x", BigInt), 12n);
  assert.equal(await say("false").get("x", Boolean), false);
  assert.equal(await say("a,b").get("x", (text) => text.split(",").length), 2);
  assert.deepEqual(await say('{"a": 1}').getJson("x"), { a: 1 });
  const check = (text, read, message) => assert.rejects(say(text).get("x", read), { code: "program", message });
  await check("twelve", Number, 'the text generated as "x" is no Number: "twelve"');
  await check("", Number, /is no Number/);
  await check("1.5", BigInt, /is no BigInt/);
  await check("maybe", Boolean, /is no Boolean/);
  s.append(gen("x"));
  seen.calls.at(-1).cut('{"a": ');
  await assert.rejects(s.getJson("x"), { code: "program", message: /cut at maxTokens/ });
  s.append(select("y", ["a", "b"]));
  seen.calls.at(-1).say("b");
  assert.equal((await s.outcome("y")).choice, 1);
  assert.equal(s.has("y") && !s.has("z"), true);
});

test("a text can be read piece by piece, once", async () => {
  const s = new State().append(gen("x"));
  seen.calls[0].say("a", "b", "c");
  const pieces = [];
  for await (const piece of s.stream("x")) pieces.push(piece);
  assert.deepEqual(pieces, ["a", "b", "c"]);
  assert.equal(seen.dropped.length, 1, "the stream was given back");
  assert.throws(() => s.stream("x"), { code: "invalid", message: /given once/ });
  assert.equal(await s.get("x"), "abc");
});

test("failures are thrown where the step is made or the result is read", async () => {
  const s = new State();
  assert.throws(() => s.roleEnd(), (error) => error instanceof SglError && error.code === "invalid");
  assert.throws(() => s.append(image(new Uint8Array(4))), { name: "SglError", code: "unsupported" });
  assert.throws(() => s.append(gen("x", { regex: "(" })), { code: "invalid", message: /unclosed group/ });
  assert.throws(() => new State("nobody"), { code: "invalid" });
  s.append(gen("x"));
  seen.calls[0].fail("unavailable", "later", true);
  await assert.rejects(s.get("x"), { name: "SglError", code: "unavailable", retryable: true });
  await assert.rejects(s.sync(), { code: "unavailable" });
  assert.equal(s.error().message, "there is no role to end", "the first one");
});

test("what is closed is given back, and what nobody holds is cancelled", async () => {
  const s = new State();
  const f = s.append(gen("x")).copy();
  s.close();
  assert.equal(seen.calls[0].cancelled, false, "the copy has it");
  f.close();
  f.close();
  assert.equal(seen.calls[0].cancelled, true);
  assert.equal(seen.dropped.length, 2);
  assert.throws(() => f.append("a"), { code: "invalid", message: "the state is closed" });
  const g = new State().append(gen("y"));
  g.cancel("y");
  assert.equal(seen.calls.at(-1).cancelled, true);
});

test("every option reaches the host", () => {
  const asked = (options, of = gen) => {
    new State().append(of("x", options));
    const { Name, ...set } = seen.calls.at(-1).options;
    assert.deepEqual(Name, ["x"]);
    return set;
  };
  assert.deepEqual(asked({ maxTokens: 1, minTokens: 0, temperature: 0.5, topP: 1, topK: -1, minP: 0 }), {
    MaxTokens: [1],
    MinTokens: [0],
    Temperature: [0.5],
    TopP: [1],
    TopK: [-1],
    MinP: [0],
  });
  assert.deepEqual(asked({ frequencyPenalty: 1, presencePenalty: -1, repetitionPenalty: 2, topLogprobs: 3 }), {
    FrequencyPenalty: [1],
    PresencePenalty: [-1],
    RepetitionPenalty: [2],
    TopLogprobs: [3],
  });
  assert.deepEqual(asked({ stop: "a", stopTokenIds: [1, 2], stopRegex: [/b/, "c"] }), {
    Stop: ["a"],
    StopToken: [1, 2],
    StopRegex: ["b", "c"],
  });
  assert.deepEqual(asked({ ignoreEos: true, noStopTrim: false, skipSpecialTokens: true, stop: undefined }), {
    IgnoreEos: [true],
    NoStopTrim: [false],
    SkipSpecialTokens: [true],
  });
  assert.deepEqual(asked({ seed: 2n ** 64n - 1n, logitBias: { 7: -1 } }), { Seed: [-1n], LogitBias: [[7, -1]] });
  assert.deepEqual(asked({ regex: /a+/ }), { Constrain: [{ Regex: "a+" }] });
  assert.deepEqual(asked({ jsonSchema: { type: "object" } }), { Constrain: [{ JsonSchema: '{"type":"object"}' }] });
  assert.deepEqual(asked({ lark: "start: x" }), { Constrain: [{ Lark: "start: x" }] });
  assert.deepEqual(asked({ structuralTag: "{}" }), { Constrain: [{ StructuralTag: "{}" }] });
  assert.deepEqual(asked({ oneOf: ["a", "b"] }), { Constrain: [{ Choices: ["a", "b"] }] });
  assert.deepEqual(asked({}, genInt), { Constrain: [{ Regex: "0|-?[1-9][0-9]{0,17}" }] });
  asked({ choices: ["a", "b"], choicesMethod: "greedy-token-selection" });
  assert.deepEqual(seen.calls.at(-1).choices, ["a", "b"]);

  const wrong = (options, expect) => assert.throws(() => gen("x", options), expect);
  wrong({ max_tokens: 1 }, { name: "TypeError", message: "gen has no option max_tokens" });
  wrong({ maxTokens: -1 }, { code: "invalid", message: "maxTokens must be from 0 to 4294967295, and is -1" });
  wrong({ maxTokens: "1" }, { name: "TypeError", message: 'maxTokens must be a whole number, and is "1"' });
  wrong({ seed: 2n ** 64n }, { code: "invalid" });
  wrong({ temperature: NaN }, TypeError);
  wrong({ regex: /a/i }, { name: "TypeError", message: /takes no flags/ });
  wrong({ regex: "a", lark: "b" }, { name: "TypeError", message: /a call has one of/ });
  wrong({ type: "integer" }, { name: "TypeError", message: /must be one of int, float, bool, string/ });
});

test("log-probabilities have text", async () => {
  const s = new State().append("abc");
  assert.equal((await s.score("é"))[0].text, "é");
  assert.equal((await s.nextTokens(2))[1].text, "\ufffd", "half of a character");
  await s.truncate(1);
  assert.equal(await s.tokenCount(), 1);
});
