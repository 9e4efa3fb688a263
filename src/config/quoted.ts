/** How a message shows what somebody wrote. Must not know what it was meant to be. */

/** What was typed, in quotes, so that spaces and newlines in it show. */
export function quoted(text: string): string {
  return JSON.stringify(text);
}
