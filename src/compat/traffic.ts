/**
 * What a cell's two programs do: the guest's connects to a host port, sends, and compares the echo; the host's calls
 * the guest and compares its own bytes. Enough packets that small rings wrap, that a vIOMMU's addresses are used again
 * and that lazy unmapping flushes. Data is compared at both ends. Must not know how the bytes travel.
 */
import type { GuestConnection } from "../guest/connection.js";
import type { VsockDriver } from "../guest/vsock-driver.js";
import type { HostProgram, HostPrograms } from "./host-programs.js";
import { HOST_PORT } from "./host-programs.js";

/** Where the guest listens. */
const GUEST_PORT = 1024;

/**
 * The guest's messages, in bytes. Each fits a page together with its header, so that every mapping is one page long
 * and freed addresses fit whoever asks next.
 */
const MESSAGE_BYTES: readonly number[] = Array.from({ length: 18 }, (_, i) => 1 + ((i * 1777 + 3905) % 4000));
/** What the host's program sends. */
const CALL_BYTES = 5000;

/** How far a comparison came. */
export interface Stream {
  /** "the guest's bytes at the host", as a clause needs it. */
  readonly what: string;
  readonly expectedBytes: number;
  receivedBytes: number;
  /** The offset of the first byte that differs from what was sent. */
  differsAt: number | undefined;
}

/** Bytes that tell where in which stream they belong. */
function pattern(seed: number, bytes: number): Buffer {
  const data = Buffer.allocUnsafe(bytes);
  let state = seed >>> 0;
  for (let i = 0; i < bytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    data[i] = state >>> 24;
  }
  return data;
}

const TOTAL_BYTES = MESSAGE_BYTES.reduce((sum, bytes) => sum + bytes, 0);
const SENT = pattern(33, TOTAL_BYTES);
const CALLED = pattern(2022, CALL_BYTES);

function compare(stream: Stream, sent: Buffer, piece: Uint8Array): void {
  const at = stream.receivedBytes;
  stream.receivedBytes += piece.length;
  if (stream.differsAt !== undefined) return;
  const expected = sent.subarray(at, at + piece.length);
  if (expected.equals(piece)) return;
  const index = piece.findIndex((byte, i) => byte !== expected[i]);
  stream.differsAt = at + index;
}

const stream = (what: string, expectedBytes: number): Stream => ({
  what,
  expectedBytes,
  receivedBytes: 0,
  differsAt: undefined,
});

export type TrafficState = "connecting" | "talking" | "answering" | "done" | "failed";

export class Traffic {
  state: TrafficState = "connecting";
  /** Why the guest's program gave up. */
  problem: string | undefined;
  /** The guest's connection, once there is one. */
  connection: GuestConnection | undefined;
  /** The program that serves it on the host. */
  readonly guestToHost = stream("what the guest sent, at the host", TOTAL_BYTES);
  readonly echo = stream("the echo, at the guest", TOTAL_BYTES);
  readonly hostToGuest = stream("what the host's program sent, at the guest", CALL_BYTES);
  readonly answer = stream("the guest's answer, at the host", CALL_BYTES);
  #caller: HostProgram | undefined;

  constructor(
    private readonly driver: VsockDriver,
    private readonly host: HostPrograms,
    /** Begins a connection from the host to a guest port over a descriptor. */
    private readonly callGuest: (guestPort: number, fd: number) => void,
  ) {}

  get isOver(): boolean {
    return this.state === "done" || this.state === "failed";
  }

  get streams(): readonly Stream[] {
    return [this.guestToHost, this.echo, this.hostToGuest, this.answer];
  }

  /** Some data has arrived somewhere. */
  get anyData(): boolean {
    return this.compared().some(({ receivedBytes }) => receivedBytes > 0);
  }

  /** The streams, with what the host's programs received up to now. */
  compared(): readonly Stream[] {
    const served = this.host.served[0]?.received ?? Buffer.alloc(0);
    recompare(this.guestToHost, SENT, served.subarray(0, TOTAL_BYTES));
    recompare(this.answer, CALLED, this.#caller?.received ?? Buffer.alloc(0));
    return this.streams;
  }

  /** The guest's program. Never rejects. */
  async run(): Promise<void> {
    try {
      await this.#talk();
      await this.#answerCall();
      this.state = "done";
    } catch (error) {
      this.problem = error instanceof Error ? error.message : String(error);
      this.state = "failed";
    }
  }

  async #talk(): Promise<void> {
    const connection = await this.driver.connect(HOST_PORT);
    this.connection = connection;
    this.state = "talking";
    const echoed = this.#readEcho(connection);
    // Writing may fail first; what reading says then is no news.
    echoed.catch(() => {});
    let at = 0;
    for (const bytes of MESSAGE_BYTES) {
      await connection.write(SENT.subarray(at, at + bytes));
      at += bytes;
    }
    await echoed;
  }

  async #readEcho(connection: GuestConnection): Promise<void> {
    while (this.echo.receivedBytes < TOTAL_BYTES) {
      const piece = await connection.read();
      if (piece === undefined) throw new Error("the connection ended before the echo was complete");
      compare(this.echo, SENT, piece);
    }
  }

  async #answerCall(): Promise<void> {
    this.state = "answering";
    const listener = this.driver.listen(GUEST_PORT);
    const { program, fd } = this.host.caller();
    this.#caller = program;
    program.send(CALLED);
    this.callGuest(GUEST_PORT, fd);
    const connection = await listener.accept();
    while (this.hostToGuest.receivedBytes < CALL_BYTES) {
      const piece = await connection.read();
      if (piece === undefined) throw new Error("the host's call ended before everything was there");
      compare(this.hostToGuest, CALLED, piece);
      await connection.write(piece);
    }
  }

  /** The host's program has its bytes back, too: a little later than the guest has sent them. */
  get hostIsSatisfied(): boolean {
    const served = this.host.served[0]?.receivedBytes ?? 0;
    return served >= TOTAL_BYTES && (this.#caller?.receivedBytes ?? 0) >= CALL_BYTES;
  }
}

function recompare(stream: Stream, sent: Buffer, received: Buffer): void {
  stream.receivedBytes = 0;
  stream.differsAt = undefined;
  compare(stream, sent, received);
}
