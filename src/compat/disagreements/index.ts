/**
 * The corpus of disagreements: every place that is known where a guest, a VMM and a device are each right by their own
 * reading of a bit, a flag or an order, and wrong together. Each is a named case whose outcome is found by running it.
 * Must not know how outcomes are printed.
 */
import {
  CONFIDENTIAL_GUEST_REQUIRES_33,
  CROSVM_PASSES_33,
  CROSVM_VHOST_USER_HIDES_33,
  CROSVM_VHOST_USER_PASSES_33,
  CROSVM_WITHOUT_VIOMMU_GUARD,
  QEMU_TELLS_33_UNOFFERED,
  QEMU_WANTS_A_CHANNEL_WITH_33,
} from "./bit-33.js";
import type { Disagreement } from "./disagreement.js";
import { CONFIG_FLAGS_DIFFER, DIRTY_LOG_NEVER_CLEARED, EVENT_QUEUE_OWNER } from "./messages.js";
import { QEMU_TAKES_XEN_MMAP, SHMEM_OR_GPA_ADDRESSES } from "./protocol-bits.js";
import { TOGGLING_33_AFTER_ADDRESSES } from "./toggling.js";
import {
  CLOUD_HYPERVISOR_DROPS_INDIRECT,
  CROSVM_STRIPS_PACKED,
  FEATURES_ASKED_TOO_LATE,
  IN_ORDER_UNKNOWN_TO_THE_GUEST,
  SUSPEND_42_OR_43,
} from "./transport-bits.js";
import { CROSVM_HIDES_SEQPACKET, GUEST_TAKES_NO_STREAM_BIT, LIBKRUN_DGRAM } from "./vsock-bits.js";

export type { Disagreement, DisagreementHead, Finding, PlayedCell } from "./disagreement.js";

/** In the order of docs/disagreements.md. An id is a promise: it is never renamed and never given to another case. */
export const DISAGREEMENTS: readonly Disagreement[] = [
  CROSVM_PASSES_33,
  CROSVM_VHOST_USER_PASSES_33,
  CROSVM_VHOST_USER_HIDES_33,
  CROSVM_WITHOUT_VIOMMU_GUARD,
  QEMU_TELLS_33_UNOFFERED,
  QEMU_WANTS_A_CHANNEL_WITH_33,
  QEMU_TAKES_XEN_MMAP,
  SHMEM_OR_GPA_ADDRESSES,
  IN_ORDER_UNKNOWN_TO_THE_GUEST,
  LIBKRUN_DGRAM,
  GUEST_TAKES_NO_STREAM_BIT,
  CROSVM_HIDES_SEQPACKET,
  CROSVM_STRIPS_PACKED,
  CONFIDENTIAL_GUEST_REQUIRES_33,
  CLOUD_HYPERVISOR_DROPS_INDIRECT,
  TOGGLING_33_AFTER_ADDRESSES,
  EVENT_QUEUE_OWNER,
  DIRTY_LOG_NEVER_CLEARED,
  SUSPEND_42_OR_43,
  CONFIG_FLAGS_DIFFER,
  FEATURES_ASKED_TOO_LATE,
];
