/**
 * One ring of a session from outside: where its areas lie, in whichever address space, from when to when it runs, and
 * who looks at it. Must not know messages, nor what is in buffers.
 */
import type { EventLoop } from "../../linux/event-loop.js";
import { Access, Outcome } from "../../memory/address.js";
import type { AddressSpace } from "../../memory/address-space.js";
import { ALIGNMENT, availBytes, descBytes, isQueueSize, usedBytes } from "../../virtqueue/layout.js";
import { isPackedQueueSize, PACKED_ALIGNMENT, packedDescBytes } from "../../virtqueue/packed-layout.js";
import { RingArea } from "../../virtqueue/ring-area.js";
import { Bell } from "./bell.js";
import { BufferBook, type ContentReader } from "./buffer-book.js";
import type { GuestReader } from "./guest-reader.js";
import type { RingFormat } from "./observed-chain.js";
import { PackedObserver } from "./packed-observer.js";
import { SplitObserver } from "./split-observer.js";
import { noTraffic, type RingFaultKind, type RingTraffic } from "./traffic.js";

/** What a ring was set up with. */
export interface RingSetUp {
  readonly format: RingFormat;
  readonly size: number;
  readonly base: number;
  readonly desc: bigint;
  readonly avail: bigint;
  readonly used: bigint;
}

/** Whoever follows a ring. */
export interface RingUser {
  /** One of its eventfds was signalled. */
  rang(): void;
  fault(kind: RingFaultKind, text: string): void;
}

export class FollowedRing {
  readonly traffic: RingTraffic = noTraffic();
  readonly kick: Bell;
  readonly call: Bell;
  /** How often the session's messages had started it when it was started here. */
  starts = 0;
  readonly #guest: GuestReader;
  readonly #fault: RingUser["fault"];
  readonly #reader: ContentReader | undefined;
  #areas: readonly RingArea[] = [];
  #observer: SplitObserver | PackedObserver | undefined;
  #book: BufferBook | undefined;
  /** Where the device was when the ring was stopped last, and how many buffers it had. */
  #left = { usedPosition: -1, inFlight: 0 };
  /** What the areas were found by; something else has to be looked for again. */
  #space: AddressSpace | undefined;
  #generation = -1;
  #isReachable = false;

  constructor(
    loop: EventLoop,
    guest: GuestReader,
    reader: ContentReader | undefined,
    { rang, fault }: RingUser,
  ) {
    this.#fault = fault;
    this.#guest = guest;
    this.#reader = reader;
    this.kick = new Bell(loop, () => {
      this.traffic.kicks++;
      rang();
    });
    this.call = new Bell(loop, () => {
      this.traffic.calls++;
      rang();
    });
  }

  get isFollowed(): boolean {
    return this.#observer !== undefined;
  }

  /** The ring runs. False if no ring is like that. */
  start({ format, size, base, desc, avail, used }: RingSetUp): boolean {
    this.stop();
    const { traffic } = this;
    const book = new BufferBook({
      format,
      guest: this.#guest,
      traffic,
      reader: this.#reader,
      fault: this.#fault,
    });
    this.#isReachable = false;
    if (format === "packed") {
      if (!isPackedQueueSize(size)) return false;
      const area = readable("descriptor ring", desc, packedDescBytes(size), PACKED_ALIGNMENT.desc, 4);
      this.#areas = [area];
      this.#observer = new PackedObserver(size, base, area, book, traffic);
    } else {
      if (!isQueueSize(size)) return false;
      // The event indices at the end of both rings are not looked at.
      const areas = {
        desc: readable("descriptor table", desc, descBytes(size), ALIGNMENT.desc, 4),
        avail: readable("avail ring", avail, availBytes(size, false), ALIGNMENT.avail, 2),
        used: readable("used ring", used, usedBytes(size, false), ALIGNMENT.used, 4),
      };
      this.#areas = Object.values(areas);
      this.#observer = new SplitObserver(size, base, areas, book, traffic, this.#fault);
    }
    this.#book = book;
    // The same driver's ring goes on: the buffers that it left with the device are counted already.
    if (this.#observer.usedPosition === this.#left.usedPosition) traffic.available -= this.#left.inFlight;
    return true;
  }

  /**
   * Whether anything has moved since the last look.
   *
   * @param space that of the ring's addresses
   * @param isChanged something may have been mapped since
   */
  look(space: AddressSpace, isChanged: boolean): boolean {
    if (this.#observer === undefined || !this.#reach(space, isChanged)) return false;
    return this.#observer.look();
  }

  stop(): void {
    if (this.#observer === undefined) return;
    const { usedPosition, inFlight } = this.#observer;
    this.#left = { usedPosition, inFlight };
    this.#book?.close();
    this.#book = undefined;
    this.#observer = undefined;
    this.#areas = [];
  }

  close(): void {
    this.stop();
    this.kick.close();
    this.call.close();
  }

  #reach(space: AddressSpace, isChanged: boolean): boolean {
    const isSame = this.#space === space && this.#generation === space.generation;
    if (isSame && (this.#isReachable || !isChanged)) return this.#isReachable;
    this.#space = space;
    this.#generation = space.generation;
    // All of them, whatever becomes of the first: no view may be left that shows what is mapped no more.
    const outcomes = this.#areas.map((area) => area.resolve(space));
    this.#isReachable = outcomes.every((outcome) => outcome === Outcome.OK);
    return this.#isReachable;
  }
}

function readable(
  name: string,
  address: bigint,
  bytes: number,
  alignment: number,
  elementBytes: 2 | 4,
): RingArea {
  return new RingArea(name, address, bytes, alignment, Access.READ, elementBytes);
}
