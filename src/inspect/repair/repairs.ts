/**
 * The repairs that a user may ask for, as data that goes to the relay's thread, and the rewriter that does them. What is
 * changed is said in notes; the messages are shown as their senders sent them. Must not know options or names.
 */
import type { MakeRewriter, Rewriter, Rewriting } from "../relay/rewriter.js";
import { rewriteFeatures } from "./feature-rewriter.js";
import { IotlbServer } from "./iotlb-server.js";

/** Feature words by what is done with their bits. */
export interface Repairs {
  /** Taken out of SET_FEATURES: the back-end does not hear of them. */
  readonly maskAcknowledged: bigint;
  /** Taken out of the answer to GET_FEATURES: the front-end does not hear of them. */
  readonly maskOffered: bigint;
  /** Put into SET_FEATURES. */
  readonly addAcknowledged: bigint;
  /** Put into the answer to GET_FEATURES, and kept from the back-end if it did not offer them itself. */
  readonly addOffered: bigint;
  /** Taken out of the offer and the acknowledgement of protocol features. */
  readonly maskProtocol: bigint;
  /** Answer MISSes in the place of a front-end that acknowledged bit 33 and never will. */
  readonly serveIotlb: boolean;
}

export const NO_REPAIRS: Repairs = {
  maskAcknowledged: 0n,
  maskOffered: 0n,
  addAcknowledged: 0n,
  addOffered: 0n,
  maskProtocol: 0n,
  serveIotlb: false,
};

/** Undefined if nothing is to be repaired: then nobody looks at messages on their way. */
export function repairing(repairs: Repairs): MakeRewriter | undefined {
  const { serveIotlb, ...words } = repairs;
  const hasWords = Object.values(words).some((word) => word !== 0n);
  if (!hasWords && !serveIotlb) return undefined;
  return (port): Rewriter => {
    const features = rewriteFeatures(repairs, port);
    const server = serveIotlb ? new IotlbServer(port) : undefined;
    return {
      rewrite(message): Rewriting {
        const rewriting = features(message);
        // What the back-end is told is what counts for its IOTLB.
        const bytes = rewriting.kind === "replace" ? rewriting.bytes : message.bytes;
        const served = server?.rewrite({ ...message, bytes });
        return served?.kind === "drop" ? served : rewriting;
      },
      close() {},
    };
  };
}
