/**
 * The buffers of one ring between being made available and being returned, whatever the ring's format: when their content
 * is read, and what of it is shown. It is there from the one moment to the other if the device reads it, and from the
 * other on if the device writes it; by then the driver may take it away at any time. So it is read as soon as it can be,
 * and shown in the order of the ring.
 */
import { hex } from "../../virtio/index.js";
import type { GuestReader } from "./guest-reader.js";
import { ObservedChain, type RingFormat, type Side } from "./observed-chain.js";
import type { RingFaultKind, RingTraffic } from "./traffic.js";

/**
 * How long a returned buffer is waited for whose memory is not mapped. The device had the mapping, so its message has
 * gone by, and is on its way here.
 */
export const MAPPING_MS = 100;
/** Buffers whose turn to be shown has not come because one before them is waited for. */
const MOST_HELD = 4096;

/** Reads the content of buffers. */
export interface ContentReader {
  /** Whose content is shown: of what the device reads, or of what it writes. */
  readonly side: Side;
  /**
   * @param writtenBytes what the device says it has written; undefined of what it reads, and if nobody saw it
   * @param isCertain whether nobody can have changed the content since it was put there; asked once it was read
   * @returns what shows it, `unmapped` if it could not be reached, `gone` if something else is in its place
   */
  read(
    chain: ObservedChain,
    guest: GuestReader,
    writtenBytes: number | undefined,
    isCertain: () => boolean,
  ): (() => void) | "unmapped" | "gone";
  /** For a buffer of which only an address is left: what shows its content, if it is there beyond doubt. */
  recover(address: LeftAddress, guest: GuestReader): (() => void) | undefined;
}

/** That of the descriptor over which a used element was written: of a buffer, or of an indirect table. */
export interface LeftAddress {
  readonly low: number;
  readonly high: number;
}

/** An element of a used ring. */
export interface Returned {
  readonly id: number;
  /** Undefined if nobody has seen it. */
  readonly writtenBytes: number | undefined;
  /** What is left of a chain that was not seen. */
  readonly left?: LeftAddress | undefined;
}

interface Buffer {
  readonly chain: ObservedChain;
  /** `lost`: there is nothing to be read any more, or never was. */
  state: "waiting" | "read" | "lost";
  /** Shows what was read. */
  show: (() => void) | undefined;
  /** All its descriptors are known. */
  isExpanded: boolean;
  /** Its readable bytes are counted, once. */
  isCounted: boolean;
  writtenBytes: number | undefined;
  /** When it was seen to be returned. */
  returnedMs: number | undefined;
}

export interface BufferBookOptions {
  readonly format: RingFormat;
  readonly guest: GuestReader;
  readonly traffic: RingTraffic;
  /** Undefined: nobody wants to see content, and buffers are counted only. */
  readonly reader: ContentReader | undefined;
  /** Something in the ring is against its rules, beyond doubt. */
  readonly fault: (kind: RingFaultKind, text: string) => void;
  readonly nowMs?: () => number;
}

export class BufferBook {
  /** By what the used ring names them; more than one if a ring was looked at late, the oldest first. */
  readonly #buffers = new Map<number, Buffer[]>();
  /** Names that stand for more than one. */
  readonly #crowded = new Set<number>();
  /** What could not be read yet. */
  readonly #waiting = new Set<Buffer>();
  /** What is to be shown, in its order. */
  #order: Buffer[] = [];
  readonly #options: BufferBookOptions;
  readonly #nowMs: () => number;

  constructor(options: BufferBookOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? (() => performance.now());
  }

