/**
 * Lints on protocol features: what is acknowledged without an offer, what only makes sense together, and numbers that
 * moved. What each bit is comes from src/virtio.
 */
import { bitsOf, has, PROTOCOL_F, protocolFeature } from "../../virtio/index.js";
import { type LintTable, type MessageLook, replyOf, requestOf, wordOf } from "./lint.js";

const SHMEM_MESSAGES: readonly string[] = ["GET_SHMEM_CONFIG", "BACKEND_SHMEM_MAP", "BACKEND_SHMEM_UNMAP"];

export function protocolName(bit: number): string {
  return `${protocolFeature(bit)?.name ?? "an unnamed bit"} (${bit})`;
}

/** The protocol features that were offered, at the moment that they are. */
export function protocolOffer(look: MessageLook): bigint | undefined {
  return wordOf(replyOf(look, "GET_PROTOCOL_FEATURES"));
}

function protocolAcknowledged(look: MessageLook): bigint | undefined {
  return wordOf(requestOf(look, "SET_PROTOCOL_FEATURES"));
}

export const PROTOCOL_LINTS = {
  "protocol-feature-not-offered": {
    severity: "error",
    title: "A protocol feature is acknowledged that the back-end did not offer",
    rule: "vhost-user, VHOST_USER_SET_PROTOCOL_FEATURES",
    why: "Protocol features change what messages look like and which are answered: the two ends no longer agree on the stream.",
    todo: "In the front-end: acknowledge only bits of GET_PROTOCOL_FEATURES.",
    onMessage: (look) => {
      const word = protocolAcknowledged(look);
      const { protocolOffered } = look.model;
      if (word === undefined || protocolOffered === undefined) return undefined;
      return bitsOf(word & ~protocolOffered).map((bit) => ({
        subject: bit,
        text: `SET_PROTOCOL_FEATURES acknowledges ${protocolName(bit)}, which was not offered`,
      }));
    },
  },
  "inband-needs-channel": {
    severity: "error",
    title: "In-band notifications are acknowledged without REPLY_ACK and BACKEND_REQ",
    rule: "vhost-user, In-band notifications: both must be negotiated as well; a back-end that sees otherwise closes",
    why: "Notifications have no way to travel.",
    todo: "In the front-end: acknowledge all three or none.",
    onMessage: (look) => {
      const word = protocolAcknowledged(look);
      if (word === undefined || !has(word, PROTOCOL_F.INBAND_NOTIFICATIONS)) return undefined;
      if (has(word, PROTOCOL_F.REPLY_ACK) && has(word, PROTOCOL_F.BACKEND_REQ)) return undefined;
      return { text: "INBAND_NOTIFICATIONS (14) is acknowledged without REPLY_ACK (3) or BACKEND_REQ (5)" };
    },
  },
  "base-inflight-needs-inflight": {
    severity: "warning",
    title: "Protocol bit 20 is in use without INFLIGHT_SHMFD",
    rule: "vhost-user, Protocol features: GET_VRING_BASE_INFLIGHT (20) depends on INFLIGHT_SHMFD (12)",
    why: "The number was SHMEM's in drafts: a back-end that offers 20 alone is one of those, and means something else.",
    todo: "In the back-end: move SHMEM to 22, or offer INFLIGHT_SHMFD as well.",
    onMessage: (look) => {
      const word = protocolOffer(look) ?? protocolAcknowledged(look);
      if (word === undefined || !has(word, PROTOCOL_F.GET_VRING_BASE_INFLIGHT)) return undefined;
      if (has(word, PROTOCOL_F.INFLIGHT_SHMFD)) return undefined;
      return { text: "GET_VRING_BASE_INFLIGHT (20) without INFLIGHT_SHMFD (12)" };
    },
  },
  "protocol-bit-21-moved": {
    severity: "info",
    title: "Protocol bit 21 is offered, which some back-ends take for SHMEM",
    rule: "vhost-user, Protocol features: 21 is GPA_ADDRESSES, 22 SHMEM; rust-vmm/vhost#367",
    why:
      "The vhost crate 0.16 (and alioth) offer 21 for SHMEM. QEMU 11.1 and later take it for GPA_ADDRESSES and then send " +
      "guest-physical ring addresses where the back-end expects user addresses.",
    todo: "In a back-end that means SHMEM: update the vhost crate to 0.17. If it means GPA_ADDRESSES: nothing.",
    onMessage: (look) => {
      const word = protocolOffer(look);
      if (word === undefined || !has(word, PROTOCOL_F.GPA_ADDRESSES) || has(word, PROTOCOL_F.SHMEM))
        return undefined;
      return {
        text: "GET_PROTOCOL_FEATURES offers 21 and not 22: GPA_ADDRESSES, or SHMEM by its former number",
      };
    },
  },
  "shmem-by-former-number": {
    severity: "error",
    title: "Shared memory regions are used under protocol bit 21",
    rule: "vhost-user, Protocol features: SHMEM is 22, 21 is GPA_ADDRESSES; rust-vmm/vhost#367",
    why: "The sender takes 21 for SHMEM; the receiver takes it for another meaning of ring addresses.",
    todo: "Update the end that sends the message: the vhost crate 0.17, crosvm 8ae81e773 or later.",
    onMessage: ({ model, message }) => {
      if (!SHMEM_MESSAGES.includes(message.name) || message.isReply) return undefined;
      if (!model.hasProtocol(PROTOCOL_F.GPA_ADDRESSES) || model.hasProtocol(PROTOCOL_F.SHMEM))
        return undefined;
      return { text: `${message.name} although bit 22 was not negotiated, and bit 21 was` };
    },
  },
  "xen-mmap-without-fields": {
    severity: "error",
    title: "XEN_MMAP is acknowledged, and memory comes without its fields",
    rule: "vhost-user, Memory region description: with XEN_MMAP each region has two more fields (40 bytes)",
    why:
      "QEMU acknowledges every offered bit below 20 and does not implement this one: the two ends disagree about the " +
      "size of every entry of the memory table.",
    todo: "In the back-end: do not offer XEN_MMAP but under Xen.",
    onMessage: ({ model, message }) => {
      const { payload } = message;
      if (message.isReply || !model.hasProtocol(PROTOCOL_F.XEN_MMAP)) return undefined;
      const regions =
        payload?.kind === "memTable"
          ? payload.regions
          : payload?.kind === "memRegion"
            ? [payload.region]
            : [];
      if (regions.every(({ xen }) => xen !== undefined)) return undefined;
      return { text: `${message.name} has regions of 32 bytes although XEN_MMAP (17) was acknowledged` };
    },
  },
} as const satisfies LintTable;
