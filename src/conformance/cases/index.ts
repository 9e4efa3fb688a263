/** Every case that there is, family by family. */
import type { ConformanceCase } from "../case.js";
import { GUEST_KIND_CASES } from "./guest-kinds.js";
import { HANDSHAKE_CASES } from "./handshake.js";
import { HOSTILE_CASES } from "./hostile.js";
import { HOSTILE_DATA_CASES } from "./hostile-data.js";
import { MEMORY_CASES } from "./memory.js";
import { RING_CASES } from "./rings.js";
import { RING_INDIRECT_CASES } from "./rings-indirect.js";
import { RING_NOTIFY_CASES } from "./rings-notify.js";
import { RING_PACKED_CASES } from "./rings-packed.js";
import { RING_STOP_CASES } from "./rings-stop.js";
import { SEQPACKET_CASES } from "./seqpacket.js";
import { SESSION_CASES } from "./session.js";
import { SESSION_ERROR_CASES } from "./session-errors.js";
import { STATE_CASES } from "./state.js";
import { TRANSLATION_CASES } from "./translation.js";
import { TRANSLATION_LIMIT_CASES } from "./translation-limits.js";
import { VOLUME_CASES } from "./volume.js";
import { VSOCK_CASES } from "./vsock.js";

export const CASES: readonly ConformanceCase[] = [
  ...SESSION_CASES,
  ...SESSION_ERROR_CASES,
  ...MEMORY_CASES,
  ...RING_CASES,
  ...RING_INDIRECT_CASES,
  ...RING_NOTIFY_CASES,
  ...RING_STOP_CASES,
  ...RING_PACKED_CASES,
  ...TRANSLATION_CASES,
  ...TRANSLATION_LIMIT_CASES,
  ...GUEST_KIND_CASES,
  ...VSOCK_CASES,
  ...VOLUME_CASES,
  ...SEQPACKET_CASES,
  ...STATE_CASES,
  ...HANDSHAKE_CASES,
  ...HOSTILE_CASES,
  ...HOSTILE_DATA_CASES,
];
