/**
 * The device behind its session: packets of any content in buffers of any shape, over both kinds of rings, host programs
 * that write, read and leave, time that passes, guests that restart.
 */
import assert from "node:assert/strict";
import { errno } from "../../../src/linux/errors.js";
import { socketPair } from "../../../src/linux/unix-socket.js";
import { HEADER_BYTES, HOST_CID, Op, PacketHeader, SocketType } from "../../../src/vsock/header.js";
import {
  GUEST_CID,
  GUEST_PORT,
  HOST_PORT,
  HostEnd,
  openDescriptors,
  RecordingOpener,
} from "../../../src/vsock/switch-rig.js";
import { GuestLab, LAB_LIMITS } from "../guest-lab.js";
import { Input, type Target } from "../target.js";

const CREDITS = [262_144, 65_536, 5000, 10, 0, 0xffff_ffff] as const;
const SIZES = [0, 1, 100, 3732, 4096, 30_000, 65_536] as const;
const BUFFERS = [4096, 44, 45, 100, 300, 43] as const;
const FRAMINGS = [[70_000], [44, 4096], [1, 43, 4096], [20, 100, 4096], [43, 1, 1, 4096]] as const;
const WAITS_MS = [1, 10, 60, 2000, 9000] as const;
const MOST_HOSTS = 12;

interface Flow {
  /** What the guest was told of the connection, and what it was sent. */
  readonly limit: number;
  readonly received: number;
}

class DeviceRun {
  readonly lab: GuestLab;
  readonly hosts: HostEnd[] = [];
  readonly #closed = new Set<HostEnd>();
  /** Host ports that the guest has heard of. */
  readonly #hostPorts: number[] = [HOST_PORT, HOST_PORT, 7];
  /** By ports and type: what an honest guest allowed, most, and got. */
  readonly #flows = new Map<string, Flow>();
  readonly #liars = new Set<string>();

  constructor(kind: number) {
    this.lab = new GuestLab({ packed: (kind & 1) !== 0, eventIdx: (kind & 2) !== 0 });
    this.lab.endpoints.sendBufferBytes = (kind & 4) !== 0 ? 4096 : 65_536;
    if ((kind & 8) === 0) this.lab.offerAll();
  }

  /** A packet that makes sense, more or less. */
  packet(input: Input): void {
    const [op, ports, kind] = [input.u8() % 9, input.u8(), input.u8()];
    const type = (kind & 0x40) === 0 ? SocketType.STREAM : (kind & 0x80) === 0 ? SocketType.SEQPACKET : 7;
    const srcPort = GUEST_PORT + (ports & 3);
    const dstPort = this.#hostPorts[(ports >> 2) % this.#hostPorts.length];
    const key = keyOf(dstPort, srcPort, type);
    const received = op === Op.REQUEST ? 0 : (this.#flows.get(key)?.received ?? 0);
    const lies = (kind & 0x30) === 0x30;
    const fwdCnt = lies ? input.u32() : received;
    const bufAlloc = input.pick(CREDITS);
    const payload = new Uint8Array(op === Op.RW ? input.pick(SIZES) : 0).fill(ports);
    const flags = kind & 7;
    if (lies) this.#liars.add(key);
    this.#allow(key, fwdCnt + bufAlloc);
    const framing = input.pick(FRAMINGS);
    this.lab.send(
      { op, srcPort, dstPort, type, flags, bufAlloc, fwdCnt },
      payload,
      framing,
      kind & 8 ? 5 : 0,
    );
  }

  /** An honest guest never gets more than the most that it ever allowed. */
  #allow(key: string, limit: number): void {
    const flow = this.#flows.get(key) ?? { limit: 0, received: 0 };
    this.#flows.set(key, { ...flow, limit: Math.max(flow.limit, limit) });
  }

  /** Any bytes. Every second one has the guest's name on it, to get further. */
  bytes(input: Input): void {
    const kind = input.u8();
    const bytes = new Uint8Array(HEADER_BYTES + (kind & 31));
    bytes.set(input.take(HEADER_BYTES));
    if ((kind & 0x20) !== 0) {
      const header = new PacketHeader();
      const data = new DataView(bytes.buffer);
      header.read(data, 0);
      Object.assign(header, { srcCid: GUEST_CID, srcCidHigh: 0, dstCid: HOST_CID, dstCidHigh: 0 });
      header.write(data, 0);
      this.#liars.add(keyOf(header.dstPort, header.srcPort, header.type));
    }
    this.lab.sendBytes(kind & 0x40 ? bytes.subarray(0, kind & 63) : bytes, input.pick(FRAMINGS));
  }

  buffers(input: Input): void {
    const count = input.u8() & 15;
    const [bytes, piece] = [input.pick(BUFFERS), input.pick([4096, 44, 1, 13])];
    for (let index = 0; index < count; index++) this.lab.offer(bytes, Math.max(piece, bytes >> 3));
    this.lab.kickReceive();
    this.lab.settle();
  }

