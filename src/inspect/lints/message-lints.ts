/**
 * Lints on messages as such: whether one is legal now, is well-formed, and gets the answer that is due to it.
 */

import { FLAG, isLegal, type Payload, type WireErrorCode } from "../../vhost/wire/index.js";
import { has, hex, PROTOCOL_F } from "../../virtio/index.js";
import type { SystemCall } from "../message.js";
import { type LintTable, type MessageLook, REPLY_NS, replyOf, requestOf, type Sighting } from "./lint.js";

const KNOWN_FLAGS = FLAG.versionMask | FLAG.reply | FLAG.needReply;
/** What a count of descriptors that does not fit is called; all else is a malformed payload. */
const COUNT: WireErrorCode = "fd-count";

function isRequest({ message }: MessageLook): boolean {
  return !message.isReply;
}

/** Answers judged at all: the session was followed from its first message on. */
function isFollowed({ model }: MessageLook): boolean {
  return model.isFromStart && !model.hasGap && model.transport === "vhost-user";
}

/** Nothing else than this names the message's own error. */
function resultOf(payload: Payload | undefined): bigint | undefined {
  return payload?.kind === "u64" ? payload.value : undefined;
}

/** Asking for what an older kernel does not know is how VMMs find out. */
function refusedCall({ name, result }: SystemCall, number: number | undefined): Sighting | undefined {
  if (result?.errno === undefined || (result.errno === "ENOTTY" && name.includes("_GET_"))) return undefined;
  return { subject: name, text: `${name} (#${number}) failed with ${result.errno}` };
}

