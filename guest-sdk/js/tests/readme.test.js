// The examples of README.md: those that import the SDK are programs that describe themselves.
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { exported } from "./fake_host.js";

test("the examples of the README are programs", async () => {
  const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
  const examples = [...readme.matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code);
  const programs = examples.filter((code) => code.includes('from "sglhost"'));
  assert.ok(programs.length >= 2);
  const folder = await mkdtemp(join(tmpdir(), "readme-"));
  try {
    const sdk = JSON.stringify(new URL("../sglhost/index.js", import.meta.url).href);
    for (const [i, code] of programs.entries()) {
      const file = join(folder, `${i}.mjs`);
      await writeFile(file, code.replaceAll('"sglhost"', sdk));
      const { default: program } = await import(pathToFileURL(file).href);
      assert.equal(JSON.parse(exported.describe()).name, program.name);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});
