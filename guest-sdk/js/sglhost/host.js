// The contract's functions, which the runtime sets before the script begins.

export const host = new Proxy(
  {},
  {
    get(_, name) {
      const functions = globalThis.sglhostHost;
      if (!functions) throw new Error("only `sglhost run` runs programs: build this one with `sglhost build`");
      return functions[name];
    },
  },
);