  /**
   * These were made available, in this order.
   *
   * @param isCertain whether none of them can have been returned yet; asked after their content was read
   */
  madeAvailable(chains: readonly ObservedChain[], isCertain: () => boolean): void {
    const replaced = this.#side === "readable" ? placedAgain(chains, "readable") : NONE;
    for (const chain of chains) {
      const buffer = this.#enter(chain);
      if (replaced.has(chain)) buffer.state = "lost";
      else this.#tryReading(buffer, isCertain);
      if (this.#side === "readable") this.#order.push(buffer);
    }
    this.#show();
  }

  /**
   * How many descriptors of the ring a buffer takes, undefined if it is not known.
   *
   * @param nth which of those of this name, the oldest being 0
   */
  ringDescriptorsOf(id: number, nth: number): number | undefined {
    return this.#buffers.get(id)?.[nth]?.chain.ringDescriptors;
  }

  /** Whether there is a buffer of this name. */
  has(id: number): boolean {
    return this.#buffers.has(id);
  }

  /** The device has returned these, in this order. */
  returned(elements: readonly Returned[]): void {
    const { traffic } = this.#options;
    const buffers = elements.map(({ id }) => this.#leave(id));
    const known = buffers.flatMap((buffer) => (buffer === undefined ? [] : [buffer.chain]));
    const replaced = this.#side === "writable" ? placedAgain(known, "writable") : NONE;
    for (const [index, { writtenBytes, left }] of elements.entries()) {
      const buffer = buffers[index];
      traffic.writtenBytes += writtenBytes ?? 0;
      if (buffer === undefined) {
        this.#recover(left);
        continue;
      }
      buffer.writtenBytes = writtenBytes;
      buffer.returnedMs = this.#nowMs();
      if (replaced.has(buffer.chain)) buffer.state = "lost";
      if (buffer.state === "waiting") this.#tryReading(buffer, NEVER);
      if (this.#side === "writable") this.#order.push(buffer);
      if (buffer.state === "lost") traffic.unseen++;
    }
    this.#show();
  }

  /** After a ring was looked at: a name stands for one buffer only. */
  settle(): void {
    for (const id of this.#crowded) {
      const buffers = this.#buffers.get(id) ?? [];
      for (const buffer of buffers.splice(0, buffers.length - 1)) this.#give(buffer);
    }
    this.#crowded.clear();
  }

  /** Memory may have been mapped meanwhile, and time has passed. */
  retry(isCertain: () => boolean): void {
    for (const buffer of [...this.#waiting]) {
      this.#tryReading(buffer, buffer.returnedMs === undefined ? isCertain : NEVER);
      if (buffer.state === "lost" && buffer.returnedMs !== undefined) this.#options.traffic.unseen++;
    }
    const sinceMs = this.#nowMs() - MAPPING_MS;
    for (const buffer of [...this.#waiting])
      if (buffer.returnedMs !== undefined && buffer.returnedMs < sinceMs) this.#giveUp(buffer);
    this.#show();
  }

  /** Forgets the buffers that are in flight: what is returned of them later is not known. */
  forget(): void {
    for (const buffers of this.#buffers.values()) for (const buffer of buffers) this.#give(buffer);
    this.#buffers.clear();
    this.#crowded.clear();
    this.#show();
  }

  /** Nothing more comes: what is still waited for is given up. */
  close(): void {
    this.forget();
    for (const buffer of [...this.#waiting]) this.#giveUp(buffer);
    this.#show();
  }

  get #side(): Side | undefined {
    return this.#options.reader?.side;
  }

  #enter(chain: ObservedChain): Buffer {
    const buffer = newBuffer(chain);
    const others = this.#buffers.get(chain.id);
    if (others === undefined) this.#buffers.set(chain.id, [buffer]);
    else {
      others.push(buffer);
      this.#crowded.add(chain.id);
    }
    return buffer;
  }

  #leave(id: number): Buffer | undefined {
    const buffers = this.#buffers.get(id);
    const buffer = buffers?.shift();
    if (buffers?.length === 0) this.#buffers.delete(id);
    return buffer;
  }

  /** Of a buffer of which nobody will say that it was returned. */
  #give(buffer: Buffer): void {
    this.#waiting.delete(buffer);
    if (buffer.state === "waiting") buffer.state = "lost";
  }

  #giveUp(buffer: Buffer): void {
    this.#give(buffer);
    this.#options.traffic.unseen++;
  }

  #tryReading(buffer: Buffer, isUntouched: () => boolean): void {
    const { format, guest, reader } = this.#options;
    this.#waiting.delete(buffer);
    // Mappings are heard of late: an I/O virtual address may lead for a moment to where it led before.
    const isCertain = (): boolean => guest.space.kind !== "iova" && isUntouched();
    const isReturned = buffer.returnedMs !== undefined;
    const state = buffer.isExpanded ? "whole" : buffer.chain.expand(guest, format);
    buffer.isExpanded = state === "whole";
    // Of what may have been overwritten any number may stand there.
    if (buffer.isExpanded && isCertain()) {
      this.#count(buffer);
      this.#checkPlace(buffer, isCertain);
    }
    const isInTime = reader?.side === "readable" || isReturned;
    if (buffer.isExpanded && reader === undefined) buffer.state = "read";
    else if (buffer.isExpanded && isInTime) this.#read(buffer, isCertain);
    else if (state === "torn" && isReturned) buffer.state = "lost";
    // Before its time there is nothing to wait for but its table.
    if (buffer.state === "waiting" && (isInTime || !buffer.isExpanded)) this.#waiting.add(buffer);
  }

  /** Until the buffer was returned it may be tried again, whatever came of it. */
  #read(buffer: Buffer, isCertain: () => boolean): void {
    const { guest, reader } = this.#options;
    const written = reader?.side === "writable" ? buffer.writtenBytes : undefined;
    const content = reader?.read(buffer.chain, guest, written, isCertain);
    if (typeof content === "function") {
      buffer.state = "read";
      buffer.show = content;
      this.#count(buffer);
    } else if (content === "gone" && buffer.returnedMs !== undefined) buffer.state = "lost";
    else buffer.isExpanded = false;
  }

  #checkPlace({ chain }: Buffer, isCertain: () => boolean): void {
    const { guest, fault } = this.#options;
    const outside = chain.firstOutside(guest);
    if (outside === undefined || !isCertain()) return;
    const { low, high, length } = outside;
    const address = (BigInt(high) << 32n) | BigInt(low);
    fault("outside-memory", `a buffer of ${length} bytes is at gpa:${hex(address)}`);
  }

  #count(buffer: Buffer): void {
    if (!buffer.isCounted) this.#options.traffic.readableBytes += buffer.chain.byteLength("readable");
    buffer.isCounted = true;
  }

