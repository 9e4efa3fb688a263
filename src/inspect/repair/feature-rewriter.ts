/**
 * Changes feature words on their way: GET_ and SET_FEATURES, GET_ and SET_PROTOCOL_FEATURES. Must not know why.
 */

import {
  decodeHeader,
  encodeFrame,
  FLAG,
  HEADER_BYTES,
  isReply,
  messageByName,
} from "../../vhost/wire/index.js";
import { describeFeatures, describeProtocolFeatures } from "../../virtio/index.js";
import { PASS, type RelayedMessage, type RewriterPort, type Rewriting } from "../relay/rewriter.js";
import type { Repairs } from "./repairs.js";

const ID = {
  GET_FEATURES: messageByName("frontend", "GET_FEATURES").id,
  SET_FEATURES: messageByName("frontend", "SET_FEATURES").id,
  GET_PROTOCOL_FEATURES: messageByName("frontend", "GET_PROTOCOL_FEATURES").id,
  SET_PROTOCOL_FEATURES: messageByName("frontend", "SET_PROTOCOL_FEATURES").id,
};
const U64_BYTES = 8;

/** One for each session: what the back-end really offered is remembered. */
export function rewriteFeatures(
  repairs: Repairs,
  port: RewriterPort,
): (message: RelayedMessage) => Rewriting {
  let offered = 0n;

  const change = (name: string, word: bigint): bigint => {
    switch (name) {
      case "GET_FEATURES reply":
        offered = word;
        return (word & ~repairs.maskOffered) | repairs.addOffered;
      case "SET_FEATURES":
        return (
          (word & ~repairs.maskAcknowledged & ~(repairs.addOffered & ~offered)) | repairs.addAcknowledged
        );
      case "GET_PROTOCOL_FEATURES reply":
      case "SET_PROTOCOL_FEATURES":
        return word & ~repairs.maskProtocol;
      default:
        return word;
    }
  };

  return ({ channel, direction, bytes }) => {
    if (channel !== "main" || bytes.length !== HEADER_BYTES + U64_BYTES) return PASS;
    const header = decodeHeader(bytes);
    const found = Object.entries(ID).find(([, id]) => id === header.request);
    if (found === undefined || isReply(header) !== (direction === "to-frontend")) return PASS;
    const name = isReply(header) ? `${found[0]} reply` : found[0];
    const value = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(HEADER_BYTES, true);
    const changed = change(name, value);
    if (changed === value) return PASS;
    const describe = name.includes("PROTOCOL") ? describeProtocolFeatures : describeFeatures;
    port.remark(`repair: ${name} goes on as ${describe(changed)}`);
    const flags = header.flags & ~FLAG.versionMask;
    return { kind: "replace", bytes: encodeFrame(header.request, flags, { kind: "u64", value: changed }) };
  };
}
