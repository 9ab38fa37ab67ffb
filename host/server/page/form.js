// A form made from the JSON Schema of a program's arguments. Owns: what a field looks like, what it is checked for, and
// the JSON text that comes of it: integers of 64 bits, which a JavaScript number would round, go as they were typed.

import { attribute, el, put } from "./dom.js";

const FIELDS_MAX = 200;
const CHOICES_MAX = 500;

/** What is wrong with a field. */
class Wrong extends Error {}

/** The fields of a schema: `element`, and `read()`, which gives the arguments' JSON text or null if one is wrong. */
export function argumentFields(schema) {
  const properties = Object.entries(isObject(schema?.properties) ? schema.properties : {});
  if (properties.length > FIELDS_MAX || (properties.length === 0 && schema?.additionalProperties !== false)) {
    return wholeObject();
  }
  const required = new Set(Array.isArray(schema.required) ? schema.required : []);
  const fields = properties.map(([name, of]) => new Field(name, isObject(of) ? of : {}, required.has(name)));
  const none = fields.length === 0 ? el("p", { class: "dim" }, "This program takes no arguments.") : null;
  return {
    element: el("div", { class: "fields" }, none, fields.map((field) => field.element)),
    read() {
      const parts = readAll(fields);
      return parts === null ? null : `{${parts.join(",")}}`;
    },
  };
}

/** Fields of these schemas: `elements`, and `read()`, which gives a list of `"name":value`, or null. */
export function optionFields(schemas) {
  const fields = Object.entries(schemas).map(([name, schema]) => new Field(name, schema, false));
  return { elements: fields.map((field) => field.element), read: () => readAll(fields) };
}

// All are checked, so that all that is wrong is seen at once; the first gets the focus.
function readAll(fields) {
  const parts = fields.map((field) => field.part());
  const wrong = parts.indexOf(undefined);
  if (wrong >= 0) {
    fields[wrong].control.focus();
    return null;
  }
  return parts.filter((part) => part !== "");
}

function wholeObject() {
  const field = new Field("arguments", { type: "object", default: {}, description: "A JSON object." }, true);
  return {
    element: el("div", { class: "fields" }, field.element),
    read() {
      const text = field.value();
      return text === undefined ? null : text;
    },
  };
}

let counter = 0;

class Field {
  constructor(name, schema, required) {
    this.name = name;
    this.required = required;
    this.id = `field-${(counter += 1)}`;
    this.kind = kindOf(schema);
    this.schema = schema;
    const given = schema.default !== undefined && schema.default !== null ? schema.default : undefined;
    this.control = this.kind.control(schema, given, required);
    const helps = typeof schema.description === "string" ? `${this.id}-help` : null;
    this.problem = el("p", { class: "problem", id: `${this.id}-problem`, role: "alert" });
    attribute(this.control, "id", this.id);
    attribute(this.control, "aria-describedby", [helps, this.problem.id].filter(Boolean).join(" "));
    attribute(this.control, "aria-required", required ? "true" : null);
    // Checked when it is sent, and from then on while it is mended: not as the focus leaves, when a message that comes
    // or goes would move the button away from under the mouse.
    this.control.addEventListener("input", () => this.control.hasAttribute("aria-invalid") && this.value());
    const mark = required ? el("span", { class: "mark" }, "required") : null;
    const label = el("label", { for: this.id }, el("bdi", {}, name), mark);
    const kind = el("span", { class: "kind" }, this.kind.label(schema));
    this.element = el("div", { class: `field ${this.kind.class ?? ""}` },
      el("div", { class: "field-head" }, label, kind),
      helps ? el("p", { id: helps, class: "help" }, schema.description) : null,
      this.control,
      this.problem,
    );
  }

  /** The JSON text of the value; "" if there is none and none is needed; undefined if it is wrong, which is shown. */
  value() {
    try {
      const text = this.kind.read(this.control, this.schema, this.required);
      this.#show(text === "" && this.required ? "This is required." : "");
      return text === "" && this.required ? undefined : text;
    } catch (error) {
      if (!(error instanceof Wrong)) throw error;
      this.#show(error.message);
      return undefined;
    }
  }

  part() {
    const text = this.value();
    return text === undefined || text === "" ? text : `${JSON.stringify(this.name)}:${text}`;
  }

  #show(problem) {
    put(this.problem, problem);
    attribute(this.control, "aria-invalid", problem === "" ? null : "true");
  }
}

// Kinds of fields: `control` makes the input, `read` gives JSON text, `label` says what is wanted.

