// How what a program threw is told: with the author's own lines, by the map that `sglhost build` puts before the
// script.
import { SglError, fromHost } from "./error.js";
import { host } from "./host.js";
import { written } from "./written.js";

/** Frames of a stack that are told, those nearest to the error. */
const FRAMES_MAX = 20;

/** Where a line of the script comes from: `sglhostLines` is JSON, `{ files, runs }`. A run is
 * `[line of the script, index of the file, line of the file]` and holds until the next. */
function source(line) {
  if (!globalThis.sglhostLines) return { place: `script.js:${line}`, own: true };
  const map = JSON.parse(globalThis.sglhostLines);
  let [low, high] = [0, map.runs.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (map.runs[middle][0] <= line) low = middle + 1;
    else high = middle;
  }
  if (!low) return undefined;
  const [from, file, of] = map.runs[low - 1];
  return { place: `${map.files[file]}:${of + line - from}`, own: !map.files[file].startsWith("sglhost/") };
}

/** The author's frames of a stack: `{ place, text }`, the innermost first. */
function frames(stack) {
  const found = [];
  for (const line of String(stack ?? "").split("\n")) {
    const [, name, at] = /^\s*at (?:(.*) \()?script\.js:([0-9]+)(?::[0-9]+)?\)?$/.exec(line) ?? [];
    const from = at && source(Number(at));
    if (!from?.own) continue;
    found.push({ place: from.place, text: `    at ${name ? `${name} (${from.place})` : from.place}` });
  }
  return found.slice(0, FRAMES_MAX);
}

/** The run's error for what was thrown; the stack goes to the log. */
export function failureOf(thrown) {
  const reason = fromHost(thrown);
  const isError = reason instanceof Error;
  const said = isError ? `${reason}` : `${written(reason)} was thrown`;
  const trace = frames(isError ? reason.stack : "");
  host.stderr([said, ...trace.map(({ text }) => text), ""].join("\n"));
  for (let cause = reason?.cause; cause instanceof Error; cause = cause.cause) {
    host.stderr([`caused by ${cause}`, ...frames(cause.stack).map(({ text }) => text), ""].join("\n"));
  }
  if (reason instanceof SglError) return { code: reason.code, message: reason.message, retryable: reason.retryable };
  const place = trace.length ? ` (${trace[0].place})` : "";
  return { code: "program", message: said + place, retryable: false };
}

// For what the script ends with while it is evaluated.
globalThis.sglhostFailure = failureOf;
