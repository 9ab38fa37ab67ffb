// Values as text, for messages and the log.

const DEPTH_MAX = 4;

/** As a person would like to read it: JSON, more or less, of anything. */
export function written(value, depth = 0) {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value);
    case "bigint":
      return `${value}n`;
    case "function":
      return `[function ${value.name}]`;
    case "object":
      break;
    default:
      return String(value);
  }
  if (value === null) return "null";
  if (value instanceof Error) return `${value}`;
  if (value instanceof Date || value instanceof RegExp) return String(value);
  if (depth >= DEPTH_MAX) return Array.isArray(value) ? "[…]" : "{…}";
  const inner = (it) => written(it, depth + 1);
  const pair = ([key, it]) => `${inner(key)} => ${inner(it)}`;
  if (value instanceof Map) return `Map {${Array.from(value, pair).join(", ")}}`;
  if (value instanceof Set) return `Set {${Array.from(value, inner).join(", ")}}`;
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return `[${Array.from(value, inner).join(", ")}]`;
  return `{${Object.entries(value)
    .map(([key, it]) => `${JSON.stringify(key)}: ${inner(it)}`)
    .join(", ")}}`;
}
