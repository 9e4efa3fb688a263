/** Cases about guest memory: tables, slots, regions that come and go. */
import type { ConformanceCase } from "../case.js";
import { assertWorks } from "../exchange.js";
import { vhostUser } from "../rules.js";

const MIB = 2 ** 20;

export const MEMORY_CASES: readonly ConformanceCase[] = [
  {
    id: "memory.two-regions",
    title: "memory of two regions with a gap between them is used on both sides of the gap",
    rule: vhostUser(
      "Memory region description",
      "each region has its guest address, size, user address and offset",
    ),
    needs: { endpoints: ["uds"] },
    async run(context) {
      const slots = [
        { gpa: 0, bytes: MIB },
        { gpa: 2 ** 32, bytes: 32 * MIB },
      ];
      await assertWorks(context, await context.guest({ slots }));
    },
  },
];
