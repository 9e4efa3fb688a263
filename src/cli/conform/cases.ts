/** Which cases are to be run: the built-in ones and those of files, as far as they are picked and not skipped. */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { ConfigError } from "../../config/errors.js";
import { didYouMean } from "../../config/suggest.js";
import type { ConformanceCase } from "../../conformance/case.js";
import { CASES } from "../../conformance/cases/index.js";
import type { GivenOption } from "../options.js";
import type { ConformRequest } from "./options.js";

/** Throws an OperatorError for a file that is not one of cases, and for a pattern that means none. */
export async function loadCases({ files, pick, skip }: ConformRequest): Promise<ConformanceCase[]> {
  const all = [...CASES];
  for (const file of files) {
    for (const one of await casesOf(file)) {
      if (all.some(({ id }) => id === one.id))
        throw new ConfigError(
          "value-malformed",
          file.typed,
          `${file.value}: there is a case ${one.id} already`,
        );
      all.push(one);
    }
  }
  const picked =
    pick.length === 0 ? all : all.filter(({ id }) => matchers(pick, all).some((fits) => fits(id)));
  const skipped = matchers(skip, all);
  return picked.filter(({ id }) => !skipped.some((fits) => fits(id)));
}

function matchers(
  patterns: readonly GivenOption<string>[],
  all: readonly ConformanceCase[],
): ((id: string) => boolean)[] {
  return patterns.map(({ typed, value }) => {
    const source = value.replace(/[.*+?^${}()|[\]\\]/g, (found) => (found === "*" ? ".*" : `\\${found}`));
    const pattern = new RegExp(`^${source}$`);
    if (all.some(({ id }) => pattern.test(id))) return (id: string) => pattern.test(id);
    const hint =
      didYouMean(
        value,
        all.map(({ id }) => id),
      ) || "; conform --list prints all";
    throw new ConfigError("value-malformed", typed, `no case is called ${JSON.stringify(value)}${hint}`);
  });
}

async function casesOf({ typed, value }: GivenOption<string>): Promise<readonly ConformanceCase[]> {
  let loaded: { default?: unknown };
  try {
    loaded = await import(pathToFileURL(resolve(value)).href);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ConfigError("file-unreadable", typed, `${value} cannot be loaded: ${reason}`, { cause });
  }
  const cases = loaded.default;
  if (!Array.isArray(cases))
    throw new ConfigError(
      "value-malformed",
      typed,
      `${value} has no default export that is an array of cases`,
    );
  return cases.map((one, index) => checkedCase(one, typed, `${value}, case ${index + 1}`));
}

/** Written by hand in a file that no compiler has seen. */
function checkedCase(one: Partial<ConformanceCase> | null, typed: string, where: string): ConformanceCase {
  const problem = (text: string): ConfigError =>
    new ConfigError("value-malformed", typed, `${where}: ${text}`);
  if (one === null || typeof one !== "object") throw problem("is no object");
  const { id, title, rule, needs, run } = one;
  if (typeof id !== "string" || !/^[a-z0-9][a-z0-9.-]*$/.test(id))
    throw problem("its id is to have lower-case letters, digits, dots and dashes");
  if (typeof title !== "string") throw problem(`${id} has no title`);
  if (typeof run !== "function") throw problem(`${id} has no function run(context)`);
  if (rule === undefined || rule === null || typeof rule.says !== "string")
    throw problem(`${id} has no rule; give { document, section, says }`);
  return { ...one, id, title, rule, needs: needs ?? {}, run };
}
