/**
 * Which features the guest's driver acknowledges, by Linux's rules, and what follows for its DMA.
 *
 * Linux (drivers/virtio/virtio.c `virtio_dev_probe`, virtio_ring.c `vring_transport_features`): the driver's own
 * features that the device offers, plus every ring and transport bit that the device offers and the ring code knows.
 * A guest whose memory is private requires VERSION_1 and ACCESS_PLATFORM (`virtio_features_ok`).
 */
import { F, has, mask, maskOf, without } from "../virtio/index.js";
import type { DmaKind } from "./dma.js";

/** What this driver implements. Linux's vsock driver has one bit of its own, SEQPACKET; ours has stream sockets only. */
export const DRIVER_FEATURES = maskOf(
  F.INDIRECT_DESC,
  F.EVENT_IDX,
  F.VERSION_1,
  F.ACCESS_PLATFORM,
  F.ORDER_PLATFORM,
);

export type GuestChoice =
  | {
      readonly ok: true;
      readonly acknowledged: bigint;
      /**
       * The driver uses the DMA API (`vring_use_dma_api`): bit 33 is acknowledged. If not, it hands out
       * guest-physical addresses and goes around a vIOMMU or a shared pool.
       */
      readonly usesDmaApi: boolean;
    }
  | { readonly ok: false; readonly reason: string };

export interface ChoiceOptions {
  /** Bits that this guest does not know: an older kernel, or a test. Default none. */
  readonly unknownBits?: bigint;
}

/** What a guest of this kind does with a device that offers these features. */
export function chooseFeatures(kind: DmaKind, offered: bigint, options: ChoiceOptions = {}): GuestChoice {
  let known = DRIVER_FEATURES & ~(options.unknownBits ?? 0n);
  // A driver without a DMA API does not know what the bit asks for.
  if (kind === "direct") known = without(known, F.ACCESS_PLATFORM);
  const acknowledged = offered & known;
  if (kind === "protected" && !has(acknowledged, F.ACCESS_PLATFORM)) {
    return {
      ok: false,
      reason:
        "the guest's memory is private, and the device does not offer bit 33 (ACCESS_PLATFORM): it would be given " +
        "addresses that it cannot reach",
    };
  }
  if ((acknowledged & mask(F.VERSION_1)) === 0n)
    return {
      ok: false,
      reason: "the device does not offer VERSION_1, and the driver knows no legacy layouts",
    };
  return { ok: true, acknowledged, usesDmaApi: has(acknowledged, F.ACCESS_PLATFORM) };
}
