/** Lints on what stands in rings, where somebody follows them: only what is wrong whatever may have gone by unseen. */
import type { RingFaultKind } from "../rings/traffic.js";
import type { FaultLook, LintTable, Sightings } from "./lint.js";

function sighting({ fault }: FaultLook, kind: RingFaultKind): Sightings {
  if (fault.kind !== kind) return undefined;
  return { subject: fault.ring, text: `ring ${fault.ring}: ${fault.text}` };
}

export const RING_CONTENT_LINTS = {
  "ring-used-unknown": {
    severity: "error",
    title: "The device has returned a buffer that it did not have",
    rule: "VIRTIO 1.4, The Virtqueue Used Ring: id is the index of the start of the used descriptor chain",
    why: 'Linux\'s driver gives the queue up ("id %u is not a head!" or "id %u out of range") and the device with it.',
    todo: "In the back-end: return each chain once, by the head that stood in the available ring.",
    onFault: (look) => sighting(look, "used-unknown"),
  },
  "ring-used-ahead": {
    severity: "error",
    title: "The used index of a ring is ahead of the available one",
    rule: "VIRTIO 1.4, Split Virtqueues: both indices count buffers, and no more can be used than were made available",
    why: "The driver takes old elements for new ones. A ring that runs from a wrong base looks so, too.",
    todo: "In the front-end: hand on the base that GET_VRING_BASE answered. In the back-end: begin at SET_VRING_BASE.",
    onFault: (look) => sighting(look, "indices"),
  },
  "ring-buffer-outside-memory": {
    severity: "error",
    title: "A descriptor leads out of the memory that the back-end has",
    rule: "vhost-user, Memory access: without translation buffers are at guest-physical addresses of the memory table",
    why: "The back-end stops the ring, or reads something else. Memory that was plugged in and not announced looks so.",
    todo:
      "In the front-end: share all memory that the guest may use for DMA, and add regions before the guest sees them. " +
      "With addresses that look like I/O virtual ones: acknowledge bit 33 and translate.",
    onFault: (look) => sighting(look, "outside-memory"),
  },
} as const satisfies LintTable;
