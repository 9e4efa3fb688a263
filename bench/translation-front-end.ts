/**
 * The front-end of a measured guest behind a vIOMMU. Its IOTLB messages are QEMU's: an UPDATE of 4 KiB for each MISS,
 * an INVALIDATE for each range that the guest unmaps, all with NEED_REPLY. Either it waits for each answer before it
 * goes on, as QEMU does, or it sends what is due in one piece and waits for the answers of an INVALIDATE only before
 * the guest may use the memory for something else. Must not know rings.
 */
import type { IotlbMessage } from "../src/vhost/wire/index.js";
import { encodeRequest, IOTLB_PERM, IOTLB_TYPE } from "../src/vhost/wire/index.js";
import { FrontEnd, type FrontEndOptions } from "../src/vmm/front-end.js";
import type { RemoteIotlb } from "../src/vmm/iotlb-server.js";
import type { Tally } from "./commands.js";
import { monotonicNs } from "./progress.js";

/** Messages sent in one piece at most, and answers left unread at most: less than a socket holds. */
const MOST_AT_ONCE = 128;

export class TranslatingFrontEnd extends FrontEnd {
  readonly #isPipelining: boolean;
  #unsent: Uint8Array[] = [];
  /** Answers that were not read yet. */
  #due = 0;
  #misses = 0;
  #updates = 0;
  #invalidations = 0;
  #unmappingNs = 0;
  #answeringNs = 0;

  protected override readonly remoteIotlb: RemoteIotlb = {
    update: (iova, size, userAddress, perm) => {
      this.#updates++;
      this.#send({ type: IOTLB_TYPE.UPDATE, iova, size, userAddress, perm });
      return true;
    },
    invalidate: (iova, size) => {
      this.#invalidations++;
      this.#send({ type: IOTLB_TYPE.INVALIDATE, iova, size, userAddress: 0n, perm: 0 });
    },
  };

  constructor(options: FrontEndOptions, isPipelining: boolean) {
    super(options);
    this.#isPipelining = isPipelining;
    // Nothing is told to an observer: there is none, and to put a question into words costs as much as to answer it.
    this.session.onMiss = (miss) => {
      this.#misses++;
      return this.iotlb?.miss(miss) ?? false;
    };
  }

  /** Maps a range that is contiguous in guest-physical memory. */
  map(iova: number, bytes: number, gpa: number): void {
    const user = this.users.ofGpa(gpa, bytes);
    this.remoteIotlb.update(BigInt(iova), BigInt(bytes), BigInt(user), IOTLB_PERM.readWrite);
  }

  override serve(): number {
    const beganNs = monotonicNs();
    const served = super.serve();
    this.#flush();
    this.#answeringNs += monotonicNs() - beganNs;
    return served;
  }

  /** Returns once everything that was sent until now is answered. */
  settle(): void {
    this.#flush();
    while (this.#due > 0) this.#takeAnswer();
    // Questions that were served meanwhile: nobody waits for the answers to these.
    this.#flush();
  }

  /** Runs a part of an unmapping, and counts its time as such. */
  unmapping(action: () => void): void {
    const beganNs = monotonicNs();
    action();
    this.#unmappingNs += monotonicNs() - beganNs;
  }

  /** What there was since it was last asked. */
  takeTally(): Tally {
    const tally = {
      misses: this.#misses,
      updates: this.#updates,
      invalidations: this.#invalidations,
      unmappingNs: this.#unmappingNs,
      answeringNs: this.#answeringNs,
    };
    this.#misses = this.#updates = this.#invalidations = this.#unmappingNs = this.#answeringNs = 0;
    return tally;
  }

  #send(message: IotlbMessage): void {
    this.#unsent.push(
      encodeRequest("frontend", "IOTLB_MSG", { kind: "iotlb", ...message }, { needReply: true }),
    );
    if (!this.#isPipelining) this.settle();
    else if (this.#unsent.length === MOST_AT_ONCE) this.#flush();
  }

  #flush(): void {
    while (this.#due + this.#unsent.length > MOST_AT_ONCE && this.#due > 0) this.#takeAnswer();
    if (this.#unsent.length === 0) return;
    const bytes = this.#unsent.length === 1 ? this.#unsent[0] : Buffer.concat(this.#unsent);
    this.#due += this.#unsent.length;
    this.#unsent = [];
    this.session.sendBytes(bytes);
  }

  #takeAnswer(): void {
    // Questions are served while it waits, and each of them may send and wait in turn: answers are counted when due.
    this.#due--;
    const { payload } = this.session.receive();
    if (payload.kind !== "u64" || payload.value !== 0n)
      throw new Error("the device refused an IOTLB message");
  }
}
