/**
 * For tests of this folder: a real switch on an event loop that the test turns by hand, with a clock of its own, real
 * Unix sockets on the host side and a fake receive ring on the guest side. Not part of the product.
 */
import { closeSync, readdirSync } from "node:fs";
import { errno } from "../linux/errors.js";
import { EventLoop } from "../linux/event-loop.js";
import { IovecList } from "../linux/iovec.js";
import { Scratch } from "../linux/scratch.js";
import { sendEmptyMessage } from "../linux/seqpacket.js";
import { Timers } from "../linux/timers.js";
import {
  SHUT_RD,
  SHUT_WR,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  setSendBuffer,
  shutdownSocket,
  socketPair,
} from "../linux/unix-socket.js";
import { createLogger } from "../log/logger.js";
import type { LogRecord } from "../log/record.js";
import { SegmentList } from "../memory/segments.js";
import type { Connection, Opener } from "./connection.js";
import { HEADER_BYTES, HOST_CID, MessageEnd, Op, opName, PacketHeader, SocketType } from "./header.js";
import type { HostEndpoints } from "./host-endpoints.js";
import { DEFAULT_LIMITS, type SwitchLimits } from "./limits.js";
import { Neighbours } from "./neighbours.js";
import type { ReceiveRing } from "./receive-ring.js";
import { VsockSwitch } from "./switch.js";

export const GUEST_CID = 3;
export const HOST_PORT = 5000;
export const GUEST_PORT = 1024;
export const LINUX_BUFFER_BYTES = 256 * 1024;

export type Fields = Partial<{ [Key in Exclude<keyof PacketHeader, "read" | "write">]: number }>;

/** One packet that the switch sent to the guest. */
export interface Sent {
  readonly header: PacketHeader;
  readonly payload: Buffer;
}

export function copyOf(header: PacketHeader): PacketHeader {
  return Object.assign(new PacketHeader(), header);
}

/** "RW 12", "RW 12 EOM", "RST", "SHUTDOWN 3": short enough to list a whole conversation. */
export function brief({ header }: Sent): string {
  if (header.op === Op.RW) {
    const end = (header.flags & MessageEnd.EOM) !== 0 ? " EOM" : "";
    return `RW ${header.len}${end}${(header.flags & MessageEnd.EOR) !== 0 ? " EOR" : ""}`;
  }
  return header.op === Op.SHUTDOWN ? `SHUTDOWN ${header.flags}` : opName(header.op);
}

/** Guest buffers without a virtqueue: so many are offered, each of so many bytes behind the header. */
export class FakeRing implements ReceiveRing {
  readonly sent: Sent[] = [];
  readonly #memory: Scratch;
  #taken: number[] = [];

  constructor(
    public offered = Number.POSITIVE_INFINITY,
    /** Payload capacity of the next buffers, in turn. */
    public capacities: readonly number[] = [3732],
    readonly slots = 128,
  ) {
    this.#memory = new Scratch(slots * this.#slotBytes);
  }

  readonly #slotBytes = 8192;
  #nextCapacity = 0;

