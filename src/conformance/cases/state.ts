/**
 * Cases about what outlives a back-end: inflight memory, the dirty log of a migration, and the device's own state.
 * The vhost-user document decides what of it a front-end may rely on.
 */
import { closeSync, fstatSync, readSync, writeSync } from "node:fs";
import { createMemfd, mapShared, PAGE_BYTES, roundUp, unmap, view } from "../../linux/mapping.js";
import { socketPair } from "../../linux/unix-socket.js";
import type { FrontEndSession } from "../../vhost/front-end-session.js";
import { F, mask } from "../../virtio/index.js";
import type { ConformanceCase, Needs, ProtocolFeatureName } from "../case.js";
import type { CaseContext } from "../context.js";
import { assertWorks, join, noise } from "../exchange.js";
import type { RawGuest } from "../raw-guest.js";
import { vhostUser } from "../rules.js";
import type { Block } from "../test-memory.js";
import { USUAL_PROTOCOL_FEATURES } from "../traced-session.js";

const QUEUES = 2;
/** The header of a split ring's inflight region, and an entry for each descriptor. */
const INFLIGHT_HEADER_BYTES = 16;
const INFLIGHT_ENTRY_BYTES = 16;
/** For what must not happen. */
const QUIET_MS = 100;
const LOG_NEEDS: Needs = { features: ["LOG_ALL"], protocolFeatures: ["LOG_SHMFD"], endpoints: ["uds"] };
const STATE_NEEDS: Needs = { protocolFeatures: ["DEVICE_STATE"], endpoints: ["uds"] };
const LOGGING = vhostUser(
  "Migration",
  "with LOG_ALL, modifications to memory pointed by vring descriptors are marked in the log, and those of a used ring if its VHOST_VRING_F_LOG is set",
);

function withProtocol(name: ProtocolFeatureName): readonly ProtocolFeatureName[] {
  return [...USUAL_PROTOCOL_FEATURES, name];
}

type InflightMemory = NonNullable<ReturnType<FrontEndSession["getInflightFd"]>>;

/** Asks for inflight memory, which is closed behind the case, and hands it over. */
function trackInflight(context: CaseContext, guest: RawGuest): InflightMemory {
  const file = context.expect.present(
    guest.session.getInflightFd(QUEUES, guest.tx.size),
    "GET_INFLIGHT_FD gives a file",
  );
  context.onClose(() => closeSync(file.fd));
  guest.session.setInflightFd(file, QUEUES, guest.tx.size);
  return file;
}

/** The same guest, memory and rings on a new session, whose rings do not run yet. */
async function reconnect(
  context: CaseContext,
  guest: RawGuest,
  protocolFeature: ProtocolFeatureName,
): Promise<void> {
  context.disconnect(guest.session);
  guest.session = await context.connect();
  const offered = guest.session.negotiate(withProtocol(protocolFeature));
  guest.session.acknowledge(offered);
  guest.shareMemory();
}

/** The dirty log of a guest whose rings run, with one receive buffer whose place is known. */
class LoggedGuest {
  readonly #log: Uint8Array;

  constructor(
    context: CaseContext,
    readonly guest: RawGuest,
    readonly buffer: Block,
  ) {
    const ends = guest.memory.ram.slots.map(({ gpa, bytes }) => gpa + bytes);
    const bytes = roundUp(Math.ceil(Math.max(...ends) / PAGE_BYTES / 8), PAGE_BYTES);
    const fd = createMemfd("conform-log", bytes);
    const address = mapShared(fd, 0, bytes);
    this.#log = new Uint8Array(view(address, bytes));
    context.onClose(() => {
      unmap(address, bytes);
      closeSync(fd);
    });
    context.expect.that(guest.session.setLogBase(fd, BigInt(bytes)), "SET_LOG_BASE is taken");
  }

  /** Turns logging on or off in QEMU's order: the features, then each ring's addresses. */
  set(isOn: boolean): void {
    const { guest } = this;
    guest.session.setFeatures(guest.acknowledged | (isOn ? mask(F.LOG_ALL) : 0n));
    for (const queue of guest.queues) {
      const log = isOn ? BigInt(queue.physical.used) : undefined;
      guest.session.setVringAddr(queue.index, guest.addressesOf(queue), log);
    }
    // What is answered behind them says that they have been taken.
    guest.session.getFeatures();
    this.#log.fill(0);
  }

