// The HTTP API. Owns: how requests are made, authorized and refused. Boundary: no DOM; who asks for a key is told it.

/** Why a request had no success: the server's own code and message, or that it was not reached. */
export class ApiError extends Error {
  constructor(status, code, message, retryAfter) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

const STORED = "sglhost-key";
let askForKey = null;
let asking = null;

/** Who is to ask for a key: `async (why) => key`. */
export function askWith(ask) {
  askForKey = ask;
}

/** The key of this tab, if there is one. It is kept until the tab is closed, and never leaves in a URL. */
export function storedKey() {
  return sessionStorage.getItem(STORED);
}

export function forgetKey() {
  sessionStorage.removeItem(STORED);
}

// All requests that were refused wait for one answer. One that was refused with an older key only tries again.
async function renewKey(refused) {
  if (storedKey() !== refused) return;
  asking ??= (async () => {
    forgetKey();
    const why = refused === null ? "This server asks for a key." : "The server does not accept that key.";
    sessionStorage.setItem(STORED, await askForKey(why));
  })().finally(() => {
    asking = null;
  });
  await asking;
}

function authorized(headers, key) {
  return key === null ? headers : { ...headers, authorization: `Bearer ${key}` };
}

/** Makes a request; gives back the response if it went well. Asks for a key as often as it takes. */
export async function request(method, path, { body, headers = {}, signal } = {}) {
  for (;;) {
    const key = storedKey();
    let response;
    try {
      response = await fetch(path, { method, body, signal, headers: authorized(headers, key), cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "unreachable", "The server cannot be reached.");
    }
    if (response.status === 401) {
      await renewKey(key);
    } else if (response.ok) {
      return response;
    } else {
      throw refusal(response.status, await response.text().catch(() => ""), response.headers.get("retry-after"));
    }
  }
}

/** Makes a request; gives back its JSON. */
export async function json(method, path, options) {
  const response = await request(method, path, options);
  try {
    return await response.json();
  } catch {
    throw new ApiError(response.status, "unreadable", `The answer to ${method} ${path} is no JSON.`);
  }
}

function refusal(status, text, retryAfter) {
  let error = null;
  try {
    error = JSON.parse(text)?.error;
  } catch {
    // Not from the server itself, or cut short: shown as it is.
  }
  const wait = retryAfter ? ` Try again in ${retryAfter} s.` : "";
  if (typeof error?.message === "string") {
    return new ApiError(status, String(error.code), error.message + wait, retryAfter);
  }
  return new ApiError(status, `HTTP ${status}`, (text || "The server gave no reason.") + wait, retryAfter);
}

/**
 * Uploads a component; `progress(fraction)` is called as it goes. XMLHttpRequest, because fetch tells nothing of an
 * upload's progress.
 */
export async function upload(name, tag, file, progress, signal) {
  const query = tag === "" ? "" : `?tag=${encodeURIComponent(tag)}`;
  const path = `/v1/programs/${encodeURIComponent(name)}${query}`;
  for (;;) {
    const key = storedKey();
    const answer = await put(path, file, key, progress, signal);
    if (answer.status === 401) await renewKey(key);
    else if (answer.status >= 200 && answer.status < 300) return JSON.parse(answer.responseText);
    else throw refusal(answer.status, answer.responseText, answer.getResponseHeader("retry-after"));
  }
}

function put(path, file, key, progress, signal) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("PUT", path);
    for (const [name, value] of Object.entries(authorized({ "content-type": "application/wasm" }, key))) {
      sending.setRequestHeader(name, value);
    }
    sending.upload.onprogress = (event) => progress(event.total > 0 ? event.loaded / event.total : 0);
    sending.onload = () => resolve(sending);
    sending.onerror = () => {
      const message = "The connection ended during the upload. A file beyond the server's limit is cut off so.";
      reject(new ApiError(0, "unreachable", message));
    };
    sending.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => sending.abort());
    sending.send(file);
  });
}
