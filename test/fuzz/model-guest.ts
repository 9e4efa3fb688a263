/**
 * A model of the device and of both ends of its connections, for a random guest (`model-commands.ts`): what has to be
 * answered, and what has to arrive. It knows the rules of the specification and nothing of the implementation.
 */
import assert from "node:assert/strict";
import { errno } from "../../src/linux/errors.js";
import { MessageEnd, Op, Shutdown, SocketType } from "../../src/vsock/header.js";
import { brief, type HostEnd, type Sent } from "../../src/vsock/switch-rig.js";
import { GuestLab, LAB_LIMITS, type LabOptions } from "./guest-lab.js";

/** What the guest advertises for each connection. */
const GUEST_BUFFER = 64 * 1024;

/** One connection, as both of its ends know it. */
export interface ModelConnection {
  readonly type: number;
  readonly guestPort: number;
  readonly hostPort: number;
  /** The guest's sending: bytes sent, and what the device allows: its fwd_cnt + buf_alloc. */
  sent: number;
  allowed: number;
  guestShutdown: number;
  /** The host's reading and writing. */
  read: number;
  written: number;
  hostEnded: boolean;
  hostClosed: boolean;
  /** The guest's reading: bytes that came, and those it told to have consumed. */
  received: number;
  consumed: number;
  deviceShutdown: number;
  /** Seqpacket: lengths of messages on their way, to the host and to the guest. */
  readonly toHost: number[];
  readonly toGuest: number[];
}

export class Model {
  readonly connections: ModelConnection[] = [];
}

/** Byte `at` of a stream: each direction and port has its own. */
function byteAt(seed: number, at: number): number {
  return (at * 31 + (at >> 8) + seed) & 0xff;
}

export function pattern(seed: number, from: number, bytes: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: bytes }, (_, index) => byteAt(seed, from + index)));
}

/** The real thing: a device, the guest's side of it, and host programs by guest port. */
export class Real {
  readonly lab: GuestLab;
  readonly hosts = new Map<number, HostEnd>();
  nextPort = 1024;

  constructor(options: LabOptions) {
    this.lab = new GuestLab(options);
    this.lab.offerAll();
    this.lab.settle();
  }

  /** Everything that comes until the device rests, with a buffer for each packet. */
  packets(): Sent[] {
    const all: Sent[] = [];
    for (;;) {
      const some = this.lab.take();
      if (some.length === 0) return all;
      all.push(...some);
      this.lab.offerAll();
      this.lab.settle();
    }
  }

  host(connection: ModelConnection): HostEnd {
    const host = this.hosts.get(connection.guestPort);
    assert.ok(host !== undefined);
    return host;
  }

  send(connection: ModelConnection, op: number, payload: Uint8Array = new Uint8Array(0), flags = 0): void {
    const { guestPort, hostPort, type, consumed } = connection;
    const ports = { srcPort: guestPort, dstPort: hostPort };
    const sent = this.lab.send(
      { ...ports, type, op, flags, bufAlloc: GUEST_BUFFER, fwdCnt: consumed },
      payload,
    );
    assert.ok(sent, "the transmit ring takes no packet");
  }

  close(): void {
    for (const host of this.hosts.values()) host.close();
    this.lab.close();
  }
}

// ---- what the model says of packets that come --------------------------------------------------------------------

/** Takes everything that came into the model; each packet has to be one that the model expects of an open connection. */
export function listen(model: Model, real: Real): void {
  for (const sent of real.packets()) {
    const { header } = sent;
    const connection = model.connections.find(
      ({ guestPort, hostPort }) => guestPort === header.dstPort && hostPort === header.srcPort,
    );
    assert.ok(connection !== undefined, `${brief(sent)} for a connection that is none`);
    assert.equal(header.type, connection.type);
    if (header.op !== Op.RST) noteCredit(connection, sent);
    if (header.op === Op.RW) takePayload(connection, sent);
    else if (header.op === Op.SHUTDOWN) takeShutdown(model, real, connection, header.flags);
    else if (header.op === Op.RST) takeReset(model, real, connection);
    else assert.ok(header.op === Op.CREDIT_UPDATE || header.op === Op.CREDIT_REQUEST, brief(sent));
    if (header.op === Op.CREDIT_REQUEST) real.send(connection, Op.CREDIT_UPDATE);
  }
}

