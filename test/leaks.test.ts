/**
 * What a served device holds after ten thousand connections and some hundred sessions, ended in every way and at every
 * point: no more than before. Descriptors, mappings and memory of the process are counted.
 */
import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { createEventfd, signalEventfd } from "../src/linux/eventfd.js";
import { connectUnix, createSocket } from "../src/linux/unix-socket.js";
import { FrontEndSession } from "../src/vhost/front-end-session.js";
import { GPA_BASE, GuestRam, QUEUE_SIZE, VERSION_1_AND_30 } from "../src/vhost/session-rig.js";
import { encodeFrame } from "../src/vhost/wire/index.js";
import type { VirtualMachine } from "../src/vmm/virtual-machine.js";
import { readLine } from "./device/rig.js";
import { type Held, heldBy } from "./process-state.js";
import { SERVE_TIMEOUT_MS, ServeRig } from "./serve-rig.js";

const CID = 3;
const BYSTANDER = 4;
const MIB = 1024;

async function served(t: TestContext): Promise<ServeRig> {
  const rig = new ServeRig();
  t.after(() => rig.close());
  await rig.start([CID, BYSTANDER]);
  return rig;
}

/** Of ten thousand connections each could leak 1.6 KiB unseen; the engine's heap grows and shrinks by a third of this. */
const MOST_GROWTH_KILOBYTES = 16 * MIB;
/** Less than one guest's memory. */
const MOST_NEW_ADDRESSES_KILOBYTES = 48 * MIB;
/** Less than one for each session of any test here. The engine's heap takes up to 64 at once. */
const MOST_NEW_MAPPINGS = 150;

async function assertHoldsNoMore(rig: ServeRig, before: Held): Promise<void> {
  const descriptors = (): number => heldBy(rig.pid).descriptors;
  await rig.until(
    () => descriptors() <= before.descriptors,
    () => `${before.descriptors}, not ${descriptors()}`,
  );
  const now = heldBy(rig.pid);
  const words = JSON.stringify({ before, now });
  assert.ok(now.sharedMappings <= before.sharedMappings, words);
  assert.ok(now.mappings <= before.mappings + MOST_NEW_MAPPINGS, words);
  assert.ok(now.addressSpaceKilobytes <= before.addressSpaceKilobytes + MOST_NEW_ADDRESSES_KILOBYTES, words);
  assert.ok(now.ownKilobytes <= before.ownKilobytes + MOST_GROWTH_KILOBYTES, words);
}

describe("ten thousand connections", { timeout: 5 * SERVE_TIMEOUT_MS }, () => {
  const MESSAGE = Buffer.alloc(3000, "bit33");

  /** From the guest: sends, hears it back, and ends in one of three ways. */
  async function fromGuest(machine: VirtualMachine, number: number): Promise<void> {
    const connection = await machine.driver.connect(7000);
    await connection.write(MESSAGE);
    let heard = 0;
    while (heard < MESSAGE.length) heard += (await connection.read())?.length ?? MESSAGE.length;
    if (number % 3 === 0) connection.reset();
    else if (number % 3 === 1) await connection.close();
    else {
      connection.shutdown(2);
      await connection.readToEnd();
      await connection.close();
    }
  }

  /** From the host, to a guest that echoes; every second one leaves without a word. */
  async function fromHost(path: string, number: number): Promise<void> {
    const socket = createConnection(path);
    socket.on("error", () => {});
    socket.write("CONNECT 7000\n");
    await readLine(socket);
    socket.write(MESSAGE);
    let heard = 0;
    await new Promise<void>((resolve) => {
      socket.on("data", (bytes) => {
        heard += bytes.length;
        if (heard >= MESSAGE.length) resolve();
      });
      socket.on("close", () => resolve());
    });
    assert.equal(heard, MESSAGE.length);
    if (number % 2 === 0) socket.destroy();
    else await new Promise<void>((resolve) => socket.end(() => resolve()));
  }

  async function inParallel(count: number, act: (number: number) => Promise<void>): Promise<void> {
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let number = next++; number < count; number = next++) await act(number);
    };
    await Promise.all(Array.from({ length: 20 }, worker));
  }

  async function echoInGuest(machine: VirtualMachine): Promise<void> {
    const listener = machine.driver.listen(7000, 100);
    for (;;) {
      const connection = await listener.accept();
      void (async () => {
        for (let bytes = await connection.read(); bytes !== undefined; bytes = await connection.read())
          await connection.write(bytes);
        await connection.close();
      })().catch(() => {});
    }
  }

  it("leave nothing behind: descriptors, mappings, memory", async (t) => {
    const rig = await served(t);
    const machine = rig.boot(CID);
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => sockets.delete(socket));
      socket.pipe(socket);
    });
    await new Promise<void>((resolve) => server.listen(rig.path(`vm${CID}.vsock_7000`), resolve));
    t.after(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    echoInGuest(machine).catch(() => {});
    const cycles = async (count: number): Promise<void> => {
      await inParallel(count / 2, (number) => fromGuest(machine, number));
      await inParallel(count / 2, (number) => fromHost(rig.path(`vm${CID}.vsock`), number));
    };
    // What is compiled, and what is kept for the next connections, is there after the first ones.
    await cycles(3000);
    await rig.exchange(machine, CID, 100_000);
    const before = heldBy(rig.pid);
    await cycles(10_000);
    await rig.exchange(machine, CID, 100_000);
    await assertHoldsNoMore(rig, before);
    t.diagnostic(JSON.stringify({ before, after: heldBy(rig.pid) }));
  });
});

