// What programs expect of every JavaScript besides the language: console, TextEncoder and TextDecoder.
import { host } from "./host.js";
import { written } from "./written.js";

const write =
  (stream) =>
  (...values) =>
    host[stream](`${values.map((value) => (typeof value === "string" ? value : written(value))).join(" ")}\n`);
const out = write("stdout");
const err = write("stderr");

const missing = {
  console: { log: out, info: out, debug: out, warn: err, error: err, trace: err },
  TextEncoder: class TextEncoder {
    get encoding() {
      return "utf-8";
    }
    encode(text = "") {
      return host.encode(String(text).toWellFormed());
    }
  },
  TextDecoder: class TextDecoder {
    constructor(encoding = "utf-8") {
      if (!/^utf-?8$/i.test(encoding)) throw new RangeError(`TextDecoder decodes UTF-8 here, and not ${encoding}`);
    }
    get encoding() {
      return "utf-8";
    }
    decode(bytes = new Uint8Array()) {
      if (bytes instanceof ArrayBuffer) return host.decode(new Uint8Array(bytes));
      return host.decode(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    }
  },
};

for (const [name, value] of Object.entries(missing)) {
  if (!(name in globalThis)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
}
