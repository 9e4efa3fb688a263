/** Cases about a guest that breaks the rules to get at data: nothing comes out that it has not offered. */
import { HEADER_BYTES, Op } from "../../vsock/header.js";
import type { ConformanceCase, Needs } from "../case.js";
import { join, noise } from "../exchange.js";
import { agreed } from "../rules.js";

const UDS: Needs = { endpoints: ["uds"] };
/** For what must not happen. */
const QUIET_MS = 150;

export const HOSTILE_DATA_CASES: readonly ConformanceCase[] = [
  {
    id: "hostile.index-jump-unfollowed",
    title: "nothing is taken from a ring whose avail index runs ahead of it",
    rule: agreed(
      "an avail index that is further ahead than the ring is long is an error, before any entry is looked at",
      "Linux drivers/vhost/vhost.c vhost_get_vq_desc",
      "rust-vmm virtio-queue src/queue.rs AvailIter::new",
    ),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const { guest: connection, host } = await join(context, guest);
      await guest.sent();
      guest.session.mayEnd = true;
      guest.tx.isLeftAlone = true;
      const { rings } = guest.tx.split;
      guest.putPacket(connection, noise(100));
      rings.availIndex = (rings.availIndex + guest.tx.size + 1) & 0xffff;
      guest.tx.kick();
      await context.pass(QUIET_MS);
      context.expect.equal(host.receivedBytes, 0, "nothing arrives at the host");
      await context.assertNextWorks(guest.session);
    },
  },
  {
    id: "hostile.length-beyond-buffers",
    title: "a header that promises more than its buffers hold brings out nothing of what lies behind them",
    rule: agreed(
      "a packet that is longer than its buffers is dropped",
      "Linux drivers/vhost/vsock.c vhost_vsock_alloc_skb",
      "rust-vmm virtio-vsock src/packet.rs from_tx_virtq_chain",
    ),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const { guest: connection, host } = await join(context, guest);
      await guest.sent();
      guest.session.mayEnd = true;
      const held = 20;
      const block = guest.memory.allocate(4096);
      guest.write(connection.headerFor(Op.RW, 1000), noise(1000), block);
      guest.offer([{ address: block.bus, length: HEADER_BYTES + held }]);
      await context.pass(QUIET_MS);
      context.expect.that(
        host.receivedBytes <= held,
        "no more arrives at the host than the buffers hold",
        `${host.receivedBytes} bytes`,
      );
      await context.assertNextWorks(guest.session);
    },
  },
];
