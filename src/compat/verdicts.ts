/**
 * The verdicts: what each means, how it is found and what to do about it, as the documentation prints it. An id is a
 * promise: people gate releases on it, so it is never renamed; a new meaning gets a new id.
 * Must not know how a cell is run. `npm run docs` renews docs/verdicts.md.
 */
import type { Verdict } from "./record.js";

export interface VerdictText {
  /** In a grid, where a column counts. */
  readonly word: string;
  /** After "the device", "it" or a cell's name. */
  readonly meaning: string;
  readonly found: string;
  readonly todo: string;
}

export const VERDICT_TEXTS: Readonly<Record<Verdict, VerdictText>> = {
  works: {
    word: "works",
    meaning:
      "Data went both ways between the guest's program and the host's, arrived as it was sent, and the device touched nothing but what the guest had given it at that moment.",
    found:
      "The guest opens a connection to the host and the host one to the guest; each end compares what it received with what the other sent. Every access of the device is checked against what the guest shared and mapped when it happened. Behind a vIOMMU, further buffers point at pages that are mapped for nobody, by guest-physical and by user address, and these pages stayed as they were. (Not with `iommu=pt`, where every page is mapped.)",
    todo: "Nothing. If the evidence is `derived` or `proposed`, this says what the sources say, not that somebody has seen it.",
  },
  refused: {
    word: "refused",
    meaning:
      "Somebody said no, in words that its user gets to see, before the device touched anything. Nothing is half done.",
    found:
      "The guest's driver gave up in the negotiation (a missing feature bit), the VMM did not begin, or the device declined to run rings at the addresses that it was given, and said why.",
    todo: "Read the reason: mostly an option of the VMM or of the device is missing. A refusal where another device works is an incompatibility, but an honest one. With a hostile guest it is what ought to happen, and the reason begins with `contained`.",
  },
  "fails-to-start": {
    word: "no-start",
    meaning:
      "The negotiation went through, the VMM began to start the device, and a request failed. The guest believes that it has a device, and has none.",
    found: "A request or message of the start (ring addresses, enabling, running) came back with an error.",
    todo: "The story names the request and its error; the point of parting is earlier. Look at what was acknowledged and at what the device made of it.",
  },
  stalls: {
    word: "stalls",
    meaning: "Everything was started and nothing moves: no error, no data, no end.",
    found:
      "The guest waits for data, and neither side has anything left to do: no message on its way, no timer that could still fire. Mostly the device has asked for a translation (MISS) that nobody answers.",
    todo: "Find the unanswered question in the story. A device that asks needs a channel and a VMM that serves it; one that nobody will answer ought not to translate.",
  },
  crashes: {
    word: "crashes",
    meaning: "The process of the VMM, of the guest's kernel or of the device is gone.",
    found:
      "A party met something that its profile says it does not survive: a message that it does not know, a feature word that it takes for impossible.",
    todo: "The story names the message. Until that party is mended, the other one ought not to send it.",
  },
  faults: {
    word: "faults",
    meaning:
      "The device touched memory that the guest never shared with it: an address was taken for something that it is not.",
    found:
      "An access of the device led to memory that was not shared at that moment: private memory of a protected guest, or nothing at all. On real hardware that is a fault, a poisoned page, or a dead guest.",
    todo: "The story shows the address, who wrote it and who took it for what. Mostly a guest was never told to use the DMA API.",
  },
  corrupts: {
    word: "corrupts",
    meaning:
      "Data arrived that nobody sent, or data that was sent is gone, while all parties say that all is well.",
    found:
      "The sums of the two ends differ, or the device used a mapping after the guest had taken it back and the memory behind it had another owner.",
    todo: "Treat it as a loss of data. The story names the mapping and when it ended.",
  },
  exposes: {
    word: "exposes",
    meaning:
      "The device could reach memory that the vIOMMU withheld from it. Data may flow as it should all the same: that is what makes it easy to overlook.",
    found:
      "A buffer that pointed at an unmapped page, by its guest-physical or by its user address, was read or changed; or the device resolved an address that the vIOMMU did not map.",
    todo: "Whoever relies on the vIOMMU (nested guests, drivers in user space) has no isolation there. Use a device that translates, or one that refuses.",
  },
};
