/**
 * Lints on rings: sizes, positions, addresses, and the order in which they are set up, started and stopped. Addresses
 * are compared with the memory table; under translation only their alignment can be judged.
 */

import { FIRST_PACKED_BASE } from "../../vhost/wire/index.js";
import { F, hex } from "../../virtio/index.js";
import { type RingModel, ringAreas } from "../model/ring-model.js";
import type { SessionModel } from "../model/session-model.js";
import {
  type LintTable,
  type MessageLook,
  type RunLook,
  requestOf,
  SILENCE_NS,
  type Sighting,
} from "./lint.js";

/** VIRTIO, Split Virtqueues and Packed Virtqueues: the same limit for both. */
const MOST_DESCRIPTORS = 32768;

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

function stateOf(look: MessageLook, name: string): { index: number; num: number } | undefined {
  const payload = requestOf(look, name);
  return payload?.kind === "vringState" ? payload : undefined;
}

/** A ring whose memory is judged: nothing of the session was missed. */
function isJudged({ model }: RunLook): boolean {
  return !model.hasGap && model.isFromStart;
}

export const RING_LINTS = {
  "ring-size": {
    severity: "error",
    title: "A ring has a size that no ring has",
    rule: "VIRTIO, Split Virtqueues: a power of two, at most 32768; Packed Virtqueues: 1 to 32768",
    why: "Back-ends refuse it, or compute areas that overlap.",
    todo: "In the front-end: hand on the size that the guest's driver chose.",
    onMessage: (look) => {
      const state = stateOf(look, "SET_VRING_NUM");
      if (state === undefined) return undefined;
      const { index, num } = state;
      const isSize = num >= 1 && num <= MOST_DESCRIPTORS && (look.model.isPacked || (num & (num - 1)) === 0);
      return isSize ? undefined : { subject: index, text: `ring ${index} has ${num} descriptors` };
    },
  },
  "ring-index": {
    severity: "warning",
    title: "A message names a ring that the back-end does not have",
    rule: "vhost-user, VHOST_USER_GET_QUEUE_NUM; network back-ends count pairs there, so twice as many and one are taken for right",
    why: "Back-ends refuse the message, or index beyond their rings.",
    todo: "In the front-end: set up no more rings than GET_QUEUE_NUM answers.",
    onMessage: ({ message, model }) => {
      const { payload } = message;
      if (message.isReply || message.channel === "backend" || model.queueCount === undefined)
        return undefined;
      if (payload?.kind !== "vringState" && payload?.kind !== "vringFd" && payload?.kind !== "vringAddr")
        return undefined;
      if (BigInt(payload.index) <= 2n * model.queueCount) return undefined;
      const text = `${message.name} names ring ${payload.index}; GET_QUEUE_NUM answered ${model.queueCount}`;
      return { subject: payload.index, text };
    },
  },
  "ring-not-set-up": {
    severity: "error",
    title: "A ring runs that was not set up",
    rule: "vhost-user, Ring states, and the order of SET_VRING_NUM, _BASE, _ADDR before _KICK",
    why: "The back-end runs with what it had before, or with nothing.",
    todo: "In the front-end: send SET_VRING_NUM, SET_VRING_BASE and SET_VRING_ADDR before SET_VRING_KICK.",
    onRun: (look) => {
      const { ring } = look;
      if (!isJudged(look)) return undefined;
      const missing = [
        ...(ring.size === undefined ? ["SET_VRING_NUM"] : []),
        ...(ring.addresses === undefined ? ["SET_VRING_ADDR"] : []),
      ];
      if (missing.length === 0) return undefined;
      return { subject: ring.index, text: `ring ${ring.index} runs without ${missing.join(" and ")}` };
    },
  },
  "ring-without-memory": {
    severity: "error",
    title: "A ring runs before the back-end has any memory",
    rule: "vhost-user, VHOST_USER_SET_MEM_TABLE; VHOST_USER_ADD_MEM_REG",
    why: "No address leads anywhere.",
    todo: "In the front-end: send the memory table before the rings.",
    onRun: (look) => {
      const { model, ring } = look;
      if (!isJudged(look) || model.memoryGiven || model.transport !== "vhost-user") return undefined;
      return { subject: ring.index, text: `ring ${ring.index} runs, and no memory table or region came` };
    },
  },
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
  "ring-changed-while-started": {
    severity: "warning",
    title: "A ring's size or position changes while it is started",
    rule: "vhost-user, Ring states: set up a ring that is stopped",
    why: "Back-ends refuse it, or go on at the wrong place.",
    todo: "In the front-end: stop the ring with GET_VRING_BASE first.",
    onMessage: (look) => {
      const state = stateOf(look, "SET_VRING_NUM") ?? stateOf(look, "SET_VRING_BASE");
      const ring = state && look.model.rings.get(state.index);
      if (ring === undefined || !ring.isStarted) return undefined;
      return { subject: ring.index, text: `${look.message.name} for ring ${ring.index}, which is started` };
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
  "ring-started-disabled": {
    severity: "info",
    title: "A ring is started before it is enabled",
    rule: "vhost-user, Ring states: started and disabled, a ring is not to be processed",
    why:
      "Legal, and what QEMU does each time. A back-end that processes a ring as soon as it has its kick descriptor, or " +
      "that discards what it finds there, is wrong with it.",
    todo: "In the back-end: wait for SET_VRING_ENABLE if bit 30 was acknowledged, and look at the ring then.",
    onMessage: (look) => {
      const payload = requestOf(look, "SET_VRING_KICK");
      const { model } = look;
      if (payload?.kind !== "vringFd" || !model.isAcknowledged(F.PROTOCOL_FEATURES)) return undefined;
      if (model.rings.get(payload.index)?.isEnabled === true) return undefined;
      return { text: `ring ${payload.index} is started and not enabled yet` };
    },
  },
  "ring-never-enabled": {
    severity: "warning",
    title: "A ring was started and never enabled",
    rule: "vhost-user, Ring states: with bit 30 acknowledged, rings start disabled",
    why: "The back-end does not touch the ring; the guest waits.",
    todo: "In the front-end: send SET_VRING_ENABLE for each ring, or do not acknowledge bit 30.",
    onTime: ({ model, nowNs }) => {
      if (model.hasGap || !model.isAcknowledged(F.PROTOCOL_FEATURES)) return undefined;
      return [...model.rings.values()].flatMap(({ isEnabled, isStarted, startedAtNs, index }): Sighting[] => {
        if (!isStarted || isEnabled !== undefined || startedAtNs === undefined) return [];
        const atNs = startedAtNs + SILENCE_NS;
        return nowNs <= atNs
          ? []
          : [{ subject: index, text: `ring ${index} is started, and SET_VRING_ENABLE never came`, atNs }];
      });
    },
  },
  "ring-without-call": {
    severity: "info",
    title: "A ring runs without a call descriptor",
    rule: "vhost-user, VHOST_USER_SET_VRING_CALL: without one the front-end polls",
    why: "Nobody is told of used buffers; the guest has to poll.",
    todo: "Nothing, if the guest polls. QEMU gives a descriptor before and after the start.",
    onRun: (look) => {
      const { ring } = look;
      if (!isJudged(look) || ring.call !== "none" || look.model.transport !== "vhost-user") return undefined;
      return { subject: ring.index, text: `ring ${ring.index} runs, and SET_VRING_CALL never came` };
    },
  },
  "owner-missing": {
    severity: "info",
    title: "Rings run before SET_OWNER",
    rule: "vhost-user, VHOST_USER_SET_OWNER: sent once at the beginning; the kernel's vhost answers EPERM without it",
    why: "Most back-ends do not look; one that hands messages on to the kernel's vhost fails.",
    todo: "In the front-end: send SET_OWNER first.",
    onRun: (look) =>
      isJudged(look) && !look.model.hasOwner
        ? { text: `ring ${look.ring.index} runs, and SET_OWNER never came` }
        : undefined,
  },
  "split-base-too-large": {
    severity: "warning",
    title: "A split ring's position has bits beyond the 16 of an index",
    rule: 'vhost-user, Vring descriptor indices for split virtqueues: the low 16 bits, "bits 16-31 are 0"',
    why: "The sender counts as in packed rings; what the back-end makes of the rest differs.",
    todo: "In the front-end: send the avail index. If the rings are packed, acknowledge RING_PACKED.",
    onMessage: (look) => {
      const state = stateOf(look, "SET_VRING_BASE");
      if (
        state === undefined ||
        look.model.isPacked ||
        look.model.acknowledged === undefined ||
        state.num <= 0xffff
      )
        return undefined;
      return { subject: state.index, text: `ring ${state.index}: SET_VRING_BASE ${hex(state.num)}` };
    },
  },
  "packed-base-as-split": {
    severity: "warning",
    title: "A packed ring begins at a position as split rings count",
    rule:
      "vhost-user, Vring descriptor indices for packed virtqueues: the wrap counters in bits 15 and 31; VIRTIO, Packed " +
      "Virtqueues: both begin at 1",
    why:
      "Position 0 says that both wrap counters are 0: a back-end takes every descriptor for used already. Front-ends that " +
      "hand RING_PACKED on without knowing packed rings do this (cloud-hypervisor #2833).",
    todo: `In the front-end: begin a new ring at ${hex(FIRST_PACKED_BASE)}, or mask RING_PACKED.`,
    onMessage: (look) => {
      const state = stateOf(look, "SET_VRING_BASE");
      const { model } = look;
      if (state === undefined || !model.isPacked || state.num !== 0) return undefined;
      const ring = model.rings.get(state.index);
      // A ring that ran may really have come to 0 with both counters 0.
      if (ring !== undefined && (ring.starts > 0 || ring.stoppedAt !== undefined)) return undefined;
      return { subject: state.index, text: `ring ${state.index} is packed and begins at 0` };
    },
  },
  "base-not-taken-up": {
    severity: "info",
    title: "A ring goes on elsewhere than it stopped",
    rule: "vhost-user, VHOST_USER_GET_VRING_BASE: where the next start goes on; a new driver begins anew",
    why: "Neither the same driver nor a new one: a restored VM, or a front-end that lost the position. Buffers are done twice or never.",
    todo: "In the front-end: hand the answer of GET_VRING_BASE back in SET_VRING_BASE.",
    onMessage: (look) => {
      const state = stateOf(look, "SET_VRING_BASE");
      const ring = state && look.model.rings.get(state.index);
      if (state === undefined || ring?.stoppedAt === undefined || ring.isStarted) return undefined;
      if (state.num === ring.stoppedAt || state.num === 0 || state.num === FIRST_PACKED_BASE)
        return undefined;
      const text = `ring ${state.index} stopped at ${ring.stoppedAt} and goes on at ${state.num}`;
      return { subject: state.index, text };
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
