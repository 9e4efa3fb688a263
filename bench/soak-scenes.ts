/**
 * What goes on between a guest and its host in a soak: each scene opens one connection or several, moves bytes that are
 * checked as they come, and ends them in its own way. Must not know when it is played, nor on which machine.
 */

import { type End, EndGone } from "./soak-ends.js";
import { CorruptStream, LONGEST_SLICE_BYTES, PatternStream } from "./soak-pattern.js";
import type { Chance } from "./soak-random.js";
import { DEAD_PORT, type Pair, type SoakVm } from "./soak-vm.js";

const KIB = 1024;
const MIB = 2 ** 20;

/** What a scene plays on. Whoever made it cuts off what a scene leaves behind. */
export class Stage {
  /** Payload bytes that came and were checked. */
  movedBytes = 0;
  opened = 0;
  readonly #ends: End[] = [];

  constructor(
    readonly vm: SoakVm,
    readonly chance: Chance,
  ) {}

  async open(): Promise<Pair> {
    const pair = await (this.chance.isLikely(0.5) ? this.vm.openFromGuest() : this.vm.openFromHost());
    this.keep(pair.guest);
    this.keep(pair.host);
    this.opened++;
    return pair;
  }

  keep<E extends End>(end: E): E {
    this.#ends.push(end);
    return end;
  }

  /** The two ends as one that sends and one that receives. */
  async openOneWay(): Promise<{ from: End; to: End }> {
    const { guest, host } = await this.open();
    return this.chance.isLikely(0.5) ? { from: guest, to: host } : { from: host, to: guest };
  }

  stream(): [made: PatternStream, checked: PatternStream] {
    const seed = this.chance.between(0, 2 ** 31);
    return [new PatternStream(seed), new PatternStream(seed)];
  }

