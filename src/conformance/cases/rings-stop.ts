/** Cases about rings that stop, start again, or are not enabled. */
import { Op } from "../../vsock/header.js";
import type { ConformanceCase, Needs } from "../case.js";
import type { CaseContext } from "../context.js";
import { assertWorks, exchange, type Joined, join, noise } from "../exchange.js";
import type { RawGuest } from "../raw-guest.js";
import { vhostUser } from "../rules.js";

const UDS: Needs = { endpoints: ["uds"] };
const STATES = "Ring states";
const STOPPED = vhostUser(STATES, "stopped: the back-end must not process the ring at all");
/** For what must not happen. */
const QUIET_MS = 150;

/** Gives the rings something to do in both directions; none of them moves. Returns what was sent. */
async function expectLeftAlone(context: CaseContext, guest: RawGuest, { guest: connection, host }: Joined) {
  const used = guest.queues.map((queue) => queue.split.rings.usedIndex);
  const toHost = noise(500);
  guest.putPacket(connection, toHost);
  guest.tx.ring.publish();
  guest.tx.kick();
  const toGuest = noise(500);
  host.write(toGuest);
  await context.pass(QUIET_MS);
  for (const [index, queue] of guest.queues.entries())
    context.expect.equal(queue.split.rings.usedIndex, used[index], `the used index of queue ${index} stays`);
  return { toHost, toGuest };
}

