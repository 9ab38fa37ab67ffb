// The run that a program is: output of its own, and what it may still use.
import { SglError, ask, waitFor } from "./error.js";
import { host } from "./host.js";

export function emit(channel, data) {
  return waitFor(host.emit(String(channel), typeof data === "string" ? data : JSON.stringify(data)), new SglError(""));
}

export const tokensLeft = () => host.tokensLeft();
export const contextsLeft = () => host.contextsLeft();
export const millisecondsLeft = () => host.millisecondsLeft();
export const models = () => host.models();
export const contextLength = (model) => ask(host.contextLength, model);
export const acceptsImages = (model) => ask(host.acceptsImages, model);
