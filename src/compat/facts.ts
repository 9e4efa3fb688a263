/** Everything that is known of a cell once it has been played: what `judge.ts` and `story.ts` go by. Types only. */

import type { CanaryOutcome } from "../guest/canary.js";
import type { DeviceProfile } from "../profiles/device-profile.js";
import type { GuestProfile } from "../profiles/guest-profile.js";
import type { VmmProfile } from "../profiles/vmm-profile.js";
import type { NegotiationRecord } from "../vmm/player.js";
import type { Chronicle } from "./chronicle.js";
import type { DeviceView } from "./device-end.js";
import type { Places } from "./places.js";
import type { Actor } from "./record.js";
import type { Traffic } from "./traffic.js";
import type { RunEnd } from "./two-loops.js";
import type { Finding, Witness } from "./witness.js";

/** Somebody's no, or a failure. */
export interface Saying {
  readonly by: Actor;
  readonly text: string;
}

/** Everything that is known of a cell afterwards. */
export interface CellFacts {
  readonly guest: GuestProfile;
  readonly vmm: VmmProfile;
  readonly device: DeviceProfile;
  readonly chronicle: Chronicle;
  readonly witness: Witness;
  readonly places: Places;
  readonly negotiation: NegotiationRecord;
  /** The guest acknowledged bit 33. */
  readonly guestHas33: boolean;
  /** It came to telling the device of features. */
  readonly passedOn: boolean;
  /** What the device made of addresses in the end. */
  readonly deviceView: DeviceView;
  /** Somebody declined before anything ran. */
  readonly refusal: Saying | undefined;
  /** The start was tried and failed. */
  readonly startFailure: Saying | undefined;
  /** A process is gone. */
  readonly death: Saying | undefined;
  /** The session broke after the start. */
  readonly breakdown: Saying | undefined;
  readonly traffic: Traffic | undefined;
  readonly end: RunEnd | undefined;
  /** What is asked for and not mapped, at the end of the traffic. */
  readonly waitsFor: Finding | undefined;
  readonly canary: CanaryOutcome | undefined;
}
