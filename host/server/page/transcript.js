// What the contexts hold, as it streams: a block for each, forks side by side below what they were forked from.
// Owns: the blocks. Invariant: each piece of text is put into the document once; while a run goes on only what is in
// sight is, so that a frame's work is that of a window's text and not of the run's.

import { el, put } from "./dom.js";
import { count, visible } from "./text.js";

const BLOCKS_MAX = 300;
/** From this many pixels of the end on, the end is followed. */
const NEAR_END = 32;

export class Transcript {
  element = el("div", { class: "transcript" });
  /** Called when there is something to show that was not in sight before. */
  onseen = () => {};
  #state;
  #blocks = new Map();
  #groups = new Map();
  #leftOut = 0;
  #note = el("p", { class: "dim" });
  // Blocks whose text grew since it was shown.
  #stale = new Set();
  #sight = new IntersectionObserver((entries) => {
    for (const entry of entries) this.#blocks.get(Number(entry.target.dataset.context)).seen = entry.isIntersecting;
    if (this.#stale.size > 0) this.onseen();
  }, { rootMargin: "200px" });

  constructor(state) {
    this.#state = state;
    this.element.append(this.#note);
    for (const id of state.contexts.keys()) state.changed.add(id);
  }

  /** Shows what came since the last call. */
  update() {
    const changed = [...this.#state.changed].sort((a, b) => a - b);
    this.#state.changed.clear();
    for (const id of changed) {
      const context = this.#state.contexts.get(id);
      const block = context && this.#block(context);
      if (block) this.#stale.add(block);
    }
    const unseen = this.#state.contextsTotal - this.#state.contexts.size + this.#leftOut;
    if (unseen > 0) put(this.#note, `${count(unseen)} more contexts are not shown.`);
    // First all reading, then all writing, then again: the layout is computed once.
    const shown = [...this.#stale].filter((block) => block.seen !== false);
    const following = this.#state.ended ? [] : shown.filter((block) => block.seen && block.nearEnd());
    // The rest is shown once the run has ended, for the browser's own search.
    const rest = this.#state.ended ? [...this.#stale].filter((block) => block.seen === false).slice(0, 8) : [];
    for (const block of [...shown, ...rest]) {
      block.show();
      this.#stale.delete(block);
    }
    const heights = following.map((block) => block.text.scrollHeight);
    following.forEach((block, i) => (block.text.scrollTop = heights[i]));
    if (this.#state.ended && this.#stale.size > 0) this.onseen();
  }

  /** Shows nothing any more. */
  close() {
    this.#sight.disconnect();
  }

  #block(context) {
    const known = this.#blocks.get(context.id);
    if (known !== undefined) return known;
    // A copy that was only made to be forked says nothing.
    if (context.text === 0 && context.dropped === 0 && context.call === null) return null;
    if (this.#blocks.size >= BLOCKS_MAX) {
      this.#blocks.set(context.id, null);
      this.#leftOut += 1;
      return null;
    }
    const block = new Block(context);
    this.#blocks.set(context.id, block);
    this.#group(context.parent).append(block.element);
    this.#sight.observe(block.element);
    return block;
  }

  #group(parent) {
    if (!this.#groups.has(parent)) {
      const title = parent === null ? null : el("h4", {}, `Forks of context ${parent}`);
      const blocks = el("div", { class: "blocks" });
      this.#groups.set(parent, blocks);
      this.#note.before(el("section", { class: "group" }, title, blocks));
    }
    return this.#groups.get(parent);
  }
}

class Block {
  /** Whether it is in sight; null until that is known. */
  seen = null;
  #context;
  #piece = 0;
  #offset = 0;
  #tail = null;
  #note = el("p", { class: "dim note" });
  #state = el("span", { class: "state" });

  constructor(context) {
    this.#context = context;
    const label = `Text of context ${context.id}`;
    this.text = el("div", { class: "text", tabindex: "0", role: "region", "aria-label": label });
    this.element = el("article", { class: "block", "data-context": context.id },
      el("header", {}, el("h5", {}, `Context ${context.id}`), this.#state), this.text, this.#note);
  }

  nearEnd() {
    return this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight < NEAR_END;
  }

  show() {
    const { pieces, dropped, call } = this.#context;
    for (; this.#piece < pieces.length; this.#piece += 1, this.#offset = 0, this.#tail = null) {
      const piece = pieces[this.#piece];
      if (piece.fork !== undefined) {
        const title = `Context ${piece.fork} was forked here`;
        this.text.append(el("span", { class: "forked", title }, `↳ ${piece.fork}`));
        continue;
      }
      this.#write(piece);
      // The last one may still grow.
      if (this.#piece === pieces.length - 1) break;
    }
    put(this.#state, call === null ? "" : "generating");
    this.element.classList.toggle("busy", call !== null);
    if (dropped > 0) put(this.#note, `${count(dropped)} more characters are not shown.`);
  }

  #write(piece) {
    if (this.#offset >= piece.text.length) return;
    const more = visible(this.#offset === 0 ? piece.text : piece.text.slice(this.#offset));
    this.#offset = piece.text.length;
    if (this.#tail) return this.#tail.appendData(more);
    this.#tail = document.createTextNode(more);
    const generated = piece.call !== null;
    const span = el("span", { class: generated ? "generated" : "prompt" });
    span.append(this.#tail);
    this.text.append(span);
  }
}
