/**
 * What was seen while a case ran: one line for each message, packet and remark, in order. The last of them are what a
 * failed case shows. Must not know what a line means.
 */

/** Enough to see how it came about; what went before is in the case. */
const MOST_LINES = 400;

export class Evidence {
  readonly #lines: string[] = [];
  #dropped = 0;

  /** `side`: who did it. */
  add(side: "front-end" | "back-end" | "guest" | "device" | "host" | "case", text: string): void {
    this.#lines.push(`${side}: ${text}`);
    if (this.#lines.length <= MOST_LINES) return;
    this.#lines.shift();
    this.#dropped++;
  }

  /** The last lines. */
  last(count: number): readonly string[] {
    const lines = this.#lines.slice(-count);
    const left = this.#dropped + this.#lines.length - lines.length;
    return left === 0 ? lines : [`(${left} lines before)`, ...lines];
  }
}
