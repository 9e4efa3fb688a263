/**
 * The memory table: SET_MEM_TABLE, and one region at a time with ADD_MEM_REG and REM_MEM_REG. Mapping is src/memory's;
 * running rings notice through the generation of their address space, and the IOTLB forgets what pointed into a
 * region that went away. By the time a message is answered nothing here touches the old memory: the data plane runs
 * in this same thread, between messages.
 */

import { MemoryError } from "../memory/errors.js";
import { describeRegion, type Region, type RegionInput } from "../memory/region.js";
import { hex } from "../virtio/index.js";
import { type Answer, DONE, type Handler, refused, replyU64, taking } from "./answer.js";
import type { SessionCore } from "./session-core.js";
import type { MemRegion } from "./wire/index.js";

function inputOf({ guestAddress, size, userAddress, mmapOffset }: MemRegion): RegionInput {
  return { gpa: guestAddress, size, uva: userAddress, mmapOffset };
}

function logRegion(
  session: SessionCore,
  event: "memory-region-added" | "memory-region-removed",
  region: Region,
): void {
  if (event === "memory-region-added" && !region.isSealed) session.noteUnsealed(describeRegion(region));
  session.log.log({
    event,
    message: `${hex(region.size)} bytes of guest memory at ${hex(region.gpa)}`,
    fields: {
      gpa: hex(region.gpa),
      size: hex(region.size),
      uva: hex(region.uva),
      fileOffset: hex(region.mmapOffset),
      pageBytes: region.pageBytes,
      sealed: region.isSealed,
    },
  });
}

/** Does what may fail because of the front-end; a MemoryError becomes a refusal. */
function obey(change: () => void): Answer {
  try {
    change();
    return DONE;
  } catch (error) {
    if (error instanceof MemoryError) return refused(error.message);
    throw error;
  }
}

export const setMemTable = taking("memTable", (session, { regions }, fds) =>
  obey(() => {
    const taken = fds.takeAll();
    const before = [...session.memory.regions];
    const after = session.memory.replaceAll(
      regions.map((region, index) => ({ region: inputOf(region), fd: taken[index] })),
    );
    for (const region of before) logRegion(session, "memory-region-removed", region);
    for (const region of after) logRegion(session, "memory-region-added", region);
    session.memoryCame();
  }),
);

export const getMaxMemSlots: Handler = (session) => replyU64(BigInt(session.memory.mostRegions));

export const addMemReg = taking("memRegion", (session, { region }, fds) => {
  const fd = fds.take();
  if (fd === undefined) return refused("no descriptor came with it");
  return obey(() => {
    logRegion(session, "memory-region-added", session.memory.add(inputOf(region), fd));
    session.memoryCame();
  });
});

/** A descriptor that comes along is closed unused, as the document asks. */
export const remMemReg = taking("memRegion", (session, { region }) =>
  obey(() => logRegion(session, "memory-region-removed", session.memory.remove(inputOf(region)))),
);
