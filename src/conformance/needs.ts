/** Which of a case's needs a back-end does not meet, as words. */
import { has, PROTOCOL_F } from "../virtio/index.js";
import type { Needs } from "./case.js";
import type { Offer, Target } from "./context.js";
import { featureBit } from "./traced-session.js";

/** What is missing, in one line; undefined if the case applies. */
export function missing(needs: Needs, offer: Offer, target: Target): string | undefined {
  const lacks: string[] = [];
  for (const name of needs.features ?? [])
    if (!has(offer.features, featureBit(name))) lacks.push(`feature ${name} (bit ${featureBit(name)})`);
  for (const name of needs.protocolFeatures ?? [])
    if (!has(offer.protocolFeatures, PROTOCOL_F[name]))
      lacks.push(`protocol feature ${name} (bit ${PROTOCOL_F[name]})`);
  const parts = lacks.length === 0 ? [] : [`the back-end does not offer ${lacks.join(", ")}`];
  if (needs.endpoints?.includes("uds") === true && target.udsPath === undefined)
    parts.push("no hybrid socket is named (--uds-path)");
  return parts.length === 0 ? undefined : parts.join("; ");
}
