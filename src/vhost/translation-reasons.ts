/**
 * Why a translation mode was chosen: stable ids, and what each of them says to a person. Logs, the demo and the
 * documentation print these; an id is never renamed. Must not decide anything: translation.ts does.
 */

/** Details that an explanation mentions. */
export interface ReasonDetails {
  /** Where the telling ring lies; empty while no ring is ready. */
  readonly ring: string;
  readonly probationMs: number;
}

type Words = (details: ReasonDetails) => string;

const because = (ring: string): string => (ring === "" ? "" : ` (${ring})`);

export const REASONS = {
  "option-off": () =>
    "Addresses are not translated, because the option says `off`: ring addresses are the front-end's own, " +
    "buffers are guest-physical, and IOTLB messages are refused.",
  "option-on": () =>
    "Addresses are translated, because the option says `on`: every address is an I/O virtual one, and nothing " +
    "is reachable until the front-end has mapped it, whatever bit 33 says.",
  "explicit-negotiated": () =>
    "Addresses are translated, because the front-end negotiated the explicit IOTLB feature. Bit 33 has no say.",
  "explicit-not-negotiated": () =>
    "Addresses are not translated, because the front-end did not negotiate the explicit IOTLB feature. Bit 33 " +
    "has no say.",
  "no-ring-ready": () =>
    "Undecided: no ring has been started and enabled yet, so there is no evidence. Nothing is reachable.",
  probation: ({ probationMs }) =>
    "Undecided: bit 33 is acknowledged, and the ring addresses lie in the memory table's ranges, " +
    `as I/O virtual addresses could by chance. The rings are held for ${probationMs} ms, in which a front-end ` +
    "that translates sends its first IOTLB message.",
  "bit-33-absent": () =>
    "Addresses are not translated: bit 33 is not acknowledged, and all ring addresses lie in the memory table's " +
    "ranges.",
  "outside-without-bit-33": ({ ring }) =>
    "Refused: a ring address lies outside of the memory table's ranges" +
    `${because(ring)}, and bit 33, without which nobody translates, is not acknowledged.`,
  "iotlb-message": () =>
    "Addresses are translated: bit 33 is acknowledged and the front-end sent an IOTLB message, so it maps what " +
    "the device may reach.",
  "ring-outside": ({ ring }) =>
    "Addresses are translated: bit 33 is acknowledged, and a ring address lies outside of the memory table's " +
    `ranges${because(ring)}, so it can only be an I/O virtual one.`,
  "no-channel-to-ask": ({ ring }) =>
    `Refused: the front-end translates addresses${because(ring)}, but gave no back-end channel on which missing ` +
    "mappings could be asked for (protocol features BACKEND_REQ and REPLY_ACK).",
  "inside-without-channel": () =>
    "Addresses are not translated: bit 33 is acknowledged, which only says that the guest uses the DMA API; all " +
    "ring addresses lie in the memory table's ranges, and the front-end gave no back-end channel, " +
    "so it expects no question about mappings.",
  "translated-before": () =>
    "Addresses are translated: bit 33 is acknowledged again, and with it this front-end translated before in " +
    "this session.",
  silence: ({ probationMs }) =>
    "Addresses are not translated: bit 33 is acknowledged, which only says that the guest uses the DMA API; all " +
    `ring addresses lie in the memory table's ranges, and in ${probationMs} ms no IOTLB message came.`,
} as const satisfies Record<string, Words>;

/** Stable identifier of a reason. */
export type ReasonId = keyof typeof REASONS;

/** One paragraph for a person. */
export function explain(reason: ReasonId, details: ReasonDetails): string {
  const words: Words = REASONS[reason];
  return words(details);
}
