/** Whether an object from JSON has the fields that it has to have, and which one is wrong. Must not know any of them. */

/** What a field has to be. A `?` at the end: or null; at the end of a key: or not there. An array: all of this kind. */
export type Kind = "text" | "text?" | "number" | "number?" | "flag" | "flag?" | "object" | readonly [Shape];
export interface Shape {
  readonly [key: string]: Kind | Shape;
}

/** What is wrong with the first field that is not as it has to be; undefined: nothing. */
export function problemOf(value: unknown, kind: Kind | Shape, path = ""): string | undefined {
  const wrong = (wanted: string): string => `${path}: ${wanted} is wanted, not ${JSON.stringify(value)}`;
  if (typeof kind === "string") return fits(value, kind) ? undefined : wrong(WANTED[kind]);
  if (Array.isArray(kind)) {
    if (!Array.isArray(value)) return wrong("a list");
    return firstOf(value.map((item, index) => () => problemOf(item, kind[0], `${path}[${index}]`)));
  }
  if (!isObject(value)) return wrong("an object");
  return firstOf(
    Object.entries(kind).map(([key, inner]) => () => {
      const name = key.replace(/\?$/, "");
      if (name !== key && value[name] === undefined) return undefined;
      return problemOf(value[name], inner, path === "" ? name : `${path}.${name}`);
    }),
  );
}

const WANTED = {
  text: "a text",
  "text?": "a text or null",
  number: "a number",
  "number?": "a number or null",
  flag: "true or false",
  "flag?": "true, false or null",
  object: "an object",
} as const;

function fits(value: unknown, kind: keyof typeof WANTED): boolean {
  if (value === null) return kind.endsWith("?");
  switch (kind) {
    case "text":
    case "text?":
      return typeof value === "string";
    case "number":
    case "number?":
      return typeof value === "number";
    case "flag":
    case "flag?":
      return typeof value === "boolean";
    case "object":
      return isObject(value);
  }
}

function firstOf(checks: readonly (() => string | undefined)[]): string | undefined {
  for (const check of checks) {
    const problem = check();
    if (problem !== undefined) return problem;
  }
  return undefined;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
