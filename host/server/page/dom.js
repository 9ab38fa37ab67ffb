// Building the document. Owns: the only ways in which this page makes elements.
// Invariant: text from outside becomes text nodes or attribute values, never markup; `visible` has been over it.

import { clipped, visible } from "./text.js";

const MESSAGE_MAX = 100_000;
const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. `props` are attributes; `class`, `on` (listeners) and booleans mean what they say. Children are elements,
 * texts, or nothing (null, undefined, false).
 */
export function el(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same of SVG. */
export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else {
      attribute(element, name, value);
    }
  }
  element.append(...nodes(children));
  return element;
}

/** Sets an attribute; `false`, null and undefined take it away. */
export function attribute(element, name, value) {
  if (value === false || value === null || value === undefined) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? "" : typeof value === "string" ? visible(value) : value);
}

/** Replaces what is in an element. */
export function put(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/** Sets an element's text, if it is another: setting it anew would have a screen reader say it again. */
export function say(element, text) {
  const shown = visible(text);
  if (element.textContent !== shown) element.textContent = shown;
}

/** What says why something failed: the code and the message of an error, which may be long. */
export function errorParts(error) {
  return [
    error.code === undefined ? null : el("strong", {}, String(error.code)),
    el("pre", { tabindex: "0" }, clipped(String(error.message), MESSAGE_MAX)),
  ];
}

function nodes(children) {
  return children
    .flat()
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(visible(String(child)))));
}