  clear(): void {
    for (const end of this.#ends.splice(0)) end.cut();
  }
}

export type Scene = (stage: Stage) => Promise<void>;

export const SCENES = {
  /** One direction, to its end. */
  async stream(stage) {
    const { from, to } = await stage.openOneWay();
    await oneWay(stage, from, to, stage.chance.magnitude(64 * KIB, 32 * MIB));
    to.finish();
    await bothClose(from, to);
  },

  /** Both at once. */
  async duplex(stage) {
    const { guest, host } = await stage.open();
    const bytes = (): number => stage.chance.magnitude(16 * KIB, 8 * MIB);
    await Promise.all([oneWay(stage, guest, host, bytes()), oneWay(stage, host, guest, bytes())]);
    await bothClose(guest, host);
  },

  /** Question and answer. */
  async messages(stage) {
    const { from, to } = await stage.openOneWay();
    for (let left = stage.chance.between(5, 100); left > 0; left--) {
      const bytes = stage.chance.magnitude(1, 2000);
      await exactly(stage, from, to, bytes);
      await exactly(stage, to, from, bytes);
    }
    await bothClose(from, to);
  },

  /** One side ends its direction; the other one hears of it, and only then answers, at length. */
  async halfClose(stage) {
    const { from, to } = await stage.openOneWay();
    await oneWay(stage, from, to, stage.chance.magnitude(1, 64 * KIB));
    await oneWay(stage, to, from, stage.chance.magnitude(16 * KIB, MIB));
    await bothClose(from, to);
  },

  /** Cut off in the middle: what had come until then was right, and nobody is left waiting. */
  async reset(stage) {
    const { from, to } = await stage.openOneWay();
    const [made, checked] = stage.stream();
    const cutter = stage.chance.isLikely(0.5) ? from : to;
    const after = stage.chance.magnitude(1, MIB);
    const sending = send(stage, from, made, 4 * MIB).catch(expectGone);
    while (checked.bytes < after) {
      const piece = await to.read();
      if (piece === undefined) throw new EndGone(`it ended after ${checked.bytes} bytes`);
      take(stage, checked, piece);
    }
    cutter.cut();
    for (let piece = await to.read(); piece !== undefined; piece = await to.read())
      take(stage, checked, piece);
    await sending;
  },

  /** Nobody reads for a while: the device keeps what the host's socket does not take, and credit runs out. */
  async slowReader(stage) {
    const { from, to } = await stage.openOneWay();
    const [made, checked] = stage.stream();
    const bytes = stage.chance.magnitude(128 * KIB, 2 * MIB);
    const sending = send(stage, from, made, bytes).then(() => from.finish());
    await Promise.all([
      sending,
      pause(stage.chance.between(20, 500)).then(() => all(stage, to, checked, bytes)),
    ]);
    await bothClose(from, to);
  },

  /** Many connections at once, most of them idle most of the time. */
  async crowd(stage) {
    const { chance } = stage;
    const pairs = await Promise.all(Array.from({ length: chance.between(20, 150) }, () => stage.open()));
    for (let left = 2; left > 0; left--) {
      await Promise.all(
        pairs.map(async ({ guest, host }) => {
          await exactly(stage, guest, host, chance.magnitude(1, 8 * KIB));
          await exactly(stage, host, guest, chance.magnitude(1, 8 * KIB));
        }),
      );
      await pause(chance.between(1, 200));
    }
    await Promise.all(pairs.map(({ guest, host }) => bothClose(guest, host)));
  },

  /** Opened and closed, and nothing else. */
  async visits(stage) {
    for (let left = stage.chance.between(10, 60); left > 0; left--) {
      const { guest, host } = await stage.open();
      const first = stage.chance.isLikely(0.5) ? guest : host;
      await bothClose(first, first === guest ? host : guest);
    }
  },

  /** Ports on which nobody listens, and host programs that leave, or talk nonsense, before they are connected. */
  async refused(stage) {
    const { vm, chance } = stage;
    const refusal = await vm.guestConnects(DEAD_PORT).then(
      () => undefined,
      (error: Error) => error,
    );
    if (refusal === undefined) throw new Error("a port without a listener accepted a connection");
    const texts = [`CONNECT ${DEAD_PORT}\n`, "CONNECT 60", "HELLO\n", "CONNECT -1\n"];
    for (const text of texts) {
      const host = stage.keep(await vm.hostConnects(text));
      if (text.endsWith("\n") && (await host.read()) !== undefined)
        throw new Error(`the device answered ${JSON.stringify(text)}`);
      await pause(chance.between(0, 3));
      host.cut();
    }
  },
} as const satisfies Record<string, Scene>;

export type SceneName = keyof typeof SCENES;

/** How often each is played. */
export const PROGRAMME: readonly (readonly [SceneName, number])[] = [
  ["stream", 3],
  ["duplex", 2],
  ["messages", 4],
  ["halfClose", 2],
  ["reset", 3],
  ["slowReader", 1],
  ["crowd", 1],
  ["visits", 2],
  ["refused", 1],
];

// ---- what scenes are made of -----------------------------------------------------------------------------------

/** Sends so many bytes in pieces of any size. */
async function send({ chance }: Stage, from: End, stream: PatternStream, bytes: number): Promise<void> {
  for (let left = bytes; left > 0; ) {
    const piece = Math.min(left, chance.magnitude(1 * KIB, LONGEST_SLICE_BYTES));
    await from.write(stream.make(piece));
    left -= piece;
  }
}

function take(stage: Stage, stream: PatternStream, piece: Uint8Array): void {
  stream.check(piece);
  stage.movedBytes += piece.length;
}

/** Reads to the end, which has to come after exactly so many bytes. */
async function all(stage: Stage, to: End, stream: PatternStream, bytes: number): Promise<void> {
  for (let piece = await to.read(); piece !== undefined; piece = await to.read()) take(stage, stream, piece);
  if (stream.bytes > bytes) throw new CorruptStream(`${stream.bytes} bytes came, and ${bytes} were sent`);
  if (stream.bytes < bytes)
    throw new EndGone(`the ${to.side}'s end came after ${stream.bytes} of ${bytes} bytes`);
}

/** One direction of a connection, until its sender ends it. */
async function oneWay(stage: Stage, from: End, to: End, bytes: number): Promise<void> {
  const [made, checked] = stage.stream();
  const sending = send(stage, from, made, bytes).then(() => from.finish());
  await Promise.all([sending, all(stage, to, checked, bytes)]);
}

/** So many bytes, and the connection goes on. */
async function exactly(stage: Stage, from: End, to: End, bytes: number): Promise<void> {
  const [made, checked] = stage.stream();
  await from.write(made.make(bytes));
  while (checked.bytes < bytes) {
    const piece = await to.read();
    if (piece === undefined)
      throw new EndGone(`the ${to.side}'s end came after ${checked.bytes} of ${bytes} bytes`);
    take(stage, checked, piece);
  }
}

/** Nothing is under way: `first` closes, and the other one hears of it and closes as well. */
async function bothClose(first: End, second: End): Promise<void> {
  const closing = first.close();
  const found = await second.read();
  if (found !== undefined) throw new CorruptStream(`${found.length} bytes came that nobody had sent`);
  await second.close();
  await closing;
}

function expectGone(error: unknown): void {
  if (!(error instanceof EndGone)) throw error;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
