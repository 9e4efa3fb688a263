/** What a random guest, and the host programs that it talks to, can do: fast-check commands on `model-guest.ts`. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { SOCK_SEQPACKET, SOCK_STREAM, socketPair } from "../../src/linux/unix-socket.js";
import { MessageEnd, Op, Shutdown, SocketType } from "../../src/vsock/header.js";
import { brief, HOST_PORT, HostEnd, RecordingOpener } from "../../src/vsock/switch-rig.js";
import { LAB_LIMITS } from "./guest-lab.js";
import {
  forget,
  listen,
  type Model,
  type ModelConnection,
  noteCredit,
  pattern,
  type Real,
  readAll,
} from "./model-guest.js";

type Command = fc.Command<Model, Real>;

/** Something that happens to one of the connections; skipped where there is none for which it makes sense. */
function onConnection(
  name: string,
  which: number,
  isPossible: (connection: ModelConnection) => boolean,
  act: (connection: ModelConnection, model: Model, real: Real) => void,
): Command {
  const find = ({ connections }: Model): ModelConnection | undefined =>
    connections.length === 0 ? undefined : connections[which % connections.length];
  return {
    check(model) {
      const connection = find(model);
      return connection !== undefined && isPossible(connection);
    },
    run(model, real) {
      const connection = find(model);
      assert.ok(connection !== undefined);
      act(connection, model, real);
      listen(model, real);
    },
    toString: () => `${name} #${which}`,
  };
}

function newConnection(type: number, guestPort: number, hostPort: number, allowed: number): ModelConnection {
  const numbers = {
    sent: 0,
    guestShutdown: 0,
    read: 0,
    written: 0,
    received: 0,
    consumed: 0,
    deviceShutdown: 0,
  };
  const flags = { hostEnded: false, hostClosed: false };
  return { type, guestPort, hostPort, allowed, ...numbers, ...flags, toHost: [], toGuest: [] };
}

const hasRoom = ({ connections }: Model): boolean => connections.length < LAB_LIMITS.maxConnections - 2;

/** The guest asks for a port of the host, served or not. */
function connect(type: number, isServed: boolean): Command {
  return {
    check: hasRoom,
    run(model, real) {
      const [guestPort, hostPort] = [real.nextPort++, isServed ? HOST_PORT : HOST_PORT + 1];
      const asked = newConnection(type, guestPort, hostPort, 0);
      real.send(asked, Op.REQUEST);
      const answers = real.packets();
      assert.deepEqual(answers.map(brief), [isServed ? "RESPONSE" : "RST"]);
      if (!isServed) return;
      const host = real.lab.endpoints.accepted.pop();
      assert.ok(host !== undefined);
      real.hosts.set(guestPort, host);
      noteCredit(asked, answers[0]);
      model.connections.push(asked);
    },
    toString: () => `connect ${type === SocketType.STREAM ? "stream" : "seqpacket"} ${isServed}`,
  };
}

/** A host program asks for a port of the guest, which accepts or refuses. */
function hostConnects(type: number, accepts: boolean): Command {
  return {
    check: hasRoom,
    run(model, real) {
      const guestPort = real.nextPort++;
      const [ours, theirs] = socketPair(type === SocketType.STREAM ? SOCK_STREAM : SOCK_SEQPACKET);
      const opener = new RecordingOpener();
      real.lab.vsock.connectGuest(guestPort, ours, opener, type);
      real.lab.settle();
      const [request, ...others] = real.packets();
      assert.deepEqual([brief(request), others.length], ["REQUEST", 0]);
      const connection = newConnection(type, guestPort, request.header.srcPort, 0);
      real.send(connection, accepts ? Op.RESPONSE : Op.RST);
      assert.equal(opener.hostPort, accepts ? connection.hostPort : undefined);
      const host = new HostEnd(theirs);
      if (accepts) {
        noteCredit(connection, request);
        real.hosts.set(guestPort, host);
        model.connections.push(connection);
      } else {
        assert.equal(host.condition, "end");
        host.close();
      }
      listen(model, real);
    },
    toString: () => `host connects ${type === SocketType.STREAM ? "stream" : "seqpacket"} ${accepts}`,
  };
}

const maySend = ({ guestShutdown, hostClosed }: ModelConnection): boolean =>
  (guestShutdown & Shutdown.SEND) === 0 && !hostClosed;

function send(which: number, bytes: number): Command {
  return onConnection(`send ${bytes}`, which, maySend, (connection, _model, real) => {
    const { guestPort, sent, allowed, type } = connection;
    const length = Math.min(bytes, allowed - sent);
    if (length === 0) return;
    const payload = pattern(guestPort, sent, length);
    connection.sent += length;
    connection.toHost.push(length);
    real.send(connection, Op.RW, payload, type === SocketType.SEQPACKET ? MessageEnd.EOM : 0);
  });
}

/**
 * More at once than any buffer holds: the connection is over, and no other. (What is one byte more than the guest was told
 * may be allowed by now.)
 */
function overrun(which: number): Command {
  return onConnection("overrun", which, maySend, (connection, model, real) => {
    const others = model.connections.filter((each) => each !== connection);
    real.send(connection, Op.RW, new Uint8Array(LAB_LIMITS.bufferBytes + 1));
    assert.deepEqual(real.packets().map(brief), ["RST"]);
    forget(model, connection);
    assert.deepEqual(model.connections, others);
  });
}

