/** Cases about packed rings, where the back-end offers them. */
import { decodePackedBase } from "../../vhost/wire/index.js";
import type { ConformanceCase, Needs } from "../case.js";
import { assertWorks, exchange, join } from "../exchange.js";
import { vhostUser, virtio } from "../rules.js";

const NEEDS: Needs = { features: ["RING_PACKED"], endpoints: ["uds"] };

export const RING_PACKED_CASES: readonly ConformanceCase[] = [
  {
    id: "rings.packed",
    title: "packed rings move data",
    rule: virtio("2.8 Packed Virtqueues", "VIRTIO_F_RING_PACKED: one ring of descriptors for both sides"),
    needs: NEEDS,
    async run(context) {
      await assertWorks(context, await context.guest({ features: ["RING_PACKED"] }), 300_000);
    },
  },
  {
    id: "rings.packed-event-idx",
    title: "packed rings move data with EVENT_IDX",
    rule: virtio("2.8.10 Driver and Device Event Suppression", "RING_EVENT_FLAGS_DESC names a descriptor"),
    needs: { ...NEEDS, features: ["RING_PACKED", "EVENT_IDX"] },
    async run(context) {
      const guest = await context.guest({ features: ["RING_PACKED", "EVENT_IDX"] });
      await assertWorks(context, guest, 300_000);
    },
  },
  {
    id: "rings.packed-odd-size",
    title: "a packed ring's size is any number, and its wrap counters turn with every lap",
    rule: virtio(
      "2.8.10.1 Structure Size and Alignment",
      "the queue size of a packed ring is not necessarily a power of 2",
    ),
    needs: NEEDS,
    async run(context) {
      await assertWorks(context, await context.guest({ features: ["RING_PACKED"], queueSize: 7 }), 100_000);
    },
  },
  {
    id: "rings.packed-indirect",
    title: "packed chains in indirect tables are taken in both directions",
    rule: virtio(
      "2.8.7 Indirect Flag: Scatter-Gather Support",
      "a descriptor may refer to a table of descriptors",
    ),
    needs: { ...NEEDS, features: ["RING_PACKED", "INDIRECT_DESC"] },
    async run(context) {
      const guest = await context.guest({
        features: ["RING_PACKED", "INDIRECT_DESC"],
        tableEntries: 4,
        receiveSizes: [44, 2000],
      });
      await assertWorks(context, guest, 100_000);
    },
  },
  {
    id: "rings.packed-stop-and-go",
    title: "a packed ring says where it stopped, with both wrap counters, and goes on there",
    rule: vhostUser(
      "Vring descriptor indices for packed virtqueues",
      "the next available descriptor and its wrap counter in bits 0-15, the next used one in bits 16-31",
    ),
    needs: NEEDS,
    async run(context) {
      const guest = await context.guest({ features: ["RING_PACKED"], queueSize: 32 });
      const joined = await join(context, guest);
      for (let round = 0; round < 3; round++) {
        await exchange(context, joined, 50_000);
        await guest.sent();
        const bases = guest.stop();
        const { availPosition, usedPosition } = decodePackedBase(bases[1]);
        context.expect.equal(
          availPosition,
          usedPosition,
          "nothing of the transmit ring is still with the device",
        );
        guest.resume(bases);
        guest.kickAll();
      }
      await exchange(context, joined);
    },
  },
];
