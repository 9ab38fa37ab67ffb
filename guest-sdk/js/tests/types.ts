// A program whose types tsc checks, and uses of the SDK that it must refuse. Run by types.test.js.
import { SglError, State, emit, gen, image, program, role, select, user } from "sglhost";
import type { Outcome, TokenLogprob } from "sglhost";

interface Person {
  name: string;
  age: number;
}

export const typed = program({
  name: "typed",
  description: "Uses what there is.",
  arguments: {
    topic: { type: "string", description: "What about.", default: "health" },
    count: { type: "integer", minimum: 1 },
    loud: { type: "boolean", optional: true },
    words: { type: "array", items: { type: "string" } },
    tone: { type: "string", enum: ["kind", "curt"] },
    anything: {},
  },
  async run(s, values) {
    const topic: string = values.topic;
    const count: number = values.count;
    const loud: boolean | undefined = values.loud;
    const words: string[] = values.words;
    const tone: "kind" | "curt" = values.tone;
    // @ts-expect-error: there is no such argument.
    values.tpoic;
    // @ts-expect-error: it may have been left out.
    const must: boolean = values.loud;

    s.user`About ${topic}, ${count} times.`.append(user("more"), role("tool", 42), [words]);
    s.assistant("Tip: ", gen("tip", { maxTokens: 256, stop: "\n\n", stopRegex: /a+/, seed: 1n, logitBias: { 7: -1 } }));
    s.append(gen("p", { jsonSchema: { type: "object" } }));
    s.append(select("c", ["a", "b"], { choicesMethod: "greedy-token-selection" }));
    s.append(image(new Uint8Array()));
    // @ts-expect-error: the option is `maxTokens`.
    gen("x", { max_tokens: 1 });
    // @ts-expect-error: a promise is awaited first.
    s.append(s.text());
    // @ts-expect-error: no such method.
    gen("x", { choicesMethod: "best" });

    const number: number = await s.get("n", Number);
    const bool: boolean = await s.get("b", Boolean);
    const big: bigint = await s.get("i", BigInt);
    const parts: string[] = await s.get("t", (text) => text.split(","));
    const { name, age } = await s.getJson<Person>("p");
    const outcome: Outcome = await s.outcome("tip");
    const likely: TokenLogprob[] = outcome.topLogprobs(0);
    for await (const piece of s.stream("tip")) await emit("piece", piece);
    const same: State = s.userBlock((s) => s.append("a"));
    const later: Promise<State> = s.userBlock(async (s) => s.append(await s.text()));
    await later;
    console.log(number, bool, big, parts, name, age, likely, same, loud, tone, must);
    if (words.length > 9) throw new SglError("too many words");
    const tips: string[] = await Promise.all(s.fork(2).map((f) => f.get("tip")));
    return { tips };
  },
});

// A program can be called by another.
export const result: Promise<{ tips: string[] }> | { tips: string[] } = typed.run(new State(), {
  topic: "tea",
  count: 1,
  loud: undefined,
  words: [],
  tone: "kind",
  anything: { a: [null] },
});

program({
  name: "wrong",
  // @ts-expect-error: there is no such type.
  arguments: { a: { type: "text" } },
  run() {},
});
