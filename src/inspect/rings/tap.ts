/**
 * Where the relay lets the rings' thread hear of a message: copies of the descriptors that matter, at once, and the rest
 * once the messages of a wake-up have gone on. Runs in the relay's thread, which waits for nobody here.
 */
import { closeSync } from "node:fs";
import { duplicate } from "../../linux/duplicate.js";
import { signalEventfd } from "../../linux/eventfd.js";
import { decodeHeader, HEADER_BYTES, messageByName } from "../../vhost/wire/index.js";
import type { SessionFrame } from "../frame.js";
import type { Passed, RingsEnd } from "./ring-reports.js";

/** Messages whose descriptors are wanted. */
const WANTED: readonly number[] = (
  ["SET_MEM_TABLE", "ADD_MEM_REG", "SET_VRING_KICK", "SET_VRING_CALL"] as const
).map((name) => messageByName("frontend", name).id);

export class RingTap {
  readonly #end: RingsEnd;
  readonly #remark: (session: number, text: string) => void;
  #passed: Passed[] = [];

  constructor(end: RingsEnd, remark: (session: number, text: string) => void) {
    this.#end = end;
    this.#remark = remark;
  }

  /** A message is on its way. The descriptors stay the caller's. */
  message(session: number, frame: SessionFrame, fds: readonly number[]): void {
    if (frame.channel !== "main" || !this.#isOpen()) return;
    this.#passed.push({ kind: "message", session, frame, fds: this.#copies(session, frame, fds) });
  }

  ended(session: number): void {
    if (this.#isOpen()) this.#passed.push({ kind: "ended", session });
  }

  /** Between two wake-ups. */
  flush(): void {
    if (this.#passed.length === 0) return;
    const passed = this.#passed;
    this.#passed = [];
    if (this.#isOpen()) {
      this.#end.port.postMessage(passed);
      signalEventfd(this.#end.wakeFd);
    } else {
      for (const each of passed) if (each.kind === "message") for (const fd of each.fds) closeSync(fd);
    }
  }

  #isOpen(): boolean {
    return Atomics.load(this.#end.isOpen, 0) === 1;
  }

  #copies(session: number, { direction, bytes }: SessionFrame, fds: readonly number[]): readonly number[] {
    if (fds.length === 0 || direction !== "to-backend" || bytes.byteLength < HEADER_BYTES) return [];
    if (!WANTED.includes(decodeHeader(bytes).request)) return [];
    const copies: number[] = [];
    try {
      for (const fd of fds) copies.push(duplicate(fd));
      return copies;
    } catch (error) {
      for (const fd of copies) closeSync(fd);
      this.#remark(session, `rings: a file could not be kept: ${(error as Error).message}`);
      return [];
    }
  }
}