  take(payloadBytes: number): number {
    this.#taken = [];
    let room = 0;
    do {
      if (this.#taken.length === Math.min(this.offered, this.slots)) break;
      const capacity = this.capacities[(this.#nextCapacity + this.#taken.length) % this.capacities.length];
      this.#taken.push(capacity);
      room += capacity;
    } while (room < payloadBytes);
    return this.#taken.length;
  }

  capacity(slot: number): number {
    return this.#taken[slot];
  }

  appendPayload(slot: number, bytes: number, iovecs: IovecList): void {
    if (bytes > this.#taken[slot]) throw new Error("more than the buffer holds");
    iovecs.push(this.#memory.address + this.#startOf(slot), bytes);
  }

  /** Buffers keep their memory while those before them are completed. */
  #startOf(slot: number): number {
    return ((this.#nextCapacity + slot) * this.#slotBytes) % this.#memory.length;
  }

  complete(header: PacketHeader): void {
    const capacity = this.#taken.shift();
    if (capacity === undefined) throw new Error("a buffer that was not taken");
    if (header.len > capacity) throw new Error("a payload longer than its buffer");
    const start = this.#startOf(0);
    const payload = Buffer.from(this.#memory.bytes.subarray(start, start + header.len));
    this.sent.push({ header: copyOf(header), payload });
    this.offered--;
    this.#nextCapacity++;
  }
}

/** The host program's end of a connection: reads and writes without blocking. */
export class HostEnd {
  readonly #memory = new Scratch(512 * 1024);
  readonly #iovecs = new IovecList(1);

  constructor(readonly fd: number) {}

  /** The bytes that were there, "" at end of file as an empty buffer, or a negative errno. */
  read(most = this.#memory.length): Buffer | number {
    this.#iovecs.clear();
    this.#iovecs.push(this.#memory.address, most);
    const result = this.#iovecs.readFrom(this.fd);
    return result < 0 ? result : Buffer.from(this.#memory.bytes.subarray(0, result));
  }

  /** Everything that is there now. */
  readAll(): Buffer {
    const pieces: Buffer[] = [];
    for (let piece = this.read(); piece instanceof Buffer && piece.length > 0; piece = this.read())
      pieces.push(piece);
    return Buffer.concat(pieces);
  }

  /** "open", "end" or the name of what reading says, when nothing is left to read. */
  get condition(): "open" | "data" | "end" | "reset" {
    const found = this.read(1);
    if (found === -errno.EAGAIN) return "open";
    if (found === -errno.ECONNRESET) return "reset";
    if (typeof found === "number") throw new Error(`errno ${-found}`);
    return found.length === 0 ? "end" : "data";
  }

  /** On a seqpacket socket that is a message; an empty one has a call of its own. */
  write(bytes: Buffer | string): number {
    const data = Buffer.from(bytes);
    if (data.length === 0) return sendEmptyMessage(this.fd);
    this.#memory.bytes.set(data);
    this.#iovecs.clear();
    this.#iovecs.push(this.#memory.address, data.length);
    return this.#iovecs.writeTo(this.fd);
  }

  endWriting(): void {
    shutdownSocket(this.fd, SHUT_WR);
  }

  endReading(): void {
    shutdownSocket(this.fd, SHUT_RD);
  }

  close(): void {
    closeSync(this.fd);
  }
}

function unixType(type: number): number {
  return type === SocketType.SEQPACKET ? SOCK_SEQPACKET : SOCK_STREAM;
}

/** Host ports behind socket pairs: a guest's connection to a port that is served leaves its other end in `accepted`. */
export class PairEndpoints implements HostEndpoints {
  readonly served = new Set<number>([HOST_PORT]);
  readonly accepted: HostEnd[] = [];
  /** What to answer instead, as long as it is set. */
  failure = 0;
  calls = 0;
  /** Asked of each socket; the kernel doubles it. */
  sendBufferBytes: number | undefined;

  connect(hostPort: number, type: number): number {
    this.calls++;
    if (this.failure !== 0) return this.failure;
    if (!this.served.has(hostPort)) return -errno.ENOENT;
    const [ours, theirs] = socketPair(unixType(type));
    if (this.sendBufferBytes !== undefined) setSendBuffer(ours, this.sendBufferBytes);
    this.accepted.push(new HostEnd(theirs));
    return ours;
  }
}

/** Remembers how a host program's request ended. */
export class RecordingOpener implements Opener {
  hostPort: number | undefined;
  reason: string | undefined;
  connected({ hostPort }: Connection): void {
    this.hostPort = hostPort;
  }
  failed(reason: string): void {
    this.reason = reason;
  }
}

/** Guests that share a thread, and so a loop and a clock. */
export class Company {
  readonly clock = { ms: 0 };
  readonly loop = new EventLoop(undefined, new Timers(() => this.clock.ms));
  readonly neighbours = new Neighbours();
  readonly members: SwitchRig[] = [];
}

/** A guest of a company. */
export interface Membership {
  readonly company: Company;
  readonly cid: number;
  readonly groups: readonly string[];
}

export class SwitchRig {
  readonly company: Company;
  readonly guestCid: number;
  readonly clock: { ms: number };
  readonly loop: EventLoop;
  readonly endpoints = new PairEndpoints();
  readonly records: LogRecord[] = [];
  readonly ring: FakeRing;
  readonly vsock: VsockSwitch;
  readonly #memory = new Scratch(256 * 1024);

  constructor(limits: Partial<SwitchLimits> = {}, ring = new FakeRing(), membership?: Membership) {
    this.company = membership?.company ?? new Company();
    this.company.members.push(this);
    this.guestCid = membership?.cid ?? GUEST_CID;
    this.clock = this.company.clock;
    this.loop = this.company.loop;
    this.ring = ring;
    this.vsock = new VsockSwitch({
      loop: this.loop,
      guestCid: this.guestCid,
      ...(membership && {
        siblings: { neighbours: this.company.neighbours, groups: membership.groups },
      }),
      // Tests say how much a socket holds, and a window is whole from the start.
      limits: {
        ...DEFAULT_LIMITS,
        widensSockets: false,
        firstBufferBytes: Number.POSITIVE_INFINITY,
        ...limits,
      },
      endpoints: this.endpoints,
      log: createLogger({ level: "debug", sink: (record) => this.records.push(record), now: () => 0 }),
    });
    this.#open();
  }

  /** The guest's receive queue runs, or does not. */
  #isUp = true;

  #open(): void {
    this.#isUp = true;
    this.vsock.door = {
      deliver: () => {
        this.vsock.pump(this.ring, 1024);
      },
    };
  }

  /** The guest's queues stop and start again, as when a VM is paused. */
  pause(): void {
    this.#isUp = false;
    this.vsock.door = undefined;
  }

  goOn(): void {
    this.#open();
    this.settle();
  }

  /** Events of the log so far, by id. */
  get events(): string[] {
    return this.records.map(({ event }) => event);
  }

  /** A packet from the guest, in pieces of the lengths given (the last repeats). Not flushed. */
  enqueue(fields: Fields, payload: Buffer | string = "", framing: readonly number[] = [65536 + 44]): void {
    const body = Buffer.from(payload);
    const header = Object.assign(new PacketHeader(), {
      srcCid: this.guestCid,
      dstCid: HOST_CID,
      srcPort: GUEST_PORT,
      dstPort: HOST_PORT,
      type: SocketType.STREAM,
      bufAlloc: LINUX_BUFFER_BYTES,
      len: body.length,
      ...fields,
    });
    const start = this.#nextStart(HEADER_BYTES + body.length + 64 * framing.length);
    header.write(this.#memory.data, start);
    this.#memory.bytes.set(body, start + HEADER_BYTES);
    this.vsock.receive(header, this.#segments(start, HEADER_BYTES + body.length, framing));
  }

  #at = 0;
  /** Packets of one batch lie beside each other, so that none overwrites one that was not flushed. */
  #nextStart(bytes: number): number {
    if (this.#at + bytes > this.#memory.length) {
      this.vsock.flush();
      this.#at = 0;
    }
    const start = this.#at;
    this.#at += bytes;
    return start;
  }

  /** Cuts a packet into segments; joined by nothing, although they touch. */
  #segments(start: number, length: number, framing: readonly number[]): SegmentList {
    const segments = new SegmentList(4);
    for (let at = 0, index = 0; at < length; index++) {
      const bytes = Math.min(framing[Math.min(index, framing.length - 1)], length - at);
      const separate = new SegmentList(1);
      separate.append(this.#memory.address + start + at, bytes);
      if (segments.count === segments.address.length) {
        const grown = new SegmentList(segments.count * 2);
        grown.address.set(segments.address);
        grown.length.set(segments.length);
        segments.address = grown.address;
        segments.length = grown.length;
      }
      segments.address[segments.count] = separate.address[0];
      segments.length[segments.count++] = separate.length[0];
      segments.totalBytes += bytes;
      at += bytes;
    }
    return segments;
  }

  /** One packet from the guest, as a burst of its own; then everything that follows from it. */
  guest(fields: Fields, payload: Buffer | string = "", framing?: readonly number[]): void {
    this.enqueue(fields, payload, framing);
    this.vsock.flush();
    this.settle();
  }

  /** Turns the loop and pumps until nothing happens any more. */
  settle(): void {
    const { members } = this.company;
    const sent = () => members.reduce((sum, { ring }) => sum + ring.sent.length, 0);
    for (let quiet = 0; quiet < 2; ) {
      const before = sent();
      this.loop.turn(0);
      for (const member of members) member.#pump();
      quiet = sent() === before ? quiet + 1 : 0;
    }
  }

  #pump(): void {
    if (this.#isUp && this.vsock.hasWork) this.vsock.pump(this.ring, 1024);
  }

  /** Lets time pass in small steps, so that timers that start others run as they would. */
  pass(ms: number, stepMs = 1): void {
    for (const end = this.clock.ms + ms; this.clock.ms < end; ) {
      this.clock.ms = Math.min(end, this.clock.ms + stepMs);
      this.settle();
    }
  }

  /** What was sent to the guest since the last call, in brief. */
  heard(): string[] {
    return this.take().map(brief);
  }

  take(): Sent[] {
    return this.ring.sent.splice(0);
  }

  /** An established connection that the guest asked for. */
  guestConnects(fields: Fields = {}): HostEnd {
    this.guest({ op: Op.REQUEST, ...fields });
    const answer = this.take();
    if (answer.length !== 1 || answer[0].header.op !== Op.RESPONSE) {
      throw new Error(`expected a RESPONSE, got ${answer.map(brief)}`);
    }
    return this.endpoints.accepted[this.endpoints.accepted.length - 1];
  }

  /** A host program asks for a guest port; the guest has not answered. */
  hostAsks(
    guestPort = GUEST_PORT,
    type: number = SocketType.STREAM,
  ): { host: HostEnd; opener: RecordingOpener } {
    const [ours, theirs] = socketPair(unixType(type));
    const opener = new RecordingOpener();
    this.vsock.connectGuest(guestPort, ours, opener, type);
    this.settle();
    return { host: new HostEnd(theirs), opener };
  }

  close(): void {
    this.vsock.close();
    const { members } = this.company;
    members.splice(members.indexOf(this), 1);
    if (members.length === 0) this.loop.close();
  }
}

/** Open descriptors of this process, the one that lists them left out. */
export function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length - 1;
}
