// Why a step, a call or the whole program failed.

export class SglError extends Error {
  constructor(message, code = "program", retryable = false) {
    super(message);
    this.code = code;
    this.retryable = retryable;
  }
}
// On the prototype, where `Error` has its own: it is no property of each error.
Object.defineProperty(SglError.prototype, "name", { value: "SglError", configurable: true, writable: true });

/** Whether the host threw it: `{ code, message, retryable }`. */
function isOfHost(reason) {
  return typeof reason === "object" && reason !== null && !(reason instanceof Error) && typeof reason.code === "string";
}

/** What the host threw as an `SglError`; all else as it is. */
export function fromHost(reason) {
  return isOfHost(reason) ? new SglError(reason.message, reason.code, reason.retryable) : reason;
}

/** Calls a function of the host's. */
export function ask(function_, ...given) {
  try {
    return function_(...given);
  } catch (reason) {
    throw fromHost(reason);
  }
}

/** Waits for a promise of the host's. Its error tells where `here`, made when the wait began, was made. */
export async function waitFor(promise, here) {
  try {
    return await promise;
  } catch (reason) {
    if (!isOfHost(reason)) throw reason;
    const error = fromHost(reason);
    error.stack = here.stack;
    throw error;
  }
}
