/**
 * Lints on where rings are: their areas compared with the memory table, with each other, and with what was negotiated.
 * Of I/O virtual addresses only the alignment can be judged.
 */
import { hex } from "../../virtio/index.js";
import { MOST_DESCRIPTORS, type RingModel, ringAreas } from "../model/ring-model.js";
import type { SessionModel } from "../model/session-model.js";
import { isJudged, type LintTable, requestOf, type Sighting } from "./lint.js";

/** The areas of a ring that is set up, with where each begins. */
function areasOf(
  ring: RingModel,
  model: SessionModel,
): { name: string; start: bigint; bytes: bigint; alignment: bigint }[] {
  const { addresses, size } = ring;
  if (addresses === undefined || size === undefined || size === 0 || size > MOST_DESCRIPTORS) return [];
  return ringAreas(size, model.isPacked).map(({ name, bytes, alignment }) => ({
    name,
    start: addresses[name],
    bytes,
    alignment,
  }));
}

/** Ranges of the space that the ring's addresses are in; undefined if they are I/O virtual. */
function rangesOf(model: SessionModel): { start: bigint; size: bigint }[] | undefined {
  switch (model.ringSpace) {
    case "iova":
      return undefined;
    case "guest-physical":
      return model.regions.map(({ guestAddress, size }) => ({ start: guestAddress, size }));
    case "user":
      return model.regions.map(({ userAddress, size }) => ({ start: userAddress, size }));
  }
}

