/**
 * Text for a terminal of 80 columns. Must not know what the text is about.
 */

export const TERMINAL_WIDTH = 80;

/** Breaks a text into lines that begin with `indent`; a word that is too long for a line has one of its own. */
export function paragraph(text: string, indent: string): string {
  const lines: string[] = [];
  let line = indent;
  for (const word of text.split(" ")) {
    if (line.length + word.length > TERMINAL_WIDTH && line !== indent) {
      lines.push(line.trimEnd());
      line = indent;
    }
    line += `${word} `;
  }
  lines.push(line.trimEnd());
  return lines.join("\n");
}

/** A label and a text whose further lines hang under its first one. The label fits `labelWidth`. */
export function labelled(label: string, text: string, indent: string, labelWidth: number): string {
  const hanging = indent + " ".repeat(labelWidth);
  return indent + label.padEnd(labelWidth) + paragraph(text, hanging).trimStart();
}
