/** Cases about the IOTLB: MISS, UPDATE, INVALIDATE, permissions and limits. */
import type { ConformanceCase } from "../case.js";
import { assertWorks } from "../exchange.js";
import { vhostUser } from "../rules.js";

const NEEDS = {
  features: ["ACCESS_PLATFORM"],
  protocolFeatures: ["REPLY_ACK", "BACKEND_REQ"],
  endpoints: ["uds"],
} as const;

export const TRANSLATION_CASES: readonly ConformanceCase[] = [
  {
    id: "translation.miss",
    title: "what is not in the IOTLB is asked for with MISS, and used once it is mapped",
    rule: vhostUser("IOMMU support", "the back-end sends VHOST_USER_BACKEND_IOTLB_MSG with a MISS"),
    needs: NEEDS,
    async run(context) {
      const guest = await context.guest({ translated: true });
      await assertWorks(context, guest);
      const misses = guest.memory.domain?.misses.length ?? 0;
      context.expect.that(misses > 0, "the back-end asks for mappings", "no MISS at all");
    },
  },
];