export const RING_ADDRESS_LINTS = {
  "ring-outside-memory": {
    severity: "error",
    title: "A ring's address is in no region",
    rule: "vhost-user, Ring address: a user address of the memory table, unless bit 33 or GPA_ADDRESSES was negotiated",
    why: "The back-end cannot reach the ring. With a vIOMMU the address is I/O virtual, and bit 33 should have been acknowledged.",
    todo: "In the front-end: send user addresses, or acknowledge bit 33 and serve the IOTLB.",
    onRun: (look) => {
      const { model, ring } = look;
      const ranges = rangesOf(model);
      if (ranges === undefined || !isJudged(look) || !model.memoryGiven) return undefined;
      return areasOf(ring, model)
        .filter(({ start }) => model.classOf(start) === "iova")
        .map(({ name, start }) => ({
          subject: `${ring.index} ${name}`,
          text: `ring ${ring.index}: ${name} ${hex(start)} is in no region`,
        }));
    },
  },
  "ring-address-wrong-space": {
    severity: "error",
    title: "A ring's address is of another address space than was negotiated",
    rule: "vhost-user, Ring address: IOVA under bit 33, guest-physical under GPA_ADDRESSES, else a user address",
    why:
      "A guest-physical address where a user address is due, or the reverse: the back-end finds nothing, or something " +
      "else. Back-ends that take protocol bit 21 for SHMEM make QEMU 11.1 send guest-physical ones.",
    todo: "In the front-end: translate ring addresses. Under GPA_ADDRESSES: see what the back-end means by protocol bit 21.",
    onRun: (look) => {
      const { model, ring } = look;
      if (!isJudged(look)) return undefined;
      const wrong = { user: "guest-physical", "guest-physical": "user", iova: undefined }[model.ringSpace];
      return areasOf(ring, model)
        .filter(({ start }) => model.classOf(start) === wrong)
        .map(({ name, start }) => ({
          subject: `${ring.index} ${name}`,
          text: `ring ${ring.index}: ${name} ${hex(start)} is ${wrong}, and ${model.ringSpace} is due`,
        }));
    },
  },
  "ring-crosses-region": {
    severity: "error",
    title: "A ring's area goes beyond its region",
    rule: "vhost-user, Ring address, and the areas' sizes in VIRTIO, Split Virtqueues and Packed Virtqueues",
    why: "Its end is in other memory or in none. Back-ends map regions apart from each other.",
    todo: "In the front-end: check the whole area. In the guest: a ring lies in one piece of memory.",
    onRun: (look) => {
      const { model, ring } = look;
      const ranges = rangesOf(model);
      if (ranges === undefined || !isJudged(look)) return undefined;
      return areasOf(ring, model).flatMap(({ name, start, bytes }): Sighting[] => {
        const range = ranges.find((each) => start >= each.start && start < each.start + each.size);
        if (range === undefined || start + bytes <= range.start + range.size) return [];
        const text = `ring ${ring.index}: ${name} ${hex(start)} with ${bytes} bytes leaves the region at ${hex(range.start + range.size)}`;
        return [{ subject: `${ring.index} ${name}`, text }];
      });
    },
  },
  "ring-misaligned": {
    severity: "error",
    title: "A ring's area is not aligned",
    rule: "VIRTIO, Split Virtqueues: 16, 2 and 4 bytes; Packed Virtqueues: 16, 4 and 4",
    why: "Back-ends refuse it or read fields that are torn.",
    todo: "In the guest's driver, or in whatever computed the addresses.",
    onRun: ({ model, ring }) =>
      areasOf(ring, model)
        .filter(({ start, alignment }) => start % alignment !== 0n)
        .map(({ name, start, alignment }) => ({
          subject: `${ring.index} ${name}`,
          text: `ring ${ring.index}: ${name} ${hex(start)} is no multiple of ${alignment}`,
        })),
  },
  "ring-areas-overlap": {
    severity: "error",
    title: "Areas of one ring overlap",
    rule: "VIRTIO, Split Virtqueues: three separate areas",
    why: "What one side writes destroys what the other side wrote.",
    todo: "In the front-end: see whether SET_VRING_NUM is the size that the guest's driver used.",
    onRun: ({ model, ring }) => {
      const areas = areasOf(ring, model);
      return areas.flatMap((one, at) =>
        areas
          .slice(at + 1)
          .filter(({ start, bytes }) => one.start < start + bytes && start < one.start + one.bytes)
          .map(({ name }) => ({
            subject: ring.index,
            text: `ring ${ring.index}: ${one.name} and ${name} overlap`,
          })),
      );
    },
  },
  "ring-moved-while-running": {
    severity: "warning",
    title: "A running ring gets other addresses",
    rule: "vhost-user, Ring states; SET_VRING_ADDR may be repeated for the sake of its LOG flag",
    why: "Whether the ring goes on at the new place, at once or at all, differs from back-end to back-end.",
    todo: "In the front-end: stop the ring with GET_VRING_BASE first.",
    onMessage: (look) => {
      const payload = requestOf(look, "SET_VRING_ADDR");
      if (payload?.kind !== "vringAddr") return undefined;
      const ring = look.model.rings.get(payload.index);
      const before = ring?.addresses;
      if (ring === undefined || before === undefined || !look.model.isRunning(ring)) return undefined;
      if (before.desc === payload.desc && before.avail === payload.avail && before.used === payload.used)
        return undefined;
      return { subject: ring.index, text: `ring ${ring.index} runs and gets other addresses` };
    },
  },
  "ring-lost-its-memory": {
    severity: "error",
    title: "Memory goes away that a running ring is in",
    rule: "vhost-user, VHOST_USER_REM_MEM_REG; VHOST_USER_SET_MEM_TABLE",
    why: "The back-end unmaps what it is working on: it stops the ring, or faults.",
    todo: "In the front-end: stop the ring first.",
    onMessage: (look) => {
      const { model, message } = look;
      const { payload } = message;
      if (message.isReply || model.ringSpace === "iova") return undefined;
      const left =
        payload?.kind === "memTable"
          ? payload.regions
          : message.name === "REM_MEM_REG" && payload?.kind === "memRegion"
            ? model.regions.filter(
                ({ guestAddress, userAddress }) =>
                  guestAddress !== payload.region.guestAddress || userAddress !== payload.region.userAddress,
              )
            : undefined;
      if (left === undefined) return undefined;
      const isThere = (address: bigint): boolean =>
        left.some(({ userAddress, guestAddress, size }) =>
          [userAddress, guestAddress].some((start) => address >= start && address < start + size),
        );
      return model.runningRings
        .filter(
          ({ addresses }) =>
            addresses !== undefined && model.classOf(addresses.desc) !== "iova" && !isThere(addresses.desc),
        )
        .map(({ index }) => ({
          subject: index,
          text: `${message.name} takes away what ring ${index} is in`,
        }));
    },
  },
} as const satisfies LintTable;
