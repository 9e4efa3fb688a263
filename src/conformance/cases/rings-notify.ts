/** Cases about notifications: who is told when, and who is not. */
import { closeSync } from "node:fs";
import { createEventfd, drainEventfd } from "../../linux/eventfd.js";
import { Op } from "../../vsock/header.js";
import type { ConformanceCase, Needs } from "../case.js";
import type { CaseContext } from "../context.js";
import { assertWorks, exchange, join, noise } from "../exchange.js";
import type { RawConnection } from "../raw-connection.js";
import type { RawGuest } from "../raw-guest.js";
import { vhostUser, virtio } from "../rules.js";

const UDS: Needs = { endpoints: ["uds"] };
const EVENT_IDX: Needs = { features: ["EVENT_IDX"], endpoints: ["uds"] };
const USED_SUPPRESSION = "2.7.7.2 Device Requirements: Used Buffer Notification Suppression";
const KICK_SUPPRESSION = "2.7.10.2 Device Requirements: Available Buffer Notification Suppression";
/** For what must not happen. */
const QUIET_MS = 150;

/** Sends so many packets that cause none in return, one by one, and waits until each came back. */
async function sendQuietly(
  guest: RawGuest,
  connection: RawConnection,
  context: CaseContext,
  packets: number,
) {
  const { rings } = guest.tx.split;
  for (let i = 0; i < packets; i++) {
    const before = rings.usedIndex;
    connection.send(Op.CREDIT_UPDATE);
    guest.tx.kick();
    await context.until(() => rings.usedIndex !== before, "a transmit buffer comes back");
  }
}

/** A guest with a connection, whose transmit ring nobody polls from now on, and no signal waits. */
async function quietGuest(context: CaseContext, features: readonly "EVENT_IDX"[] = []) {
  const guest = await context.guest({ features });
  const joined = await join(context, guest);
  await guest.sent();
  await context.pass(20);
  guest.tx.takeCall();
  guest.tx.isLeftAlone = true;
  return { guest, tx: guest.tx, connection: joined.guest };
}