export const MESSAGE_LINTS = {
  "message-not-negotiated": {
    severity: "error",
    title: "A message is sent whose feature was not negotiated",
    rule: "vhost-user, Front-end message types and Back-end message types: each names the feature that it needs",
    why: "The other end may close the session, ignore the message, or answer where nobody waits for an answer.",
    todo: "In the sender: send it only once its feature is acknowledged.",
    onMessage: (look) => {
      const { message, model } = look;
      const { record, name } = message;
      if (record === undefined || !isRequest(look) || !isFollowed(look)) return undefined;
      // These two have lints of their own, which say more.
      if (
        message.payload?.kind === "iotlb" ||
        (has(model.words.protocolFeatures, PROTOCOL_F.GPA_ADDRESSES) && name.includes("SHMEM"))
      )
        return undefined;
      return isLegal(record, model.words) ? undefined : { subject: name, text: `${name} was not negotiated` };
    },
  },
  "unknown-message": {
    severity: "warning",
    title: "A message has a number that nobody assigned",
    rule: "vhost-user, Front-end message types and Back-end message types",
    why: "It is newer than this program, or private to the two ends, or the stream is broken.",
    todo: "Find out which end sends it. It goes through unchanged.",
    onMessage: ({ message, model }) =>
      message.record === undefined &&
      message.problem?.code !== "truncated" &&
      model.transport === "vhost-user"
        ? { subject: message.request, text: `${message.name}, ${message.byteLength} bytes` }
        : undefined,
  },
  "payload-malformed": {
    severity: "error",
    title: "A payload is not what its message carries",
    rule: "vhost-user, Message Specification, Payload",
    why: "The receiver closes the session, or reads fields that are not there.",
    todo: "In the sender: compare the payload with the document. QEMU's and the document's structures are the same bytes.",
    onMessage: ({ message: { problem, record, name, isReply } }) => {
      if (problem === undefined || record === undefined || problem.code === COUNT) return undefined;
      return { subject: `${name}${isReply ? " reply" : ""}`, text: problem.text };
    },
  },
  "descriptor-count": {
    severity: "error",
    title: "A message comes with more or fewer descriptors than it carries",
    rule: "vhost-user, Communication, and the descriptors of each message",
    why: "One that is missing leaves a ring without a bell or a region without memory; one too many leaks, or is taken for another.",
    todo: "In the sender: pass exactly what the message names, with the first byte of its header.",
    onMessage: ({ message: { problem, name } }) =>
      problem?.code === COUNT ? { subject: name, text: problem.text } : undefined,
  },
  "reserved-flags": {
    severity: "info",
    title: "A header has flags that nobody assigned",
    rule: "vhost-user, Header: bits 0-1 version, 2 REPLY, 3 NEED_REPLY",
    why: "Receivers ignore them today.",
    todo: "In the sender: leave them 0.",
    onMessage: ({ message: { flags, name } }) => {
      const reserved = (flags & ~KNOWN_FLAGS) >>> 0;
      return reserved === 0 ? undefined : { text: `${name} has flags ${hex(flags >>> 0)}` };
    },
  },
  "reply-without-request": {
    severity: "error",
    title: "An answer comes that nobody waits for",
    rule: "vhost-user, Communication: which messages are answered; VHOST_USER_PROTOCOL_F_REPLY_ACK",
    why: "The other end takes it for the answer to its next request: every answer from here on is taken for another's.",
    todo: "In the back-end: answer a message only if it has an answer of its own, or NEED_REPLY under REPLY_ACK.",
    onMessage: (look) => {
      const { message, pairing } = look;
      if (!message.isReply || pairing === undefined || pairing.request !== undefined || !isFollowed(look))
        return undefined;
      return { subject: message.name, text: `an answer to ${message.name}, which waits for none` };
    },
  },
  "reply-in-wrong-direction": {
    severity: "error",
    title: "An answer goes the way that requests go",
    rule: "vhost-user, Communication: requests of the front-end on one socket, of the back-end on the other",
    why: "The receiver takes it for a request, or closes the session.",
    todo: "In the sender: set REPLY in answers only, and answer on the socket of the request.",
    onMessage: ({ message, pairing, model }) =>
      message.isReply && pairing === undefined && model.transport === "vhost-user"
        ? { subject: message.name, text: `${message.name} has REPLY set and goes ${message.direction}` }
        : undefined,
  },
  "need-reply-ignored": {
    severity: "warning",
    title: "A message with NEED_REPLY was not answered",
    rule: "vhost-user, VHOST_USER_PROTOCOL_F_REPLY_ACK: the back-end must answer with 0 or an error",
    why: "A front-end that waits for the answer hangs, or takes the next answer for it.",
    todo: "In the back-end: answer every message that has NEED_REPLY set once REPLY_ACK is acknowledged.",
    onMessage: ({ pairing }) =>
      pairing?.passedOver
        .filter(({ due }) => due === "ack")
        .map(
          ({ number, message }): Sighting => ({
            subject: message.name,
            text: `#${number} ${message.name} has NEED_REPLY, and a later message was answered instead`,
          }),
        ),
    onTime: ({ open, nowNs, model }) => {
      if (model.hasGap || model.transport !== "vhost-user") return undefined;
      return open
        .filter(({ due, message }) => due === "ack" && nowNs - message.timeNs > REPLY_NS)
        .map(({ number, message }) => ({
          subject: message.name,
          text: `#${number} ${message.name} has NEED_REPLY, and no answer came in ${REPLY_NS / 1_000_000_000n} s`,
          atNs: message.timeNs + REPLY_NS,
        }));
    },
  },
  "reply-missing": {
    severity: "error",
    title: "A request that is always answered was not",
    rule: "vhost-user, Communication: the messages that solicit a reply",
    why: "The front-end waits for it: the VM stands still.",
    todo: "In the back-end: answer it, if only with an error.",
    onMessage: ({ pairing }) =>
      pairing?.passedOver
        .filter(({ due }) => due === "reply")
        .map(({ number, message }) => ({
          subject: message.name,
          text: `#${number} ${message.name} was passed over: a later message was answered`,
        })),
    onTime: ({ open, nowNs, model }) => {
      if (model.hasGap) return undefined;
      return open
        .filter(({ due, message }) => due === "reply" && nowNs - message.timeNs > REPLY_NS)
        .map(({ number, message }) => ({
          subject: message.name,
          text: `#${number} ${message.name} has no answer after ${REPLY_NS / 1_000_000_000n} s`,
          atNs: message.timeNs + REPLY_NS,
        }));
    },
  },
  "need-reply-not-negotiated": {
    severity: "warning",
    title: "NEED_REPLY is set although REPLY_ACK was not negotiated",
    rule: "vhost-user, Header: NEED_REPLY counts under VHOST_USER_PROTOCOL_F_REPLY_ACK only",
    why: "Whether an answer comes depends on the back-end; a front-end that waits for one may hang.",
    todo: "In the front-end: set it only once REPLY_ACK is acknowledged.",
    onMessage: (look) => {
      const { message, model } = look;
      if (!message.needReply || message.isReply || !isFollowed(look)) return undefined;
      // "brings no behavioural change" to a message that is answered anyway; QEMU sets it in each IOTLB_MSG.
      if (message.record?.replies === "always") return undefined;
      if (model.hasProtocol(PROTOCOL_F.REPLY_ACK) || message.name === "SET_PROTOCOL_FEATURES")
        return undefined;
      return { subject: message.name, text: `${message.name} has NEED_REPLY set` };
    },
  },
  "request-refused": {
    severity: "warning",
    title: "The back-end refused a message",
    rule: "vhost-user, VHOST_USER_PROTOCOL_F_REPLY_ACK: anything but 0 is an error; ioctl(2)",
    why: "What the front-end asked for did not happen. Most front-ends give the device up.",
    todo: "Look at what the message said, at the findings before this one, and at the back-end's log.",
    onMessage: ({ message, pairing }) => {
      const result = resultOf(message.payload);
      const request = pairing?.request;
      if (message.systemCall !== undefined) return refusedCall(message.systemCall, request?.number);
      if (message.channel !== "main" || request === undefined || result === undefined || result === 0n)
        return undefined;
      const { record } = request.message;
      const isResult = request.due === "ack" || record?.u64?.reply === "result";
      if (!isResult) return undefined;
      return {
        subject: message.name,
        text: `${message.name} (#${request.number}) was answered with ${hex(result)}`,
      };
    },
  },
  "config-refused": {
    severity: "warning",
    title: "Reading the configuration space failed",
    rule: 'vhost-user, VHOST_USER_GET_CONFIG: "back-end uses zero length of payload to indicate an error"',
    why: "The guest cannot learn what its device is; QEMU gives the device up.",
    todo: "In the back-end: answer any offset and size within the device's configuration space.",
    onMessage: (look) =>
      replyOf(look, "GET_CONFIG")?.kind === "none"
        ? { text: "GET_CONFIG was answered without a payload" }
        : undefined,
  },
  "config-reply-size": {
    severity: "error",
    title: "The configuration space comes in another size than was asked for",
    rule: "vhost-user, VHOST_USER_GET_CONFIG: the answer's payload size must match the request's",
    why: "QEMU and rust-vmm refuse the answer.",
    todo: "In the back-end: answer with the offset and size of the request.",
    onMessage: (look) => {
      const reply = replyOf(look, "GET_CONFIG");
      const request = look.pairing?.request?.message.payload;
      if (reply?.kind !== "config" || request?.kind !== "config") return undefined;
      if (reply.data.byteLength === request.data.byteLength && reply.offset === request.offset)
        return undefined;
      const text =
        `${request.data.byteLength} bytes at ${request.offset} were asked for, ` +
        `${reply.data.byteLength} at ${reply.offset} came`;
      return { text };
    },
  },
  "config-write-flags": {
    severity: "warning",
    title: "A write to the configuration space is marked as a migration's",
    rule: "vhost-user, Virtio device config space: flags 0 is writable, 1 live migration; rust-vmm, crosvm and cloud-hypervisor: WRITABLE is 1",
    why:
      "By the document the write may touch read-only fields, such as a vsock device's guest_cid. A front-end built on " +
      "rust-vmm means an ordinary write.",
    todo: "In the back-end: let no write touch what may not change, whatever the flags say. In the front-end: send 0.",
    onMessage: (look) => {
      const payload = requestOf(look, "SET_CONFIG");
      if (payload?.kind !== "config" || payload.flags === 0) return undefined;
      return { subject: payload.flags, text: `SET_CONFIG has flags ${payload.flags}` };
    },
  },
  "config-read-flags": {
    severity: "info",
    title: "A read of the configuration space has flags",
    rule: "vhost-user, Virtio device config space; crosvm devices/src/virtio/vhost_user_frontend: WRITABLE",
    why: "Flags say who writes; in a read they mean nothing. crosvm always sends 1.",
    todo: "In the back-end: ignore them and repeat them in the answer.",
    onMessage: (look) => {
      const payload = requestOf(look, "GET_CONFIG");
      if (payload?.kind !== "config" || payload.flags === 0) return undefined;
      return { subject: payload.flags, text: `GET_CONFIG has flags ${payload.flags}` };
    },
  },
  "owner-again": {
    severity: "info",
    title: "SET_OWNER comes again in one session",
    rule: 'vhost-user, VHOST_USER_SET_OWNER: sent "when a new connection is established", and a "session start" flag',
    why:
      "QEMU keeps the connection when a device is unplugged, and the next one that is plugged in begins anew over it, with " +
      "memory that the back-end has already. libvhost-user keeps the old regions, handlers after rust-vmm's example " +
      'refuse it ("already claimed"), the kernel\'s vhost answers EBUSY.',
    todo: "In the back-end: forget memory, rings and features at the second SET_OWNER. In the front-end: connect anew.",
    onMessage: (look) =>
      look.model.isOwnerAgain(look.message) ? { text: "another device of the front-end begins" } : undefined,
  },
  "reset-owner-used": {
    severity: "warning",
    title: "RESET_OWNER is used",
    rule: 'vhost-user, VHOST_USER_RESET_OWNER: "deprecated"; back-ends ignore it or disable all rings',
    why: "Nobody can know what it does to the rings.",
    todo: "In the front-end: use RESET_DEVICE, or stop each ring.",
    onMessage: (look) => (requestOf(look, "RESET_OWNER") === undefined ? undefined : { text: "RESET_OWNER" }),
  },
  "stream-broken": {
    severity: "error",
    title: "What goes over the socket is no vhost-user, or ends within a message",
    rule: "vhost-user, Header: version 1, and the size of the payload",
    why: "Nothing after that can be told apart; it is passed on as it comes.",
    todo: "Find out what else writes to the socket, or why the sender stopped there. A wrong size in a header looks the same.",
    onTime: ({ model }) => (model.broken === undefined ? undefined : { text: model.broken }),
    onEnd: ({ model }) => (model.broken === undefined ? undefined : { text: model.broken }),
  },
  "left-before-start": {
    severity: "info",
    title: "The session ended before any ring was started",
    rule: "no rule: this is what a refusal looks like",
    why: "One end left during negotiation: the last messages before say at what. A front-end that only asks is as quiet.",
    todo: "Read that end's log. QEMU, for one, refuses bit 33 without REPLY_ACK and BACKEND_REQ, and vsock without CONFIG.",
    onEnd: ({ model, by }) => {
      if (
        model.messages === 0 ||
        model.transport !== "vhost-user" ||
        [...model.rings.values()].some(({ starts }) => starts > 0)
      )
        return undefined;
      return { text: `the ${by} left after ${model.messages} messages, and no ring had been started` };
    },
  },
} as const satisfies LintTable;