  /** Of a buffer that was made available and returned between two looks. */
  #recover(left: LeftAddress | undefined): void {
    const { reader, guest, traffic } = this.#options;
    const show = left && reader?.recover(left, guest);
    if (show === undefined) traffic.unseen++;
    else this.#order.push({ ...newBuffer(NOTHING), state: "read", show });
  }

  #show(): void {
    let count = 0;
    for (const buffer of this.#order) {
      if (buffer.state === "waiting") {
        if (this.#order.length - count <= MOST_HELD) break;
        this.#give(buffer);
        if (buffer.returnedMs !== undefined) this.#options.traffic.unseen++;
      }
      buffer.show?.();
      count++;
    }
    if (count > 0) this.#order.splice(0, count);
  }
}

function newBuffer(chain: ObservedChain): Buffer {
  return {
    chain,
    state: "waiting",
    show: undefined,
    isExpanded: false,
    isCounted: false,
    writtenBytes: undefined,
    returnedMs: undefined,
  };
}

/** Stands for a chain that nobody has seen. */
const NOTHING = new ObservedChain(0, 0, []);
const NEVER = (): boolean => false;
const NONE: ReadonlySet<ObservedChain> = new Set();

/** Those whose content is at the place of a later one's: it was overwritten before anybody looked. */
function placedAgain(chains: readonly ObservedChain[], side: Side): ReadonlySet<ObservedChain> {
  if (chains.length < 2) return NONE;
  const again = new Set<ObservedChain>();
  const places = new Set<string>();
  for (const chain of [...chains].reverse()) {
    const place = chain.place(side);
    if (place === undefined) continue;
    if (places.has(place)) again.add(chain);
    places.add(place);
  }
  return again;
}
