/**
 * Plain text in columns: breaking, hanging, padding. A column is one character (a code point); all texts of this
 * project and of its profiles are written in letters of that width. Must not know what a text is about.
 */
import { oneLine } from "../log/one-line.js";

export function columnsOf(text: string): number {
  // Counting without a copy: this runs for each cell of a table.
  let columns = 0;
  for (const _ of text) columns++;
  return columns;
}

export function padEnd(text: string, columns: number): string {
  return text + " ".repeat(Math.max(0, columns - columnsOf(text)));
}

export interface Indents {
  /** Before the first line: a label, a number, spaces. */
  readonly first?: string;
  /** Before each further line. Default: spaces, as wide as `first`. */
  readonly further?: string;
}

/**
 * The lines of a text, none of more than `width` columns: a word that is too long by itself is cut. What would
 * disturb a terminal (an escape sequence in somebody's profile) is written as an escape.
 */
export function wrap(text: string, width: number, { first = "", further }: Indents = {}): string[] {
  const hanging = further ?? " ".repeat(columnsOf(first));
  const lines: string[] = [];
  let line = first;
  let isEmpty = true;
  for (const word of oneLine(text).split(" ")) {
    for (const piece of pieces(word, width - Math.max(columnsOf(first), columnsOf(hanging)))) {
      if (!isEmpty && columnsOf(line) + 1 + columnsOf(piece) > width) {
        lines.push(line);
        line = hanging;
        isEmpty = true;
      }
      line += isEmpty ? piece : ` ${piece}`;
      isEmpty = false;
    }
  }
  lines.push(line.trimEnd());
  return lines;
}

/** A word, cut where it is wider than a line. */
function pieces(word: string, width: number): string[] {
  if (columnsOf(word) <= width) return [word];
  const characters = [...word];
  const size = Math.max(1, width);
  return Array.from({ length: Math.ceil(characters.length / size) }, (_, index) =>
    characters.slice(index * size, (index + 1) * size).join(""),
  );
}

/** `a, b and c`. */
export function listed(items: readonly string[]): string {
  if (items.length < 2) return items.join("");
  return `${items.slice(0, -1).join(", ")} and ${items[items.length - 1]}`;
}

/** `1 cell`, `2 cells`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
