// Asking for a key, in a dialog that cannot be passed by: without one there is nothing to see.

import { el, put } from "./dom.js";

/** Asks until there is a key. */
export function askForKey(why) {
  return new Promise((resolve) => {
    const input = el("input", {
      id: "key", type: "password", required: true, autocomplete: "off", spellcheck: "false", placeholder: "sgl_…",
    });
    const problem = el("p", { class: "problem", role: "alert" });
    const form = el("form", { on: { submit: (event) => {
      event.preventDefault();
      const key = input.value.trim();
      // A header can carry nothing else, and fetch would fail with a message about bytes.
      if (!/^[\x21-\x7e]+$/.test(key)) return put(problem, "A key is of letters, digits and underscores.");
      resolve(key);
      dialog.remove();
    } } },
      el("h2", { id: "key-title" }, "Key"),
      el("p", {}, why, " It is kept until this tab is closed."),
      el("label", { for: "key" }, "Key"),
      input,
      problem,
      el("div", { class: "actions" }, el("button", { type: "submit", class: "primary" }, "Continue")),
    );
    const dialog = el("dialog", { class: "key-dialog", "aria-labelledby": "key-title" }, form);
    // Escape, pressed twice, closes a dialog whatever its `cancel` says.
    dialog.addEventListener("close", () => dialog.isConnected && dialog.showModal());
    document.body.append(dialog);
    dialog.showModal();
    input.focus();
  });
}
