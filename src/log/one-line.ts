/**
 * Makes any text safe to print as one line on a terminal: control characters (a newline in a file name, an
 * escape sequence that a guest smuggled in) are written as escapes. Must not know what the text is about.
 */

export function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}
