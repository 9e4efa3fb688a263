/** Lints on rings: sizes, positions, and the order in which they are set up, started and stopped. */

import { FIRST_PACKED_BASE } from "../../vhost/wire/index.js";
import { F, hex } from "../../virtio/index.js";
import { MOST_DESCRIPTORS } from "../model/ring-model.js";
import { isJudged, type LintTable, type MessageLook, requestOf, SILENCE_NS, type Sighting } from "./lint.js";

function stateOf(look: MessageLook, name: string): { index: number; num: number } | undefined {
  const payload = requestOf(look, name);
  return payload?.kind === "vringState" ? payload : undefined;
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
      const { ring, model } = look;
      if (!isJudged(look)) return undefined;
      const missing = [
        ...(ring.size === undefined ? ["SET_VRING_NUM"] : []),
        ...(ring.addresses === undefined ? ["SET_VRING_ADDR"] : []),
      ].filter((name) => !model.unseen.has(name));
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
} as const satisfies LintTable;