export const RING_NOTIFY_CASES: readonly ConformanceCase[] = [
  {
    id: "rings.flags",
    title: "without EVENT_IDX the rings' flags steer notifications, and data moves",
    rule: virtio(
      "2.7.7 Used Buffer Notification Suppression",
      "without VIRTIO_F_EVENT_IDX the flags fields decide",
    ),
    needs: UDS,
    async run(context) {
      await assertWorks(context, await context.guest(), 300_000);
    },
  },
  {
    id: "rings.event-idx",
    title: "with EVENT_IDX the event fields steer notifications, and data moves",
    rule: virtio("2.7.10 Available Buffer Notification Suppression", "used_event and avail_event decide"),
    needs: EVENT_IDX,
    async run(context) {
      await assertWorks(context, await context.guest({ features: ["EVENT_IDX"] }), 300_000);
    },
  },
  {
    id: "rings.no-interrupt-flag",
    title: "a driver that asks not to be notified is not",
    rule: virtio(USED_SUPPRESSION, "if flags is 1, the device SHOULD NOT send a notification"),
    needs: UDS,
    async run(context) {
      const { guest, tx, connection } = await quietGuest(context);
      tx.split.rings.availFlags = 1;
      await sendQuietly(guest, connection, context, 5);
      await context.pass(QUIET_MS);
      context.expect.that(!tx.takeCall(), "no notification comes for five used buffers");
      tx.split.rings.availFlags = 0;
      await sendQuietly(guest, connection, context, 1);
      await context.until(() => tx.takeCall(), "a notification comes once it is asked for");
    },
  },
  {
    id: "rings.used-event",
    title: "with EVENT_IDX the device notifies when it passes used_event, and not before",
    rule: virtio(
      USED_SUPPRESSION,
      "if the used index was equal to used_event, the device MUST send a notification; otherwise it SHOULD NOT",
    ),
    needs: EVENT_IDX,
    async run(context) {
      const { guest, tx, connection } = await quietGuest(context, ["EVENT_IDX"]);
      const { rings } = tx.split;
      rings.usedEvent = (rings.usedIndex + 3) & 0xffff;
      await sendQuietly(guest, connection, context, 3);
      await context.pass(QUIET_MS);
      context.expect.that(!tx.takeCall(), "no notification comes for the three buffers before it");
      await sendQuietly(guest, connection, context, 1);
      await context.until(() => tx.takeCall(), "a notification comes for the fourth");
    },
  },
  {
    id: "rings.used-event-batch",
    title: "with EVENT_IDX the device notifies if used_event lies within what it used at once",
    rule: virtio(
      USED_SUPPRESSION,
      "the index at which an entry was placed, for each entry of a batch, counts",
    ),
    needs: EVENT_IDX,
    async run(context) {
      const { guest, tx, connection } = await quietGuest(context, ["EVENT_IDX"]);
      const { rings } = tx.split;
      const target = (rings.usedIndex + 10) & 0xffff;
      rings.usedEvent = (rings.usedIndex + 4) & 0xffff;
      for (let i = 0; i < 10; i++) guest.putPacket(connection, noise(10));
      tx.ring.publish();
      tx.kick();
      await context.until(() => rings.usedIndex === target, "ten buffers come back");
      await context.until(() => tx.takeCall(), "a notification comes, as the fifth of them was asked for");
    },
  },
  {
    id: "rings.event-idx-ignores-flags",
    title: "with EVENT_IDX the no-interrupt flag means nothing",
    rule: virtio(USED_SUPPRESSION, "with VIRTIO_F_EVENT_IDX the device MUST ignore the lower bit of flags"),
    needs: EVENT_IDX,
    async run(context) {
      const { guest, tx, connection } = await quietGuest(context, ["EVENT_IDX"]);
      const { rings } = tx.split;
      rings.availFlags = 1;
      rings.usedEvent = rings.usedIndex;
      await sendQuietly(guest, connection, context, 1);
      await context.until(() => tx.takeCall(), "a notification comes all the same");
    },
  },
  {
    id: "rings.used-flags-event-idx",
    title: "with EVENT_IDX used.flags stays 0",
    rule: virtio(KICK_SUPPRESSION, "with VIRTIO_F_EVENT_IDX the device MUST set flags to 0"),
    needs: EVENT_IDX,
    async run(context) {
      const guest = await context.guest({ features: ["EVENT_IDX"] });
      const joined = await join(context, guest);
      for (let i = 0; i < 5; i++) {
        await exchange(context, joined, 50_000);
        for (const queue of guest.queues)
          context.expect.equal(queue.split.rings.usedFlags, 0, `used.flags of queue ${queue.index} is 0`);
      }
    },
  },
  {
    id: "rings.kick-after-idle",
    title: "a device that has gone idle asks for the next kick",
    rule: virtio(
      KICK_SUPPRESSION,
      "the device MAY use avail_event to advise the driver that kicks are unnecessary until then",
    ),
    needs: EVENT_IDX,
    async run(context) {
      const guest = await context.guest({ features: ["EVENT_IDX"] });
      const joined = await join(context, guest);
      for (let i = 0; i < 20; i++) {
        await context.pass(5);
        // By the rules: if the device does not ask for it, this packet is not kicked for, and nobody sees it.
        await exchange(context, joined, 100);
      }
    },
  },
  {
    id: "rings.spurious-kicks",
    title: "kicks without buffers change nothing",
    rule: virtio(KICK_SUPPRESSION, "the device MUST handle spurious notifications from the driver"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const joined = await join(context, guest);
      for (let i = 0; i < 200; i++) {
        for (const queue of guest.queues) queue.kick();
        if (i % 20 === 0) await exchange(context, joined, 1000);
      }
      await exchange(context, joined);
    },
  },
  {
    id: "rings.call-replaced",
    title: "a call eventfd that is replaced while the ring runs is the one that is signalled",
    rule: vhostUser(
      "Ring states",
      "while processing the rings, the back-end must support changing some configuration aspects on the fly",
    ),
    needs: UDS,
    async run(context) {
      const { guest, tx, connection } = await quietGuest(context);
      const other = createEventfd();
      context.onClose(() => closeSync(other));
      guest.session.setVringCall(tx.index, other);
      guest.session.getFeatures();
      // It may be signalled for what might have been missed.
      await context.pass(20);
      drainEventfd(other);
      tx.takeCall();
      await sendQuietly(guest, connection, context, 1);
      await context.until(() => drainEventfd(other) > 0, "the new eventfd is signalled");
      context.expect.that(!tx.takeCall(), "the old one is not");
    },
  },
  {
    id: "rings.no-call",
    title: "a ring without a call eventfd is processed for a driver that polls",
    rule: vhostUser(
      "Front-end message types, VHOST_USER_SET_VRING_CALL",
      "the invalid FD flag signals that polling will be used instead of waiting for the call",
    ),
    needs: UDS,
    async run(context) {
      const guest = await context.guest({ isStopped: true });
      for (const queue of guest.queues) {
        queue.polls = true;
        queue.hasCallFd = false;
      }
      guest.start();
      await assertWorks(context, guest, 100_000);
    },
  },
  {
    id: "rings.no-kick",
    title: "a ring without a kick eventfd is polled by the device",
    rule: vhostUser(
      "Front-end message types, VHOST_USER_SET_VRING_KICK",
      "the invalid FD flag signals that polling should be used instead of waiting for the kick",
    ),
    needs: UDS,
    async run(context) {
      const guest = await context.guest({ isStopped: true });
      for (const queue of guest.queues) queue.hasKickFd = false;
      guest.start();
      await assertWorks(context, guest);
    },
  },
];