/** A session, step by step, as QEMU makes one; after each step the front-end may die. */
type Step = (frontEnd: FrontEndSession, ram: GuestRam, eventfds: readonly number[]) => void;

const perQueue = (
  act: (frontEnd: FrontEndSession, index: number, ram: GuestRam, fd: number) => void,
): Step[] =>
  [0, 1].map(
    (index): Step =>
      (frontEnd, ram, eventfds) =>
        act(frontEnd, index, ram, eventfds[index]),
  );

const STEPS: readonly Step[] = [
  () => {},
  (frontEnd) => void frontEnd.getFeatures(),
  (frontEnd) => frontEnd.setProtocolFeatures(frontEnd.getProtocolFeatures()),
  (frontEnd) => frontEnd.openBackendChannel(),
  (frontEnd) => frontEnd.setOwner(),
  (frontEnd) => frontEnd.setFeatures(VERSION_1_AND_30),
  (frontEnd, ram) => frontEnd.addMemReg(ram.region),
  ...perQueue((frontEnd, index) => frontEnd.setVringNum(index, QUEUE_SIZE)),
  ...perQueue((frontEnd, index) => frontEnd.setVringBase(index, 0)),
  ...perQueue((frontEnd, index, ram) => {
    ram.driver(index);
    frontEnd.setVringAddr(index, ram.addresses(index, "user-rings"));
  }),
  ...perQueue((frontEnd, index, _ram, fd) => frontEnd.setVringCall(index, fd)),
  ...perQueue((frontEnd, index, _ram, fd) => frontEnd.setVringKick(index, fd)),
  ...perQueue((frontEnd, index) => frontEnd.setVringEnable(index, true)),
  // A packet that is too short, so that a ring breaks; then a wait for the device to have seen it.
  (frontEnd, ram, eventfds) => {
    const driver = ram.driver(1);
    driver.add([{ address: GPA_BASE + BigInt(ram.write("short")), length: 5 }], []);
    driver.publish();
    signalEventfd(eventfds[1]);
    frontEnd.getFeatures();
  },
  ...perQueue((frontEnd, index) => frontEnd.setVringEnable(index, false)),
  ...perQueue((frontEnd, index) => void frontEnd.getVringBase(index)),
  (frontEnd, ram) => frontEnd.remMemReg(ram.region),
];

describe("a front-end that dies", { timeout: 2 * SERVE_TIMEOUT_MS }, () => {
  it("at any step of its session, or within a message, leaves nothing behind, and the next one is served", async (t) => {
    const rig = await served(t);
    const bystander = rig.boot(BYSTANDER);
    const ram = new GuestRam();
    const eventfds = [createEventfd(), createEventfd()];
    t.after(() => {
      ram.close();
      eventfds.forEach(closeSync);
    });
    const dieAfter = (steps: number, inMessage: boolean): void => {
      const socket = createSocket();
      connectUnix(socket, rig.path(`vm${CID}.sock`));
      const frontEnd = new FrontEndSession(socket);
      for (const step of STEPS.slice(0, steps)) step(frontEnd, ram, eventfds);
      const message = encodeFrame(5, 0, { kind: "opaque", bytes: new Uint8Array(40) });
      if (inMessage) frontEnd.sendBytes(message.subarray(0, steps % message.length), [ram.fd, eventfds[0]]);
      frontEnd.close();
    };
    const everywhere = (): void => {
      for (let steps = 1; steps <= STEPS.length; steps++) {
        dieAfter(steps, false);
        dieAfter(steps, true);
      }
    };
    const works = async (): Promise<void> => {
      const machine = rig.boot(CID);
      await rig.exchange(machine, CID, 100_000);
      rig.off(machine);
      await rig.exchange(bystander, BYSTANDER, 100_000);
    };
    everywhere();
    await works();
    const before = heldBy(rig.pid);
    for (let round = 0; round < 5; round++) everywhere();
    // Sessions are served one after the other: this one comes after all of those.
    await works();
    assert.ok(rig.log.some(({ message }) => /\d+ bytes into a message/.test(message)));
    await assertHoldsNoMore(rig, before);
    t.diagnostic(JSON.stringify({ sessions: 10 * STEPS.length, before, after: heldBy(rig.pid) }));
  });

  it("a few hundred times with connections open leaves nothing behind", async (t) => {
    const rig = await served(t);
    const listening = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    await new Promise<void>((resolve) => listening.listen(rig.path(`vm${CID}.vsock_7000`), resolve));
    const sockets = new Set<Socket>();
    listening.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
    });
    t.after(() => {
      listening.close();
      for (const socket of sockets) socket.destroy();
    });
    const session = async (): Promise<void> => {
      const machine = rig.boot(CID);
      const connections = await Promise.all([1, 2, 3].map(() => machine.driver.connect(7000)));
      for (const connection of connections) connection.write(new Uint8Array(5000)).catch(() => {});
      rig.kill(machine);
      for (const socket of sockets) socket.destroy();
      sockets.clear();
    };
    for (let round = 0; round < 30; round++) await session();
    const before = heldBy(rig.pid);
    for (let round = 0; round < 200; round++) await session();
    await rig.logged("session-end", CID, 230);
    await assertHoldsNoMore(rig, before);
    t.diagnostic(JSON.stringify({ before, after: heldBy(rig.pid) }));
  });
});
