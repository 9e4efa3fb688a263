/**
 * What each side holds bit 33 to mean once it is negotiated, in a sentence each. Made of facts: how the guest's DMA
 * works, what the VMM told whom, what the device made of it. Must not know any profile by name.
 */
import type { GuestDma } from "../profiles/guest-profile.js";
import { F, has } from "../virtio/index.js";
import type { CellFacts } from "./facts.js";
import type { Actor } from "./record.js";

const WITH_BIT_33: Readonly<Record<GuestDma, string>> = {
  direct: "Use the DMA API, which gives out guest-physical addresses here, so nothing changes.",
  passthrough:
    "Use the DMA API, which gives out guest-physical addresses: the vIOMMU's domain is an identity.",
  viommu:
    "Use the DMA API: the device is given I/O virtual addresses, and reaches what is mapped and no more.",
  restricted: "Use the DMA API and bounce through the shared pool; all other memory is private.",
  protected:
    "Use the DMA API and bounce through the shared pool; a device without the bit is not to be used.",
};

const WITHOUT_BIT_33: Readonly<Record<GuestDma, string>> = {
  direct: "It is not acknowledged: the device takes guest-physical addresses and may reach all memory.",
  passthrough: "It is not acknowledged: the device takes guest-physical addresses, as it would with it.",
  viommu:
    "It is not acknowledged, so the DMA API is gone around: the device is given guest-physical addresses.",
  restricted:
    "It is not acknowledged, so the DMA API is gone around, and the shared pool with it: the device is given " +
    "addresses in private memory.",
  protected: "It is not offered, and without it the device would be given addresses that it cannot reach.",
};

export function beliefsOf(facts: CellFacts): Record<Actor, string> {
  return { guest: guestBelief(facts), vmm: vmmBelief(facts), device: deviceBelief(facts) };
}

function guestBelief({ guest, guestHas33, chronicle }: CellFacts): string {
  if (!chronicle.has("guest-offer")) return "Nothing yet: nothing was offered to it.";
  if (guest.hostile === undefined) return (guestHas33 ? WITH_BIT_33 : WITHOUT_BIT_33)[guest.dma];
  const skipped = guest.hostile.skipsFeaturesOk
    ? "Bit 33 is skipped, and FEATURES_OK with it"
    : "Bit 33 is skipped";
  const bit = guestHas33 ? "Bit 33 is acknowledged" : skipped;
  return `${bit}; the driver maps nothing in its vIOMMU and hands out addresses of its choice.`;
}

function vmmBelief({ vmm, negotiation, guestHas33, passedOn }: CellFacts): string {
  const { program } = vmm;
  if (!passedOn) return "It has not come to telling the device of it.";
  const isTold = has(negotiation.sentToBackend, F.ACCESS_PLATFORM);
  if (negotiation.translates) {
    const how = isTold
      ? "and the bit tells the device to ask it"
      : "and the bit is not what tells the device so";
    return `${program} translates: addresses are I/O virtual, it knows where they lead, ${how}.`;
  }
  if (isTold)
    return `A virtio feature like any other: the guest acknowledged it, so it is passed on; ${program} translates nothing.`;
  if (guestHas33)
    return "A matter between the VMM and its guest; the device is not told, and nothing is translated.";
  return "It is not in play: the guest has not acknowledged it, and nothing is translated.";
}

function deviceBelief({ device, deviceView, negotiation, passedOn }: CellFacts): string {
  const { translation, because } = deviceView;
  if (!passedOn) return "Nothing yet: nobody has told it what was acknowledged.";
  if (device.behaviour.engine === "bit33") return because;
  if (translation === "on")
    return `IOTLB on, since ${because}: every address is an I/O virtual one, and nothing is reachable until it is mapped.`;
  const told = has(negotiation.sentToBackend, F.ACCESS_PLATFORM) ? "Acknowledged, and yet no" : "No";
  return `${told} IOTLB, since ${because}: rings are at user addresses, buffers at guest-physical ones.`;
}
