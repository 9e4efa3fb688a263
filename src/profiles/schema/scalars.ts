/** Shapes of single values: words, texts, choices, switches. Must not know which key they stand behind. */
import { Scalar } from "yaml";
import { quoted } from "../../config/quoted.js";
import { didYouMean } from "../../config/suggest.js";
import type { Shape, Source } from "./shape.js";

/** One line for people. */
export function text(notation = "a line of text"): Shape<string> {
  return {
    description: { kind: "value", notation },
    read(source) {
      const value = source.text(notation);
      if (!/[\p{Cc}\p{Zl}\p{Zp}]/u.test(value)) return value;
      const problem = `${source.name} holds a line break or another control character; write one line`;
      return source.refuse("value-malformed", problem);
    },
    write: (value) => new Scalar(value),
  };
}

/** A name under which commands and records know a profile; it stands between slashes there. */
export function profileName(): Shape<string> {
  const notation = "lower-case letters, digits, dots and dashes, the first one a letter or digit";
  return {
    description: { kind: "value", notation },
    read(source) {
      const value = source.text(notation);
      if (/^[a-z0-9][a-z0-9.-]*$/.test(value)) return value;
      return source.refuse("value-malformed", `${quoted(value)} is not a name; write ${notation}`);
    },
    write: (value) => new Scalar(value),
  };
}

/** YAML 1.2's two words for it; `yes` and `on` were switches in YAML 1.1 and are texts today. */
export function flag(): Shape<boolean> {
  return {
    description: { kind: "value", notation: "true or false" },
    read: (source) => readWord(source, ["true", "false"]) === "true",
    write: (value) => new Scalar(value),
  };
}

/** One of some words. */
export function choice<Word extends string>(meanings: Readonly<Record<Word, string>>): Shape<Word> {
  return {
    description: { kind: "choice", meanings },
    read: (source) => readWord(source, Object.keys(meanings) as Word[]),
    write: (value) => new Scalar(value),
  };
}

/** One of some numbers. */
export function numberChoice<Value extends number>(
  values: readonly Value[],
  meanings: Readonly<Record<Value, string>>,
): Shape<Value> {
  return {
    description: { kind: "choice", meanings },
    read(source) {
      const word = readWord(source, values.map(String));
      return values[values.map(String).indexOf(word)];
    },
    write: (value) => new Scalar(value),
  };
}

export function readWord<Word extends string>(source: Source, words: readonly Word[]): Word {
  const all = oneOf(words);
  const typed = source.text(all);
  const found = words.find((word) => word === typed);
  if (found !== undefined) return found;
  const suggestion = didYouMean(typed, words);
  return source.refuse("value-malformed", `${quoted(typed)} is not one of ${words.join(", ")}${suggestion}`);
}

function oneOf(words: readonly string[]): string {
  return words.length === 2 ? words.join(" or ") : `one of ${words.join(", ")}`;
}