export const RING_STOP_CASES: readonly ConformanceCase[] = [
  {
    id: "rings.stop-and-go",
    title:
      "GET_VRING_BASE says where a ring stopped, and SET_VRING_BASE takes it up there, connections and all",
    rule: vhostUser(STATES, "the back-end must stop ring upon receiving VHOST_USER_GET_VRING_BASE"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const joined = await join(context, guest);
      for (let round = 0; round < 3; round++) {
        await exchange(context, joined);
        await guest.sent();
        const bases = guest.stop();
        context.expect.equal(
          bases[1],
          guest.tx.split.rings.availIndex,
          "the transmit ring, of which everything was returned, stopped at the available index",
        );
        guest.resume(bases);
      }
      await exchange(context, joined);
    },
  },
  {
    id: "rings.base-counts-what-was-taken",
    title: "a ring stops behind the buffers that it has returned",
    rule: vhostUser(STATES, "a ring that is stopped holds no buffer that it has taken and not returned"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const joined = await join(context, guest);
      await exchange(context, joined, 100_000);
      const bases = guest.stop();
      for (const [index, queue] of guest.queues.entries()) {
        const used = queue.split.rings.usedIndex;
        context.expect.equal(bases[index], used, `queue ${index} stands at its used index`);
      }
      guest.resume(bases);
      await exchange(context, joined);
    },
  },
  {
    id: "rings.stop-in-mid-stream",
    title: "data on its way when the rings stop is neither lost nor doubled",
    rule: STOPPED,
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const { guest: connection, host } = await join(context, guest);
      const toGuest = noise(400_000);
      const toHost = noise(400_000);
      const step = 20_000;
      for (let at = 0; at < toHost.length; at += step) {
        await connection.write(toHost.subarray(at, at + step));
        const bases = guest.stop();
        host.write(toGuest.subarray(at, at + step));
        guest.resume(bases);
        guest.kickAll();
      }
      context.expect.sameBytes(await host.read(toHost.length), toHost, "the host gets everything once");
      context.expect.sameBytes(
        await connection.read(toGuest.length),
        toGuest,
        "the guest gets everything once",
      );
    },
  },
  {
    id: "rings.stopped-is-left-alone",
    title: "a stopped ring is not touched, whatever is put into it, and processed when it starts again",
    rule: STOPPED,
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const joined = await join(context, guest);
      await exchange(context, joined);
      await guest.sent();
      const bases = guest.stop();
      const { toHost, toGuest } = await expectLeftAlone(context, guest, joined);
      guest.resume(bases);
      guest.kickAll();
      context.expect.sameBytes(await joined.host.read(500), toHost, "then the host gets what was put there");
      context.expect.sameBytes(
        await joined.guest.read(500),
        toGuest,
        "and the guest what was sent meanwhile",
      );
    },
  },
  {
    id: "rings.stopped-by-base-alone",
    title: "GET_VRING_BASE stops a ring that is still enabled",
    rule: vhostUser(STATES, "the back-end must stop ring upon receiving VHOST_USER_GET_VRING_BASE"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const joined = await join(context, guest);
      await exchange(context, joined);
      await guest.sent();
      for (const { index } of guest.queues) guest.session.getVringBase(index);
      await expectLeftAlone(context, guest, joined);
    },
  },
  {
    id: "rings.not-enabled",
    title: "a ring that is started and not enabled has no effects",
    rule: vhostUser(
      STATES,
      "started but disabled: the back-end must process the ring without causing any side effects",
    ),
    needs: { features: ["PROTOCOL_FEATURES"], endpoints: ["uds"] },
    async run(context) {
      const guest = await context.guest({ isStopped: true });
      const port = context.hostPort();
      const listener = await context.host.listen(port);
      guest.shareMemory();
      for (const queue of guest.queues) guest.setUpRing(queue);
      guest.begin();
      guest.send({ op: Op.REQUEST, srcPort: guest.port(), dstPort: port });
      guest.kickAll();
      await context.pass(QUIET_MS);
      context.expect.equal(listener.waiting, 0, "no connection arrives at the host");
      context.expect.equal(guest.rx.split.rings.usedIndex, 0, "no packet comes to the guest");
    },
  },
  {
    id: "rings.enabled-later",
    title: "a ring that is enabled while it runs is processed from then on",
    rule: vhostUser(STATES, "is enabled by VHOST_USER_SET_VRING_ENABLE with parameter 1"),
    needs: { features: ["PROTOCOL_FEATURES"], endpoints: ["uds"] },
    async run(context) {
      const guest = await context.guest();
      const joined = await join(context, guest);
      await exchange(context, joined);
      await guest.sent();
      for (const queue of guest.queues) guest.enableRing(queue, false);
      for (const queue of guest.queues) guest.enableRing(queue, true);
      await exchange(context, joined);
    },
  },
  {
    id: "rings.new-driver",
    title: "rings that start from 0 again, in other memory, belong to a driver that works",
    rule: vhostUser(STATES, "each ring is initialized in a stopped state, and started by its kick"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      await exchange(context, await join(context, guest));
      // What the device still has from the old rings is not what this is about.
      await guest.sent();
      guest.stop();
      guest.renewRings();
      for (const queue of guest.queues) guest.setUpRing(queue);
      for (const queue of guest.queues) guest.enableRing(queue, true);
      guest.begin();
      await assertWorks(context, guest);
    },
  },
  {
    id: "rings.reset-device",
    title: "RESET_DEVICE makes the device as it was at first; set up again, it works",
    rule: vhostUser(
      "Front-end message types, VHOST_USER_RESET_DEVICE",
      "disable all rings and reset all internal device state to the initial state, ready to be reinitialized",
    ),
    needs: { protocolFeatures: ["RESET_DEVICE"], endpoints: ["uds"] },
    async run(context) {
      const guest = await context.guest({ protocolFeatures: ["MQ", "CONFIG", "REPLY_ACK", "RESET_DEVICE"] });
      await exchange(context, await join(context, guest));
      await guest.sent();
      guest.stop();
      guest.session.resetDevice();
      guest.session.setFeatures(guest.acknowledged);
      guest.renewRings();
      guest.start();
      await assertWorks(context, guest);
    },
  },
  {
    id: "rings.reset-device-stops",
    title: "RESET_DEVICE stops rings that run",
    rule: vhostUser(
      "Front-end message types, VHOST_USER_RESET_DEVICE",
      "disable all rings and reset all internal device state to the initial state, ready to be reinitialized",
    ),
    needs: { protocolFeatures: ["RESET_DEVICE"], endpoints: ["uds"] },
    async run(context) {
      const guest = await context.guest({ protocolFeatures: ["MQ", "CONFIG", "REPLY_ACK", "RESET_DEVICE"] });
      const joined = await join(context, guest);
      await exchange(context, joined);
      await guest.sent();
      guest.session.resetDevice();
      // Answered behind it.
      guest.session.getFeatures();
      await expectLeftAlone(context, guest, joined);
    },
  },
];
