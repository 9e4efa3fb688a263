/** Lints on the memory table: regions that cannot be, that overlap, or that are not there. */

import type { MemRegion } from "../../vhost/wire/index.js";
import { hex } from "../../virtio/index.js";
import { isSameRegion } from "../model/session-model.js";
import { type LintTable, type MessageLook, requestOf, type Sightings } from "./lint.js";

const END_OF_SPACE = 2n ** 64n;
/** Of x86-64 and most arm64 machines; what a region is mapped by. */
const PAGE = 4096n;

/** The regions that a message brings, each with those that are there besides. */
function newRegions(look: MessageLook): { region: MemRegion; others: readonly MemRegion[] }[] {
  const table = requestOf(look, "SET_MEM_TABLE");
  if (table?.kind === "memTable") {
    return table.regions.map((region, at) => ({ region, others: table.regions.slice(0, at) }));
  }
  const single = requestOf(look, "ADD_MEM_REG");
  return single?.kind === "memRegion" ? [{ region: single.region, others: look.model.regions }] : [];
}

function overlaps(one: bigint, oneSize: bigint, other: bigint, otherSize: bigint): boolean {
  return one < other + otherSize && other < one + oneSize;
}

function named({ guestAddress, size }: MemRegion): string {
  return `the region at ${hex(guestAddress)} with ${hex(size)} bytes`;
}

function eachRegion(
  look: MessageLook,
  see: (region: MemRegion, others: readonly MemRegion[]) => string | undefined,
): Sightings {
  const { kind } = look.message.payload ?? {};
  if (kind !== "memTable" && kind !== "memRegion") return undefined;
  return newRegions(look).flatMap(({ region, others }) => {
    const text = see(region, others);
    return text === undefined ? [] : [{ subject: hex(region.guestAddress), text }];
  });
}

const TABLE = "vhost-user, Memory region description";

export const MEMORY_LINTS = {
  "region-empty": {
    severity: "error",
    title: "A region has no bytes",
    rule: TABLE,
    why: "It cannot be mapped; back-ends refuse the whole table.",
    todo: "In the front-end: leave it out.",
    onMessage: (look) =>
      eachRegion(look, (region) => (region.size === 0n ? `${named(region)} is empty` : undefined)),
  },
  "region-wraps": {
    severity: "error",
    title: "A region goes beyond the end of its address space",
    rule: TABLE,
    why: "Its end is below its start: comparisons go wrong in any back-end that does not refuse it.",
    todo: "In the front-end: check start and size.",
    onMessage: (look) =>
      eachRegion(look, (region) => {
        const { guestAddress, userAddress, mmapOffset, size } = region;
        const wraps = [guestAddress, userAddress, mmapOffset].some((start) => start + size > END_OF_SPACE);
        return wraps
          ? `${named(region)} wraps (user address ${hex(userAddress)}, offset ${hex(mmapOffset)})`
          : undefined;
      }),
  },
  "region-unaligned": {
    severity: "warning",
    title: "A region does not begin or end at a page",
    rule: "mmap(2): offsets are multiples of a page; Linux drivers/vhost/vhost.c vhost_set_memory",
    why: "Back-ends map whole pages, and refuse it or map more than the region.",
    todo: "In the front-end: give whole pages.",
    onMessage: (look) =>
      eachRegion(look, (region) => {
        const odd = [region.guestAddress, region.size, region.userAddress, region.mmapOffset].some(
          (value) => value % PAGE !== 0n,
        );
        return odd ? `${named(region)} is no multiple of a page` : undefined;
      }),
  },
  "regions-overlap": {
    severity: "error",
    title: "Regions overlap in guest-physical memory",
    rule: `${TABLE}; VHOST_USER_ADD_MEM_REG`,
    why: "One guest-physical address leads to two places; which one a back-end takes differs.",
    todo: "In the front-end: remove the old region before the new one is added.",
    onMessage: (look) =>
      eachRegion(look, (region, others) => {
        const other = others.find(({ guestAddress, size }) =>
          overlaps(region.guestAddress, region.size, guestAddress, size),
        );
        return other && `${named(region)} overlaps ${named(other)}`;
      }),
  },
  "user-ranges-overlap": {
    severity: "warning",
    title: "Regions overlap in the front-end's own address space",
    rule: "vhost-user, Memory region description; Ring address: user addresses name one place",
    why: "Ring addresses and IOTLB mappings are user addresses: one of them leads to two regions.",
    todo: "In the front-end: give each region its own mapping.",
    onMessage: (look) =>
      eachRegion(look, (region, others) => {
        const other = others.find(({ userAddress, size }) =>
          overlaps(region.userAddress, region.size, userAddress, size),
        );
        return other && `${named(region)} and ${named(other)} share user addresses`;
      }),
  },
  "region-unknown": {
    severity: "error",
    title: "A region is removed that is not there",
    rule: "vhost-user, VHOST_USER_REM_MEM_REG: matched by guest address, user address and size",
    why: "The two ends disagree about the memory table from here on.",
    todo: "In the front-end: remove a region with the numbers that it was added with.",
    onMessage: (look) => {
      const payload = requestOf(look, "REM_MEM_REG");
      const { model } = look;
      if (payload?.kind !== "memRegion" || model.hasGap || !model.isFromStart) return undefined;
      if (model.regions.some((region) => isSameRegion(region, payload.region))) return undefined;
      return {
        subject: hex(payload.region.guestAddress),
        text: `REM_MEM_REG names ${named(payload.region)}, which was not added`,
      };
    },
  },
  "too-many-slots": {
    severity: "error",
    title: "More regions are added than the back-end takes",
    rule: "vhost-user, VHOST_USER_GET_MAX_MEM_SLOTS",
    why: "The back-end refuses the region, and the guest has memory that the device cannot reach.",
    todo: "In the front-end: refuse the hot-plug. In the back-end: offer more slots.",
    onMessage: (look) => {
      const { model } = look;
      if (requestOf(look, "ADD_MEM_REG") === undefined || model.memorySlots === undefined) return undefined;
      if (BigInt(model.regions.length) < model.memorySlots) return undefined;
      return { text: `region ${model.regions.length + 1} of ${model.memorySlots} is added` };
    },
  },
  "table-without-regions": {
    severity: "warning",
    title: "The memory table is empty",
    rule: "vhost-user, VHOST_USER_SET_MEM_TABLE",
    why: "No address leads anywhere; rust-vmm refuses it.",
    todo: "In the front-end: share the guest's memory (QEMU: share=on and memory-backend).",
    onMessage: (look) => {
      const payload = requestOf(look, "SET_MEM_TABLE");
      return payload?.kind === "memTable" && payload.regions.length === 0
        ? { text: "SET_MEM_TABLE has no regions" }
        : undefined;
    },
  },
} as const satisfies LintTable;