  has(gpa: number): boolean {
    const page = Math.floor(gpa / PAGE_BYTES);
    return (this.#log[page >> 3] & (1 << (page & 7))) !== 0;
  }

  get isEmpty(): boolean {
    return this.#log.every((byte) => byte === 0);
  }
}

async function loggedGuest(context: CaseContext) {
  const guest = await context.guest({ protocolFeatures: withProtocol("LOG_SHMFD"), receiveChains: 0 });
  const buffer = guest.memory.allocate(PAGE_BYTES);
  guest.postAt(buffer);
  const joined = await join(context, guest);
  return { logged: new LoggedGuest(context, guest, buffer), joined };
}

/** The state of a device whose rings are stopped, to the end. */
async function save(context: CaseContext, { session }: RawGuest): Promise<Buffer> {
  const [ours, theirs] = socketPair();
  const isTaken = session.setDeviceStateFd("save", theirs);
  closeSync(theirs);
  context.onClose(() => closeSync(ours));
  context.expect.that(isTaken, "SET_DEVICE_STATE_FD is taken for saving");
  const pieces: Buffer[] = [];
  const piece = Buffer.alloc(65_536);
  await context.until(() => {
    try {
      const bytes = readSync(ours, piece);
      if (bytes > 0) pieces.push(Buffer.from(piece.subarray(0, bytes)));
      return bytes === 0;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return false;
      throw error;
    }
  }, "the back-end has written its state and closed the descriptor");
  context.expect.that(session.checkDeviceState(), "CHECK_DEVICE_STATE says that the state was saved");
  return Buffer.concat(pieces);
}

/** Hands over a state; false if the back-end says that it could not take all of it. */
async function load(context: CaseContext, { session }: RawGuest, state: Uint8Array): Promise<boolean> {
  const [ours, theirs] = socketPair();
  const isTaken = session.setDeviceStateFd("load", theirs);
  closeSync(theirs);
  context.expect.that(isTaken, "SET_DEVICE_STATE_FD is taken for loading");
  let at = 0;
  try {
    await context.until(() => {
      try {
        at += writeSync(ours, state.subarray(at));
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        // It has seen enough of it.
        if (code === "EPIPE") return true;
        if (code !== "EAGAIN") throw error;
      }
      return at === state.length;
    }, "the back-end reads the state");
  } finally {
    closeSync(ours);
  }
  return session.checkDeviceState();
}

export const STATE_CASES: readonly ConformanceCase[] = [
  {
    id: "state.inflight-file",
    title:
      "GET_INFLIGHT_FD gives a file with room for each descriptor of each queue, and the device works with it",
    rule: vhostUser(
      "Inflight I/O tracking",
      "the back-end allocates the shared buffer: for each queue a header and an entry for each descriptor",
    ),
    needs: { protocolFeatures: ["INFLIGHT_SHMFD"], endpoints: ["uds"] },
    async run(context) {
      const guest = await context.guest({
        protocolFeatures: withProtocol("INFLIGHT_SHMFD"),
        isStopped: true,
      });
      const { fd, size, offset } = trackInflight(context, guest);
      const least = QUEUES * (INFLIGHT_HEADER_BYTES + guest.tx.size * INFLIGHT_ENTRY_BYTES);
      context.expect.that(size >= BigInt(least), `the memory has at least ${least} bytes`, `${size}`);
      const bytes = fstatSync(fd).size;
      context.expect.that(BigInt(bytes) >= offset + size, "the file is as long as it says", `${bytes} bytes`);
      guest.start();
      await assertWorks(context, guest);
    },
  },
  {
    id: "state.inflight-reconnect",
    title: "rings whose session ended without a word go on in the next one with the same inflight memory",
    rule: vhostUser(
      "Inflight I/O tracking",
      "when reconnecting, the front-end sends the buffer back to the back-end, which resubmits what is in flight",
    ),
    needs: { protocolFeatures: ["INFLIGHT_SHMFD"], endpoints: ["uds"] },
    async run(context) {
      const guest = await context.guest({
        protocolFeatures: withProtocol("INFLIGHT_SHMFD"),
        isStopped: true,
      });
      const file = trackInflight(context, guest);
      guest.start();
      await assertWorks(context, guest);
      await guest.sent();
      await reconnect(context, guest, "INFLIGHT_SHMFD");
      guest.session.setInflightFd(file, QUEUES, guest.tx.size);
      // Where the back-end has not said it, a front-end goes by the used rings.
      guest.resume(guest.queues.map((queue) => queue.split.rings.usedIndex));
      for (const queue of guest.queues) queue.look();
      guest.kickAll();
      await assertWorks(context, guest);
    },
  },
  {
    id: "state.log-receive",
    title: "the dirty log has the page of a receive buffer that was written, and that of its used ring",
    rule: LOGGING,
    needs: LOG_NEEDS,
    async run(context) {
      const { logged, joined } = await loggedGuest(context);
      const { guest, buffer } = logged;
      logged.set(true);
      const bytes = noise(100);
      joined.host.write(bytes);
      context.expect.sameBytes(await joined.guest.read(100), bytes, "the data arrives");
      context.expect.that(logged.has(buffer.gpa), "the page of the receive buffer is marked");
      // The index is written behind the entry, and marked with it.
      const { used } = guest.rx.physical;
      await context.until(() => logged.has(used), "the page of the receive ring's used ring is marked");
    },
  },
  {
    id: "state.log-transmit",
    title: "the dirty log has the page of the transmit ring's used ring once buffers are returned",
    rule: LOGGING,
    needs: LOG_NEEDS,
    async run(context) {
      const { logged, joined } = await loggedGuest(context);
      const { guest } = logged;
      await guest.sent();
      logged.set(true);
      const bytes = noise(100);
      await joined.guest.write(bytes);
      await guest.sent();
      context.expect.sameBytes(await joined.host.read(100), bytes, "the data arrives");
      const { used } = guest.tx.physical;
      await context.until(() => logged.has(used), "the page of the transmit ring's used ring is marked");
    },
  },
  {
    id: "state.log-stops",
    title: "nothing is marked in the dirty log once LOG_ALL is taken back",
    rule: vhostUser(
      "Migration",
      "to start or stop logging, the front-end sends SET_FEATURES with or without VHOST_F_LOG_ALL",
    ),
    needs: LOG_NEEDS,
    async run(context) {
      const { logged, joined } = await loggedGuest(context);
      logged.set(true);
      joined.host.write(noise(100));
      await joined.guest.read(100);
      await logged.guest.sent();
      await context.until(() => logged.has(logged.buffer.gpa), "the log was on");
      await context.pass(QUIET_MS);
      logged.set(false);
      joined.host.write(noise(100));
      await joined.guest.read(100);
      await context.pass(QUIET_MS);
      context.expect.that(logged.isEmpty, "the log stays empty");
    },
  },
  {
    id: "state.moves",
    title: "a state that was saved while the rings stood is loaded by the next session, and the rings go on",
    rule: vhostUser(
      "Migrating back-end state",
      "the back-end writes its state to the descriptor and closes it; the destination's reads it until its end, and CHECK_DEVICE_STATE says 0",
    ),
    needs: STATE_NEEDS,
    async run(context) {
      const guest = await context.guest({ protocolFeatures: withProtocol("DEVICE_STATE") });
      await assertWorks(context, guest);
      await guest.sent();
      const bases = guest.stop();
      const state = await save(context, guest);
      await reconnect(context, guest, "DEVICE_STATE");
      context.expect.that(
        await load(context, guest, state),
        "CHECK_DEVICE_STATE says that the state was loaded",
      );
      guest.resume(bases);
      guest.kickAll();
      await assertWorks(context, guest);
    },
  },
  {
    id: "state.cut",
    title: "a state that ends in its middle is not said to be loaded, and the next session works",
    rule: vhostUser(
      "Front-end message types, VHOST_USER_CHECK_DEVICE_STATE",
      "the front-end checks whether the back-end was able to fully process the state; any error is a non-zero value",
    ),
    needs: STATE_NEEDS,
    async run(context) {
      const guest = await context.guest({ protocolFeatures: withProtocol("DEVICE_STATE") });
      await assertWorks(context, guest);
      await guest.sent();
      guest.stop();
      const state = await save(context, guest);
      if (state.length < 2) context.skip("the device's state is too short to be cut");
      await reconnect(context, guest, "DEVICE_STATE");
      const { session } = guest;
      const half = state.subarray(0, Math.floor(state.length / 2));
      context.expect.that(
        !(await load(context, guest, half)),
        "CHECK_DEVICE_STATE says that it was not loaded",
      );
      await context.assertNextWorks(session);
    },
  },
];