const text = {
  label: () => "text",
  control(_, given) {
    return growing(typeof given === "string" ? given : "", {});
  },
  read(control, schema, required) {
    // Nothing typed is no argument, unless there must be one or the default was taken away.
    const absent = control.value === "" && !required && typeof schema.default !== "string";
    return absent ? "" : JSON.stringify(control.value);
  },
};

const number = {
  class: "short",
  label: (schema) => [schema.type, range(schema)].filter(Boolean).join(", "),
  control(schema, given) {
    const mode = schema.type === "integer" && !(schema.minimum < 0) ? "numeric" : "text";
    const placeholder = typeof schema.placeholder === "string" ? schema.placeholder : null;
    return el("input", {
      type: "text", inputmode: mode, autocomplete: "off", value: given === undefined ? "" : String(given), placeholder,
    });
  },
  read(control, schema) {
    const typed = control.value.trim();
    if (typed === "") return "";
    const pattern = schema.type === "integer" ? /^-?(0|[1-9]\d*)$/ : /^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$/;
    if (!pattern.test(typed)) throw new Wrong(`Must be ${schema.type === "integer" ? "an integer" : "a number"}.`);
    const value = Number(typed);
    if (value < schema.minimum || value > schema.maximum) throw new Wrong(`Must be ${range(schema)}.`);
    return typed;
  },
};

const checkbox = {
  class: "check",
  label: () => "yes or no",
  control: (_, given) => {
    const box = el("input", { type: "checkbox" });
    box.checked = given === true;
    return box;
  },
  read: (control) => String(control.checked),
};

const choice = {
  class: "short",
  label: () => "one of a list",
  control(schema, given, required) {
    const texts = schema.enum.slice(0, CHOICES_MAX).map((value) => JSON.stringify(value));
    const chosen = texts.indexOf(JSON.stringify(given));
    const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));
    const options = schema.enum.slice(0, CHOICES_MAX).map((value, i) =>
      el("option", { value: String(i), selected: i === chosen }, shown(value)));
    if (!required && chosen < 0) options.unshift(el("option", { value: "", selected: true }, "not set"));
    return el("select", {}, options);
  },
  read: (control, schema) => (control.value === "" ? "" : JSON.stringify(schema.enum[Number(control.value)])),
};

const anything = {
  label: (schema) => {
    const items = typeof schema.items?.type === "string" ? ` of ${schema.items.type}` : "";
    if (schema.type === "array") return `JSON list${items}`;
    return schema.type === "object" ? "JSON object" : "JSON";
  },
  control(schema, given) {
    const value = given === undefined ? "" : JSON.stringify(given, null, 2);
    return growing(value, { class: "code", spellcheck: "false" });
  },
  read(control, schema) {
    const typed = control.value.trim();
    if (typed === "") return "";
    let value;
    try {
      value = JSON.parse(typed);
    } catch (error) {
      throw new Wrong(`Not JSON: ${error.message}`);
    }
    if (schema.type === "array" && !Array.isArray(value)) throw new Wrong("Must be a list, as [1, 2] is.");
    if (schema.type === "object" && !isObject(value)) throw new Wrong('Must be an object, as {"a": 1} is.');
    return typed;
  },
};

function kindOf(schema) {
  if (Array.isArray(schema.enum) && schema.enum.length > 0) return choice;
  if (schema.type === "boolean") return schema.default === undefined ? tristate(schema) : checkbox;
  return { string: text, integer: number, number }[schema.type] ?? anything;
}

// Without a default there is a difference between "no" and nothing said.
function tristate() {
  return {
    class: "short",
    label: () => "yes or no",
    control: (_, __, required) => el("select", {},
      el("option", { value: "" }, required ? "choose" : "not set"),
      el("option", { value: "true" }, "yes"),
      el("option", { value: "false" }, "no")),
    read: (control) => control.value,
  };
}

/** A text area that is as high as its text, up to a limit that the style sets. */
export function growing(value, props) {
  const area = el("textarea", { rows: "1", ...props });
  area.value = value;
  // Where the style cannot say it (`field-sizing`).
  if (!CSS.supports("field-sizing", "content")) {
    const grow = () => {
      area.style.height = "auto";
      area.style.height = `${area.scrollHeight + 2}px`;
    };
    area.addEventListener("input", grow);
    requestAnimationFrame(grow);
  }
  return area;
}

function range({ minimum, maximum }) {
  if (typeof minimum === "number" && typeof maximum === "number") return `from ${minimum} to ${maximum}`;
  if (typeof minimum === "number") return `at least ${minimum}`;
  return typeof maximum === "number" ? `at most ${maximum}` : "";
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
