import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { IotlbSwitch } from "../profiles/device-profile.js";
import { F, mask } from "../virtio/index.js";
import { modelOf } from "./modelled.js";
import { profileOf } from "./peer-rig.js";
import { type SwitchWords, wantsTranslation } from "./translation-switch.js";

const NOTHING: SwitchWords = { features: 0n, messagesNegotiated: false, messageCame: false };
const BIT_33 = mask(F.ACCESS_PLATFORM);

/** What turns each switch on: bit 33, bit 31, the negotiated messages, a message; in the order of all 16 combinations. */
const ON: Readonly<
  Record<IotlbSwitch, (bit33: boolean, own: boolean, negotiated: boolean, came: boolean) => boolean>
> = {
  never: () => false,
  "bit-33": (bit33) => bit33,
  "bit-33-and-msg-v2": (bit33, _own, negotiated) => bit33 && negotiated,
  "own-bit": (_bit33, own) => own,
  "first-message": (bit33, _own, _negotiated, came) => bit33 && came,
};

describe("what a device takes for translate-from-now-on", () => {
  for (const enabledBy of Object.keys(ON) as IotlbSwitch[]) {
    it(`is ${enabledBy}, and nothing else has a say`, () => {
      const device = modelOf(profileOf({ iotlb: { enabledBy, ownBit: 31 } }));
      assert.equal(wantsTranslation(device, NOTHING), false);
      for (let choice = 0; choice < 16; choice++) {
        const [bit33, own, negotiated, came] = [1, 2, 4, 8].map((bit) => (choice & bit) !== 0);
        const words: SwitchWords = {
          features: (bit33 ? BIT_33 : 0n) | (own ? mask(31) : 0n),
          messagesNegotiated: negotiated,
          messageCame: came,
        };
        assert.equal(wantsTranslation(device, words), ON[enabledBy](bit33, own, negotiated, came));
      }
    });
  }
});
