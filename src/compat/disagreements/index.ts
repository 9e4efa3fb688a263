/**
 * The corpus of disagreements: every place that is known where a guest, a VMM and a device are each right by their own
 * reading of a bit, a flag or an order, and wrong together. Each is a named case whose outcome is found by running it.
 * Must not know how outcomes are printed.
 */
export type { Disagreement, DisagreementHead, Finding, FindingEvidence } from "./disagreement.js";

/** In the order of docs/disagreements.md. An id is a promise: it is never renamed and never given to another case. */
export const DISAGREEMENT_IDS = [
  "crosvm-passes-33",
  "crosvm-vhost-user-passes-33",
  "crosvm-vhost-user-hides-33",
  "crosvm-without-viommu-guard",
  "qemu-tells-33-unoffered",
  "qemu-wants-a-channel-with-33",
  "qemu-takes-xen-mmap",
  "shmem-or-gpa-addresses",
  "in-order-unknown-to-the-guest",
  "libkrun-dgram",
  "guest-takes-no-stream-bit",
  "crosvm-hides-seqpacket",
  "crosvm-strips-packed",
  "confidential-guest-requires-33",
  "cloud-hypervisor-drops-indirect",
  "toggling-33-after-addresses",
  "event-queue-owner",
  "dirty-log-never-cleared",
  "suspend-42-or-43",
  "config-flags",
  "features-asked-too-late",
] as const;
export type DisagreementId = (typeof DISAGREEMENT_IDS)[number];