function hostReads(which: number): Command {
  return onConnection(
    "host reads",
    which,
    ({ hostClosed }) => !hostClosed,
    (connection, model, real) => {
      for (let before = -1; connection.read > before; ) {
        before = connection.read;
        readAll(real, connection);
        real.lab.settle();
        listen(model, real);
      }
      if (!model.connections.includes(connection)) return;
      assert.equal(connection.read, connection.sent, "what the guest sent has not all arrived");
      if ((connection.guestShutdown & Shutdown.SEND) !== 0)
        assert.equal(real.host(connection).condition, "end", "the host program does not see the guest's end");
    },
  );
}

function hostWrites(which: number, bytes: number): Command {
  const mayWrite = ({ hostEnded, hostClosed, guestShutdown }: ModelConnection): boolean =>
    !hostEnded && !hostClosed && (guestShutdown & Shutdown.RECEIVE) === 0;
  return onConnection(`host writes ${bytes}`, which, mayWrite, (connection, _model, real) => {
    const payload = pattern(connection.guestPort + 7, connection.written, bytes);
    const written = real.host(connection).write(payload);
    if (written <= 0) return;
    connection.written += written;
    connection.toGuest.push(written);
    real.lab.settle();
  });
}

/** The guest reads what has come, and says so; then everything that was written arrives. */
function guestReads(which: number): Command {
  return onConnection(
    "guest reads",
    which,
    () => true,
    (connection, model, real) => {
      for (let before = -1; connection.received > before && model.connections.includes(connection); ) {
        before = connection.received;
        connection.consumed = connection.received;
        real.send(connection, Op.CREDIT_UPDATE);
        listen(model, real);
      }
      if (!model.connections.includes(connection) || connection.hostClosed) return;
      if ((connection.guestShutdown & Shutdown.RECEIVE) === 0)
        assert.equal(connection.received, connection.written, "what the host wrote has not all arrived");
    },
  );
}

function guestShutsDown(which: number, flags: number): Command {
  return onConnection(
    `shutdown ${flags}`,
    which,
    () => true,
    (connection, _model, real) => {
      connection.guestShutdown |= flags;
      real.send(connection, Op.SHUTDOWN, undefined, flags);
    },
  );
}

function guestResets(which: number): Command {
  return onConnection(
    "reset",
    which,
    () => true,
    (connection, model, real) => {
      real.send(connection, Op.RST);
      assert.deepEqual(real.packets(), [], "a reset is not answered");
      forget(model, connection);
    },
  );
}

function hostEnds(which: number, how: "ends" | "closes"): Command {
  return onConnection(
    `host ${how}`,
    which,
    ({ hostClosed }) => !hostClosed,
    (connection, _model, real) => {
      if (how === "ends") {
        connection.hostEnded = true;
        real.host(connection).endWriting();
      } else {
        connection.hostClosed = true;
        real.host(connection).close();
        real.hosts.delete(connection.guestPort);
      }
      real.lab.settle();
    },
  );
}

/** Packets for connections that are none are answered with a reset; those that are a reset with nothing. */
function stray(op: number): Command {
  return {
    check: () => true,
    run(model, real) {
      const nobody = newConnection(SocketType.STREAM, 99, HOST_PORT, 0);
      real.send(nobody, op, new Uint8Array(op === Op.RW ? 10 : 0));
      assert.deepEqual(real.packets().map(brief), op === Op.RST ? [] : ["RST"]);
      listen(model, real);
    },
    toString: () => `stray ${op}`,
  };
}

/** The guest boots anew: every connection is over, and nothing of them comes any more. */
const restart: Command = {
  check: () => true,
  run(model, real) {
    real.lab.restart();
    real.lab.offerAll();
    real.lab.settle();
    assert.deepEqual(real.packets(), []);
    model.connections.length = 0;
  },
  toString: () => "restart",
};

const type = fc.constantFrom(SocketType.STREAM, SocketType.SEQPACKET);
const which = fc.nat({ max: 3 });
const size = fc.constantFrom(1, 10, 3000, 4052, 20_000, 60_000);

export const COMMANDS: fc.Arbitrary<Command>[] = [
  fc.tuple(type, fc.boolean()).map(([kind, isServed]) => connect(kind, isServed)),
  fc.tuple(type, fc.boolean()).map(([kind, accepts]) => hostConnects(kind, accepts)),
  type.map((kind) => connect(kind, true)),
  fc.tuple(which, size).map(([at, bytes]) => send(at, bytes)),
  fc.tuple(which, size).map(([at, bytes]) => send(at, bytes)),
  which.map(overrun),
  which.map(hostReads),
  fc.tuple(which, size).map(([at, bytes]) => hostWrites(at, bytes)),
  fc.tuple(which, size).map(([at, bytes]) => hostWrites(at, bytes)),
  which.map(guestReads),
  fc.tuple(which, fc.integer({ min: 1, max: 3 })).map(([at, flags]) => guestShutsDown(at, flags)),
  which.map(guestResets),
  fc.tuple(which, fc.constantFrom("ends" as const, "closes" as const)).map(([at, how]) => hostEnds(at, how)),
  fc.constantFrom(Op.RESPONSE, Op.RST, Op.SHUTDOWN, Op.RW, Op.CREDIT_UPDATE, Op.CREDIT_REQUEST).map(stray),
  fc.constant(restart),
];