  host(input: Input): void {
    const host = this.hosts[input.u8() % MOST_HOSTS];
    const act = input.u8();
    if (host === undefined || this.#closed.has(host)) return;
    if ((act & 3) === 0) host.write(Buffer.alloc(input.pick(SIZES)));
    else if ((act & 3) === 1) host.readAll();
    else if ((act & 4) === 0) host.endWriting();
    else if ((act & 8) === 0) host.endReading();
    else {
      host.close();
      this.#closed.add(host);
    }
    this.lab.settle();
  }

  hostAsks(input: Input): void {
    if (this.hosts.length >= MOST_HOSTS) return;
    const kind = input.u8();
    const type = (kind & 4) === 0 ? SocketType.STREAM : SocketType.SEQPACKET;
    const [ours, theirs] = socketPair(type === SocketType.STREAM ? 1 : 5);
    this.hosts.push(new HostEnd(theirs));
    this.lab.vsock.connectGuest(GUEST_PORT + (kind & 3), ours, new RecordingOpener(), type);
    this.lab.settle();
  }

  endpoints(input: Input): void {
    this.lab.endpoints.failure = input.pick([0, 0, -errno.EAGAIN, -errno.EMFILE, -errno.ECONNREFUSED]);
  }

  restart(): void {
    this.lab.restart();
    this.#flows.clear();
    this.#liars.clear();
  }

  /** What the guest finds: no more than it allowed, from nobody but the host. */
  look(): void {
    for (const { header } of this.lab.take()) {
      const key = keyOf(header.srcPort, header.dstPort, header.type);
      if (header.op === Op.REQUEST) this.#hostPorts.push(header.srcPort);
      assert.ok(header.bufAlloc <= LAB_LIMITS.bufferBytes, "a buffer beyond the limit is advertised");
      if (header.op !== Op.RW) continue;
      const flow = this.#flows.get(key) ?? { limit: 0, received: 0 };
      const received = flow.received + header.len;
      this.#flows.set(key, { ...flow, received });
      if (!this.#liars.has(key))
        assert.ok(received <= flow.limit, `${received} bytes, ${flow.limit} were allowed`);
    }
    for (const host of this.lab.endpoints.accepted.splice(0)) {
      if (this.hosts.length < MOST_HOSTS) this.hosts.push(host);
      else host.close();
    }
  }

  close(): void {
    this.look();
    for (const host of this.hosts) if (!this.#closed.has(host)) host.close();
    this.lab.close();
  }
}

function keyOf(hostPort: number, guestPort: number, type: number): string {
  return `${hostPort} ${guestPort} ${type}`;
}

const STEPS: readonly ((run: DeviceRun, input: Input) => void)[] = [
  (run, input) => run.packet(input),
  (run, input) => run.packet(input),
  (run, input) => run.packet(input),
  (run, input) => run.host(input),
  (run, input) => run.host(input),
  (run, input) => run.buffers(input),
  (run, input) => run.hostAsks(input),
  (run, input) => run.bytes(input),
  (run, input) => run.lab.pass(input.pick(WAITS_MS)),
  (run, input) => run.endpoints(input),
  (run) => run.restart(),
];
const [PACKET, HOST, BUFFERS_STEP, HOST_ASKS, TIME] = [0, 3, 5, 6, 8];

function run(bytes: Uint8Array): void {
  const before = openDescriptors();
  const input = new Input(bytes);
  const run = new DeviceRun(input.u8());
  try {
    while (!input.isAtEnd) {
      input.pick(STEPS)(run, input);
      run.look();
    }
  } finally {
    run.close();
  }
  assert.equal(openDescriptors(), before, "descriptors are left open");
}

/** A packet of a connection, with a credit of 256 KiB; `data`: which of the sizes, and how it lies. */
function packet(op: number, kind = 0, ...data: number[]): number[] {
  return [PACKET, op, 0, kind, 0, ...data, ...(op === Op.RW ? [] : [0])];
}

function conversation(kind: number, type: number): Uint8Array {
  return Uint8Array.of(
    kind,
    ...[...packet(Op.REQUEST, type), ...packet(Op.RW, type | 1, 2, 0), ...packet(Op.RW, type | 1, 6, 1)],
    ...[HOST, 0, 1, HOST, 0, 0, 4, BUFFERS_STEP, 8, 0, 0, HOST, 0, 0, 5, BUFFERS_STEP, 15, 3, 1],
    ...[...packet(Op.CREDIT_REQUEST, type), ...packet(Op.SHUTDOWN, type | 2), HOST, 0, 2],
    ...[TIME, 4, ...packet(Op.RST, type), HOST_ASKS, type >> 4, HOST, 1, 0, 2],
    // To the fourth host port that it has heard of: the one that was just asked from.
    ...[PACKET, Op.RESPONSE, 3 << 2, type, 0, 0, ...[HOST, 1, 0, 4], ...[HOST, 1, 14]],
  );
}

export const packets: Target = {
  name: "packets",
  about: "the packet path over both kinds of rings: hostile guests, host programs that come and go",
  mostBytes: 400,
  seeds: Array.from({ length: 16 }, (_, kind) => [conversation(kind, 0), conversation(kind, 0x40)]).flat(),
  run,
};
