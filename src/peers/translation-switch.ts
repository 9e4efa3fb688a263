/** What a modelled device takes for "translate from now on", as a pure rule. Must not know what follows from it. */
import type { ModelledDevice } from "../profiles/device-profile.js";
import { F, has } from "../virtio/index.js";

/** What the rule looks at. */
export interface SwitchWords {
  /** Acknowledged virtio features, as they reached the device. */
  readonly features: bigint;
  /** The front-end has said by a word of its own that it speaks the IOTLB's messages. */
  readonly messagesNegotiated: boolean;
  /** An UPDATE or INVALIDATE came. */
  readonly messageCame: boolean;
}

export function wantsTranslation({ iotlb }: ModelledDevice, words: SwitchWords): boolean {
  const bit33 = has(words.features, F.ACCESS_PLATFORM);
  switch (iotlb.enabledBy) {
    case "never":
      return false;
    case "bit-33":
      return bit33;
    case "bit-33-and-msg-v2":
      return bit33 && words.messagesNegotiated;
    case "own-bit":
      return iotlb.ownBit !== undefined && has(words.features, iotlb.ownBit);
    case "first-message":
      return bit33 && words.messageCame;
  }
}
