/** Cases about virtqueues: layouts, notifications, positions, stop and go. */
import type { ConformanceCase } from "../case.js";
import { assertWorks, exchange, join } from "../exchange.js";
import { vhostUser, virtio } from "../rules.js";

export const RING_CASES: readonly ConformanceCase[] = [
  {
    id: "rings.event-idx",
    title: "with EVENT_IDX both sides notify as the other asked, and data moves",
    rule: virtio("2.7.10 Available Buffer Notification Suppression", "used_event and avail_event decide"),
    needs: { features: ["EVENT_IDX"], endpoints: ["uds"] },
    async run(context) {
      await assertWorks(context, await context.guest({ features: ["EVENT_IDX"] }), 300_000);
    },
  },
  {
    id: "rings.index-wrap",
    title: "ring indices wrap at 65536",
    rule: virtio("2.7.6 The Virtqueue Available Ring", "idx … always increments, and wraps"),
    needs: { endpoints: ["uds"] },
    async run(context) {
      const guest = await context.guest({ firstIndex: 65_530 });
      const joined = await join(context, guest);
      await exchange(context, joined, 200_000);
      context.expect.that(guest.tx.split.rings.usedIndex < 65_530, "the used index has wrapped");
    },
  },
  {
    id: "rings.stop-and-go",
    title:
      "GET_VRING_BASE says where a ring stopped, and SET_VRING_BASE takes it up there, connections and all",
    rule: vhostUser("Ring states", "GET_VRING_BASE stops the ring and returns its position"),
    needs: { endpoints: ["uds"] },
    async run(context) {
      const guest = await context.guest();
      const joined = await join(context, guest);
      await exchange(context, joined);
      await guest.sent();
      const bases = guest.stop();
      context.expect.equal(
        bases[1],
        guest.tx.split.rings.availIndex,
        "the transmit ring stopped behind all of it",
      );
      guest.resume(bases);
      await exchange(context, joined);
    },
  },
];
