/**
 * Which features a guest's driver acknowledges, by Linux's rules: as a profile says, or as the built-in guest of a kind
 * does.
 *
 * Linux (drivers/virtio/virtio.c `virtio_dev_probe`, virtio_ring.c `vring_transport_features`): the driver's own
 * features that the device offers, plus every ring and transport bit that the device offers and the ring code knows.
 * A guest whose memory is private requires VERSION_1 and ACCESS_PLATFORM (`virtio_features_ok`).
 */
import type { GuestProfile } from "../profiles/guest-profile.js";
import { bitsOf, F, mask, maskOf, VSOCK_F, virtioFeature, without } from "../virtio/index.js";
import type { DmaKind } from "./dma.js";

/** What this driver implements. Like Linux's, it has one bit of its own, SEQPACKET. */
export const DRIVER_FEATURES = maskOf(
  F.INDIRECT_DESC,
  F.EVENT_IDX,
  F.VERSION_1,
  F.ACCESS_PLATFORM,
  F.RING_PACKED,
  F.IN_ORDER,
  F.ORDER_PLATFORM,
  VSOCK_F.VSOCK_SEQPACKET,
);

export type GuestChoice =
  | { readonly ok: true; readonly acknowledged: bigint }
  | { readonly ok: false; readonly reason: string };

/** Acknowledges what it knows of the offer; without what it requires it refuses the device. */
export function acknowledge(
  { knows, requires }: Pick<GuestProfile, "knows" | "requires">,
  offered: bigint,
): GuestChoice {
  const acknowledged = offered & knows;
  const lacking = requires & ~acknowledged;
  if (lacking === 0n) return { ok: true, acknowledged };
  const names = bitsOf(lacking).map((bit) => `${virtioFeature(bit, "vsock")?.name ?? "bit"} (${bit})`);
  return { ok: false, reason: `the driver requires ${names.join(" and ")}, which it is not offered` };
}

export interface ChoiceOptions {
  /** Bits that this guest does not know: an older kernel, or a test. Default none. */
  readonly unknownBits?: bigint;
}

/** What the built-in guest of a kind does with a device that offers these features. */
export function chooseFeatures(kind: DmaKind, offered: bigint, options: ChoiceOptions = {}): GuestChoice {
  const known = DRIVER_FEATURES & ~(options.unknownBits ?? 0n);
  // A driver without a DMA API does not know what the bit asks for.
  const knows = kind === "direct" ? without(known, F.ACCESS_PLATFORM) : known;
  const requires = kind === "protected" ? maskOf(F.VERSION_1, F.ACCESS_PLATFORM) : mask(F.VERSION_1);
  return acknowledge({ knows, requires }, offered);
}
