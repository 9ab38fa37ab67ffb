// How a call ended. Costly parts come from the host when they are asked for.
import { count } from "./generate.js";
import { host } from "./host.js";

/** A token as programs see it: with its text. */
export function withText(logprob) {
  return { ...logprob, text: host.decode(logprob.bytes) };
}

export class Outcome {
  #outcome;
  #kept = {};

  constructor(outcome) {
    this.#outcome = outcome;
  }

  #part(name) {
    return (this.#kept[name] ??= host[name](this.#outcome));
  }

  get text() {
    return this.#part("outcomeText");
  }
  get tokens() {
    return this.#part("outcomeTokens");
  }
  get finishReason() {
    return this.#part("outcomeFinishReason");
  }
  get matched() {
    return this.#part("outcomeMatched");
  }
  get logprobs() {
    return host.outcomeLogprobs(this.#outcome).map(withText);
  }
  topLogprobs(position) {
    return host.outcomeTopLogprobs(this.#outcome, count("a position", position)).map(withText);
  }
  get promptTokens() {
    return this.#part("outcomePromptTokens");
  }
  get cachedTokens() {
    return this.#part("outcomeCachedTokens");
  }
  get completionTokens() {
    return this.#part("outcomeCompletionTokens");
  }
  get forcedTokens() {
    return this.#part("outcomeForcedTokens");
  }
  get choice() {
    return this.#part("outcomeChoice");
  }
  get scores() {
    return this.#part("outcomeScores");
  }
}
