// Uploading a program: a file that is dropped or chosen, its name, progress, and what the server finds wrong with it.

import { upload } from "./api.js";
import { attribute, el, errorParts, put } from "./dom.js";
import { bytes } from "./text.js";

const NAME = /^[a-z0-9][a-z0-9_-]{0,63}$/;
const RULE = "1 to 64 of a-z, 0-9, - and _, beginning with a letter or digit";

/** A name for the program in a file of that name. */
export function nameOf(file) {
  const stem = file.replace(/\.(component\.)?wasm$/i, "").toLowerCase();
  return stem.replace(/[^a-z0-9_-]+/g, "-").replace(/^[-_]+/, "").slice(0, 64).replace(/-+$/, "");
}

/** Takes files from anywhere on the page; `uploaded(program)` is called after each. */
export function acceptFiles({ button, input, shade, uploaded }) {
  const take = (files) => {
    if (files.length > 0 && document.querySelector("dialog[open]") === null) open(files, uploaded);
  };
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = "";
  });
  let depth = 0;
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  const over = (inside) => {
    depth = Math.max(0, inside);
    shade.hidden = depth === 0;
  };
  addEventListener("dragenter", (event) => holdsFiles(event) && over(depth + 1));
  addEventListener("dragleave", (event) => holdsFiles(event) && over(depth - 1));
  addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    over(0);
    take([...event.dataTransfer.files]);
  });
}

function open(files, uploaded) {
  const [file] = files;
  const name = el("input", {
    id: "upload-name", value: nameOf(file.name), autocomplete: "off", spellcheck: "false",
    "aria-describedby": "upload-rule",
  });
  const tag = el("input", { id: "upload-tag", autocomplete: "off", spellcheck: "false", placeholder: "none" });
  const bar = el("progress", { max: "1", value: "0", hidden: true, "aria-label": "Upload" });
  const state = el("p", { class: "dim", role: "status" });
  const problem = el("div", { class: "error", role: "alert", hidden: true });
  const send = el("button", { type: "submit", class: "primary" }, "Upload");
  const abort = new AbortController();
  const fail = (error) => {
    put(problem, errorParts(error));
    problem.hidden = false;
  };
  const submit = async (event) => {
    event.preventDefault();
    problem.hidden = true;
    for (const [what, input] of [["name", name], ["tag", tag]]) {
      const right = NAME.test(input.value) || (input === tag && input.value === "");
      attribute(input, "aria-invalid", right ? null : "true");
      if (!right) return fail({ code: "invalid", message: `A ${what} is ${RULE}.` });
    }
    send.disabled = true;
    bar.hidden = false;
    put(state, "Uploading…");
    try {
      const program = await upload(name.value, tag.value, file, (fraction) => {
        bar.value = fraction;
        if (fraction === 1) {
          bar.removeAttribute("value");
          put(state, "The server compiles it…");
        }
      }, abort.signal);
      dialog.close();
      uploaded(program);
    } catch (error) {
      if (error.name !== "AbortError") fail(error);
    } finally {
      send.disabled = false;
      bar.hidden = true;
      put(state);
    }
  };
  const others = files.length - 1;
  const form = el("form", { novalidate: true, on: { submit } },
    el("h2", { id: "upload-title" }, "Upload a program"),
    el("p", {}, el("bdi", {}, file.name), el("span", { class: "dim" }, ` · ${bytes(file.size)}`)),
    others > 0 ? el("p", { class: "dim" }, `The other ${others} files are left out: one at a time.`) : null,
    el("label", { for: "upload-name" }, "Name"), name,
    el("p", { class: "help", id: "upload-rule" }, `${RULE}. A name that is there gets a new version.`),
    el("label", { for: "upload-tag" }, "Tag"), tag,
    bar, state, problem,
    el("div", { class: "actions" },
      send, el("button", { type: "button", on: { click: () => dialog.close() } }, "Cancel")));
  const dialog = el("dialog", { class: "upload-dialog", "aria-labelledby": "upload-title" }, form);
  dialog.addEventListener("close", () => {
    abort.abort();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  name.select();
}
