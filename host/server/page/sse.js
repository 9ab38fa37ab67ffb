// Server-sent events out of a response's body, read with fetch: EventSource sends no Authorization header.
// Boundary: knows the format, not what the events say.

/** Reads a body to its end and calls `take({ id, type, data })` for each event. */
export async function readEvents(body, take) {
  const parser = new Parser(take);
  const decoder = new TextDecoder();
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parser.push(decoder.decode(value, { stream: true }));
  }
}

/** Takes text in pieces of any size. */
export class Parser {
  #take;
  // Pieces of a line that has no end yet, joined once it has: a line may be megabytes in thousands of pieces.
  #open = [];
  #id = "";
  #type = "";
  #data = [];

  constructor(take) {
    this.#take = take;
  }

  push(text) {
    let from = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", from)) {
      this.#open.push(text.slice(from, end));
      const line = this.#open.length === 1 ? this.#open[0] : this.#open.join("");
      this.#open.length = 0;
      this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
      from = end + 1;
    }
    if (from < text.length) this.#open.push(text.slice(from));
  }

  #line(line) {
    if (line === "") {
      if (this.#data.length > 0) {
        this.#take({ id: this.#id, type: this.#type || "message", data: this.#data.join("\n") });
      }
      this.#type = "";
      this.#data = [];
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#type = value;
    else if (field === "id") this.#id = value;
  }
}
