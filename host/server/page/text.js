// Texts and numbers as people read them. Boundary: no DOM.

// What is not seen, or moves what is: controls, bidi overrides, zero-width and tag characters, blanks that look like
// nothing, lone surrogates. Kept as they are: line feed, tab, the joiners that scripts and emoji need, Arabic signs.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0]/gu;
const KEPT = /[\n\t\u200c\u200d\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2]/u;

// Fonts lack the pictures that Unicode has for these.
const CONTROLS = (
  "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US"
).split(" ");

/** The text with every hidden character shown by its name or number. */
export function visible(text) {
  return text.replace(HIDDEN, (char) => {
    if (KEPT.test(char)) return char;
    const code = char.codePointAt(0);
    const name = CONTROLS[code] ?? `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
    return `\u27e8${name}\u27e9`;
  });
}

/** At most so many characters, and a note of how many more there are. */
export function clipped(text, max) {
  if (text.length <= max) return text;
  return `${text.slice(0, max)}\n… ${count(text.length - max)} more characters are not shown.`;
}

const COUNT = new Intl.NumberFormat("en");

/** 12345 as 12,345. */
export function count(number) {
  return COUNT.format(number);
}

/** A size in bytes. */
export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${number.toFixed(unit === 0 || number >= 100 ? 0 : 1)} ${units[unit]}`;
}

/** A duration in milliseconds. */
export function duration(ms) {
  if (ms < 1) return ms > 0 ? `${Math.max(1, Math.round(ms * 1000))} µs` : "< 1 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
}

/** How long ago a moment was. */
export function ago(iso) {
  const seconds = (Date.now() - Date.parse(iso)) / 1000;
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 45) return "just now";
  const steps = [["minute", 60], ["hour", 3600], ["day", 86400], ["month", 2592000], ["year", 31536000]];
  const [unit, size] = steps.findLast(([, size]) => seconds >= size) ?? steps[0];
  return new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(-Math.max(1, Math.round(seconds / size)), unit);
}

/** JSON text with line breaks and indents; numbers stay as they are written. What is no JSON stays altogether. */
export function indented(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  const parts = [];
  let depth = 0;
  const line = () => parts.push("\n", "  ".repeat(Math.min(depth, 40)));
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) ?? [];
  tokens.forEach((token, i) => {
    const next = tokens[i + 1];
    if (token === "{" || token === "[") {
      parts.push(token);
      depth += 1;
      if (next !== "}" && next !== "]") line();
    } else if (token === "}" || token === "]") {
      depth -= 1;
      if (tokens[i - 1] !== "{" && tokens[i - 1] !== "[") line();
      parts.push(token);
    } else if (token === ",") {
      parts.push(token);
      line();
    } else {
      parts.push(token === ":" ? ": " : token);
    }
  });
  return parts.join("");
}
