/** How a case says what it expects: each failure names the expectation and what was seen instead. */
import { FrontEndError } from "../vhost/front-end-error.js";
import { CaseFailed } from "./outcome.js";

export class Expect {
  /** `what`: the expectation as a clause, "the ring goes on at 7". */
  that(condition: boolean, what: string, seen?: string): void {
    if (!condition) this.fail(what, seen);
  }

  /** The value, which is there. */
  present<T>(value: T | undefined, what: string): T {
    return value ?? this.fail(what, "nothing");
  }

  equal<T>(actual: T, expected: T, what: string): void {
    if (actual === expected) return;
    this.fail(what, `${shown(actual)} instead of ${shown(expected)}`);
  }

  /** Equality of bytes; says where they differ. */
  sameBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
    if (actual.length !== expected.length)
      this.fail(what, `${actual.length} bytes instead of ${expected.length}`);
    if (Buffer.compare(actual, expected) === 0) return;
    const at = actual.findIndex((byte, index) => byte !== expected[index]);
    this.fail(what, `other bytes from offset ${at} on`);
  }

  /**
   * That a message is refused: by an acknowledgement other than 0, or by ending the session, which the vhost-user
   * document leaves open.
   */
  refused(send: () => void, what: string): void {
    try {
      send();
    } catch (error) {
      if (error instanceof FrontEndError && (error.code === "refused" || error.code === "closed")) return;
      throw error;
    }
    this.fail(what, "it was taken");
  }

  fail(what: string, seen?: string): never {
    throw new CaseFailed(
      seen === undefined ? `expected that ${what}` : `expected that ${what}; seen: ${seen}`,
    );
  }
}

function shown(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}
