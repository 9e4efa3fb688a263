/**
 * Negotiation: virtio features, protocol features, and what follows from them at once (vhost-user, Feature bits).
 * Bits that arrive though they were not offered are judged by src/virtio; this file does what the judgement says.
 */

import {
  describeFeatures,
  describeProtocolFeatures,
  describeVerdict,
  has,
  hex,
  judgeAcknowledged,
  PROTOCOL_F,
} from "../virtio/index.js";
import { DONE, fatal, type Handler, refused, replyU64, taking } from "./answer.js";

export const getFeatures: Handler = (session) => replyU64(session.offeredFeatures);

export const getProtocolFeatures: Handler = (session) => replyU64(session.offeredProtocolFeatures);

export const setFeatures = taking("u64", (session, { value }) => {
  const judgement = judgeAcknowledged(session.offeredFeatures, value);
  const verdicts = judgement.verdicts.map(describeVerdict);
  session.log.log({
    event: "negotiated",
    message: [
      `features ${describeFeatures(value, "vsock")}`,
      `protocol features ${describeProtocolFeatures(session.protocolFeatures, session.policy.explicitBit)}`,
      ...verdicts,
    ].join("; "),
    fields: {
      offered: hex(session.offeredFeatures),
      acknowledged: hex(value),
      inEffect: hex(judgement.accepted),
      protocolFeatures: hex(session.protocolFeatures),
    },
  });
  if (judgement.refused !== 0n) {
    const reasons = judgement.verdicts.filter(({ decision }) => decision === "refuse").map(describeVerdict);
    return fatal(reasons.join("; "));
  }
  session.acknowledgeFeatures(judgement.accepted);
  return DONE;
});

export const setProtocolFeatures = taking("u64", (session, { value }) => {
  // The document leaves unoffered bits open. They change what messages look like, so going on would be a guess.
  const unoffered = value & ~session.offeredProtocolFeatures;
  const describe = (word: bigint): string => describeProtocolFeatures(word, session.policy.explicitBit);
  if (unoffered !== 0n) return fatal(`${describe(unoffered)} was acknowledged but not offered`);
  if (value === session.protocolFeatures) return DONE;
  if (session.rings.anyRunning) return refused("protocol features cannot change while a ring runs");
  if (session.hasExplicitIotlb(value ^ session.protocolFeatures) && session.rings.anyStarted)
    return refused(
      "the explicit IOTLB cannot change while a ring is started: stop it with GET_VRING_BASE first",
    );
  const explicit = session.hasExplicitIotlb(value);
  if (explicit && !(has(value, PROTOCOL_F.BACKEND_REQ) && has(value, PROTOCOL_F.REPLY_ACK))) {
    return fatal(`${describe(value)}: the explicit IOTLB needs BACKEND_REQ and REPLY_ACK`);
  }
  const gpaAddresses = has(value, PROTOCOL_F.GPA_ADDRESSES);
  if (gpaAddresses !== session.memory.guestAddressesOnly && session.memory.regions.length > 0) {
    return fatal("GPA_ADDRESSES changes what the addresses of the memory table mean, and regions are there");
  }
  session.acknowledgeProtocolFeatures(value);
  return DONE;
});

/** How many queues there are; a front-end uses as many of them as it likes. */
export const getQueueNum: Handler = (session) => replyU64(BigInt(session.rings.all.length));

export const setOwner: Handler = (session) => {
  session.takeOwner();
  return DONE;
};

/** Deprecated; "back-ends … should either ignore this message, or use it to disable all rings." We disable. */
export const resetOwner: Handler = (session) => {
  session.rings.stopAll("the front-end gave up ownership");
  for (const ring of session.rings.all) ring.enabled = false;
  return DONE;
};
