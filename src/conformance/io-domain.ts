/**
 * A vIOMMU for conformance cases: a table of pages that the case writes, and the answers to a back-end's MISSes from
 * it, at once or when the case says so. Must not know rings or packets.
 */
import { describeIotlb, IOTLB_PERM, type IotlbMessage } from "../vhost/wire/index.js";
import { hex } from "../virtio/index.js";
import type { Evidence } from "./evidence.js";
import { CaseFailed } from "./outcome.js";
import type { TracedSession } from "./traced-session.js";

export const PAGE_BYTES = 4096;
const PAGE = BigInt(PAGE_BYTES);
/** Far from guest-physical and from user addresses, so that a mix-up shows. */
const DEFAULT_OFFSET = 0x10_0000_0000n;

/** Many times what any case needs: a back-end that asks without end is not answered without end. */
const MOST_MISSES = 200_000;

interface IoPage {
  readonly gpa: number;
  readonly perm: number;
}

export class IoDomain {
  /** MISSes that came, in order. */
  readonly misses: IotlbMessage[] = [];
  /** Which MISSes wait for `answerHeld`. Default none. */
  holds: (iova: bigint) => boolean = () => false;
  /** How many pages one UPDATE covers at most. QEMU sends page by page. */
  updatePages = 1;
  readonly #pages = new Map<bigint, IoPage>();
  readonly #held: IotlbMessage[] = [];
  readonly #evidence: Evidence;
  readonly #userOf: (gpa: number) => number;
  #session: TracedSession | undefined;

  /** `userOf`: the front-end's address of a guest-physical one. */
  constructor(userOf: (gpa: number) => number, evidence: Evidence) {
    this.#userOf = userOf;
    this.#evidence = evidence;
  }

  /** From now on this session's MISSes are answered. */
  serve(session: TracedSession): void {
    this.#session = session;
  }

  /** Lets `iova`, by default one far away, lead to whole pages of memory. The device is not told. */
  map(
    gpa: number,
    bytes: number,
    perm: number = IOTLB_PERM.readWrite,
    iova = BigInt(gpa) + DEFAULT_OFFSET,
  ): bigint {
    const start = gpa - (gpa % PAGE_BYTES);
    const startIova = iova - (iova % PAGE);
    for (let offset = 0; start + offset < gpa + bytes; offset += PAGE_BYTES)
      this.#pages.set(startIova + BigInt(offset), { gpa: start + offset, perm });
    return iova;
  }

  /** Takes pages away and sends INVALIDATE for exactly this range. */
  unmap(iova: bigint, bytes: number): void {
    this.forget(iova, bytes);
    const result = this.#session?.iotlbInvalidate(iova, BigInt(bytes));
    if (result !== 0n) this.#evidence.add("back-end", `INVALIDATE gave ${result}`);
  }

  /** Takes pages away and tells nobody. */
  forget(iova: bigint, bytes: number): void {
    for (let page = iova - (iova % PAGE); page < iova + BigInt(bytes); page += PAGE) this.#pages.delete(page);
  }

  /** Sends the UPDATE of the page at `iova` unasked, as QEMU does for used rings. Returns the back-end's result. */
  push(iova: bigint): bigint {
    const first = iova - (iova % PAGE);
    const page = this.#pages.get(first);
    if (page === undefined || this.#session === undefined) throw new Error(`${hex(iova)} is not mapped`);
    let pages = 1;
    while (pages < this.updatePages && this.#follows(page, first, pages)) pages++;
    const user = BigInt(this.#userOf(page.gpa));
    return this.#session.iotlbUpdate(first, BigInt(pages) * PAGE, user, page.perm);
  }

  #follows(page: IoPage, first: bigint, pages: number): boolean {
    const next = this.#pages.get(first + BigInt(pages) * PAGE);
    return next !== undefined && next.perm === page.perm && next.gpa === page.gpa + pages * PAGE_BYTES;
  }

  /** A MISS. True if it was answered with an UPDATE that the back-end took. */
  miss(miss: IotlbMessage): boolean {
    this.misses.push(miss);
    if (this.misses.length > MOST_MISSES)
      throw new CaseFailed(
        `the back-end has sent more than ${MOST_MISSES} MISSes; the last: ${describeIotlb(miss)}`,
      );
    if (this.holds(miss.iova)) {
      this.#held.push(miss);
      return true;
    }
    return this.#answer(miss);
  }

  /** How many MISSes wait. */
  get heldCount(): number {
    return this.#held.length;
  }

  /** Answers what was held, in order, and what comes from now on at once. */
  answerHeld(): void {
    this.holds = () => false;
    for (const miss of this.#held.splice(0)) this.#answer(miss);
  }

  #answer({ iova, perm }: IotlbMessage): boolean {
    const page = this.#pages.get(iova - (iova % PAGE));
    if (page === undefined || (page.perm & perm) !== perm) {
      this.#evidence.add("front-end", `(no mapping for ${hex(iova)}: the MISS stays unanswered)`);
      return false;
    }
    return this.push(iova) === 0n;
  }
}