export function noteCredit(connection: ModelConnection, { header }: Sent): void {
  assert.ok(header.fwdCnt <= connection.sent, "more was forwarded than was sent");
  assert.ok(header.bufAlloc <= LAB_LIMITS.bufferBytes);
  const allowed = header.fwdCnt + header.bufAlloc;
  assert.ok(allowed >= connection.allowed, "credit was taken back");
  connection.allowed = allowed;
}

function takePayload(connection: ModelConnection, { header, payload }: Sent): void {
  const { guestPort, type, received } = connection;
  assert.equal(connection.guestShutdown & Shutdown.RECEIVE, 0, "data for a guest that takes none");
  assert.deepEqual(payload, pattern(guestPort + 7, received, payload.length), "what arrived at the guest");
  connection.received += payload.length;
  assert.ok(connection.received <= connection.written, "more arrived than was written");
  assert.ok(connection.received - connection.consumed <= GUEST_BUFFER, "beyond the guest's credit");
  if (type !== SocketType.SEQPACKET) return;
  const [length] = connection.toGuest;
  assert.ok(length >= payload.length, "a message is longer than it was written");
  connection.toGuest[0] -= payload.length;
  const isEnd = (header.flags & MessageEnd.EOM) !== 0;
  assert.equal(isEnd, length === payload.length, "the end of a message is where it was written");
  if (isEnd) connection.toGuest.shift();
}

function takeShutdown(model: Model, real: Real, connection: ModelConnection, flags: number): void {
  assert.ok(connection.hostEnded || connection.hostClosed, "SHUTDOWN, and the host program has not ended");
  connection.deviceShutdown |= flags;
  const endsSending = (connection.deviceShutdown & Shutdown.SEND) !== 0;
  if (endsSending && !connection.hostClosed && (connection.guestShutdown & Shutdown.RECEIVE) === 0)
    assert.equal(connection.received, connection.written, "the end came before all that was written");
  if (connection.deviceShutdown !== Shutdown.BOTH) return;
  real.send(connection, Op.RST);
  forget(model, connection);
}

/** A reset is right for a host program that left, and as the answer to a guest that has shut down both directions. */
function takeReset(model: Model, real: Real, connection: ModelConnection): void {
  const { hostClosed, guestShutdown, hostEnded } = connection;
  const isAnswer = guestShutdown === Shutdown.BOTH;
  const isEnd = hostEnded && (guestShutdown & Shutdown.SEND) !== 0;
  assert.ok(hostClosed || isAnswer || isEnd, "reset for no reason");
  if (isAnswer && !hostClosed) readAll(real, connection);
  if (isAnswer && !hostClosed)
    assert.equal(connection.read, connection.sent, "closed before all had arrived");
  forget(model, connection);
}

export function forget(model: Model, connection: ModelConnection): void {
  model.connections.splice(model.connections.indexOf(connection), 1);
}

/** What the host program finds now; each byte and each message has to be the next one that the guest sent. */
export function readAll(real: Real, connection: ModelConnection): void {
  const host = real.host(connection);
  let piece = host.read();
  // A seqpacket socket whose peer left messages unread says so first, and only then gives what there is to read.
  if (piece === -errno.ECONNRESET) piece = host.read();
  for (; piece instanceof Buffer && piece.length > 0; piece = host.read()) {
    const expected = pattern(connection.guestPort, connection.read, piece.length);
    assert.deepEqual(piece, expected, "what arrived at the host program");
    connection.read += piece.length;
    if (connection.type === SocketType.SEQPACKET) assert.equal(piece.length, connection.toHost.shift());
  }
  assert.ok(connection.read <= connection.sent);
}
