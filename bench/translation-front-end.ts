/**
 * The front-end of a measured guest behind a vIOMMU: the player of QEMU's profile until the device runs, then UPDATE
 * and INVALIDATE on a line of their own. As QEMU: an UPDATE of 4 KiB for each MISS, an INVALIDATE for each range that
 * the guest unmaps. Either each message waits for the answer to the one before, as in QEMU, or what is due is sent in
 * one piece, and only before the guest may use memory for something else is its INVALIDATE's answer waited for.
 * Must not know rings.
 */
import type { IoTranslations } from "../src/guest/io-page-table.js";
import { FrontEnd, type FrontEndOptions } from "../src/vmm/front-end.js";
import type { GuestQueue } from "../src/vmm/player.js";
import { connectBlocking, setBlocking } from "./bare-socket.js";
import type { Tally } from "./commands.js";
import { monotonicNs } from "./progress.js";
import { IotlbLine, type MappedPage } from "./translation-line.js";

export interface TranslatingOptions extends Omit<FrontEndOptions, "socket"> {
  readonly socketPath: string;
  readonly translations: IoTranslations;
  readonly isPipelining: boolean;
}

export class TranslatingFrontEnd extends FrontEnd {
  readonly #socket: number;
  readonly #translations: IoTranslations;
  readonly #isPipelining: boolean;
  readonly #lookup = (page: number): MappedPage | undefined => this.#lookUp(page);
  #line: IotlbLine | undefined;
  #counts = noCounts();

  constructor(options: TranslatingOptions) {
    const socket = connectBlocking(options.socketPath);
    super({ ...options, socket });
    this.#socket = socket;
    this.#translations = options.translations;
    this.#isPipelining = options.isPipelining;
  }

  override start(acknowledged: bigint, queues: readonly GuestQueue[]): void {
    super.start(acknowledged, queues);
    setBlocking(this.#socket);
    this.#line = new IotlbLine(this.#socket, this.session.channelFd);
  }

  /** Maps a range that is contiguous in guest-physical memory. */
  map(iova: number, bytes: number, gpa: number): void {
    this.#started.update(iova, bytes, this.users.ofGpa(gpa, bytes), READ_WRITE);
    this.#goOn();
  }

  /** The guest has unmapped a range: at the latest when `settle` returns, the device does not use it any more. */
  invalidate(iova: number, bytes: number): void {
    const beganNs = monotonicNs();
    this.#started.invalidate(iova, bytes);
    this.#goOn();
    this.#counts.invalidations++;
    this.#counts.unmappingNs += monotonicNs() - beganNs;
  }

  settle(): void {
    const beganNs = monotonicNs();
    this.#started.settle();
    this.#counts.unmappingNs += monotonicNs() - beganNs;
  }

  /** Answers what the device has asked. */
  answer(): void {
    const beganNs = monotonicNs();
    const line = this.#started;
    this.#counts.misses += line.takeQuestions(this.#lookup, () => this.#goOn());
    line.send();
    this.#counts.answeringNs += monotonicNs() - beganNs;
  }

  /** What there was since it was last asked. */
  takeTally(): Tally {
    const tally = this.#counts;
    this.#counts = noCounts();
    return tally;
  }

  get #started(): IotlbLine {
    if (this.#line === undefined) throw new Error("the device is not started");
    return this.#line;
  }

  #goOn(): void {
    if (!this.#isPipelining) this.#started.settle();
  }

  #lookUp(page: number): MappedPage | undefined {
    const found = this.#translations.lookup(BigInt(page) << 12n);
    if (found === undefined) return undefined;
    this.#counts.updates++;
    return { user: this.users.ofGpa(found.gpa), access: found.access };
  }
}

const READ_WRITE = 3;

function noCounts(): { -readonly [Name in keyof Tally]: number } {
  return { misses: 0, updates: 0, invalidations: 0, unmappingNs: 0, answeringNs: 0 };
}
