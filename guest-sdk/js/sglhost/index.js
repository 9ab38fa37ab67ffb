// Prompt programs in JavaScript and TypeScript. What all of it means is in index.d.ts.
import "./globals.js";

export { SglError } from "./error.js";
export { gen, genBool, genFloat, genInt, genString, select } from "./generate.js";
export { Outcome } from "./outcome.js";
export { program } from "./program.js";
export {
  assistant,
  assistantBegin,
  assistantEnd,
  image,
  markup,
  role,
  roleBegin,
  roleEnd,
  system,
  systemBegin,
  systemEnd,
  tokens,
  user,
  userBegin,
  userEnd,
} from "./prompt.js";
export {
  acceptsImages,
  contextLength,
  contextsLeft,
  emit,
  millisecondsLeft,
  models,
  tokensLeft,
} from "./run.js";
export { State } from "./state.js";
