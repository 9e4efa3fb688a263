/** Every lint by its id. An id is a promise: it is never renamed and never changes its severity. */
import { FEATURE_LINTS } from "./feature-lints.js";
import type { LintTable } from "./lint.js";
import { MEMORY_LINTS } from "./memory-lints.js";
import { MESSAGE_LINTS } from "./message-lints.js";
import { PROTOCOL_LINTS } from "./protocol-lints.js";
import { RING_ADDRESS_LINTS } from "./ring-address-lints.js";
import { RING_CONTENT_LINTS } from "./ring-content-lints.js";
import { RING_LINTS } from "./ring-lints.js";
import { TRANSLATION_LINTS } from "./translation-lints.js";
import { VSOCK_LINTS } from "./vsock-lints.js";
import { VSOCK_PACKET_LINTS } from "./vsock-packet-lints.js";

export const LINTS = {
  ...FEATURE_LINTS,
  ...PROTOCOL_LINTS,
  ...TRANSLATION_LINTS,
  ...MEMORY_LINTS,
  ...RING_LINTS,
  ...RING_ADDRESS_LINTS,
  ...RING_CONTENT_LINTS,
  ...MESSAGE_LINTS,
  ...VSOCK_LINTS,
  ...VSOCK_PACKET_LINTS,
} as const satisfies LintTable;

export type LintId = keyof typeof LINTS;
