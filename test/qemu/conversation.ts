/**
 * What a front-end said, one line a message, in a form in which a recording, a live QEMU and our player can be compared:
 * flags and words as they are, addresses by the kind of memory they lie in. Must not know who spoke.
 */
import { classOf } from "../../src/inspect/address-class.js";
import { IOTLB_TYPE, type MemRegion, type Message } from "../../src/vhost/wire/index.js";
import { hex } from "../../src/virtio/index.js";

/** Lines of everything that a front-end said on the session's socket; its replies on the back-end channel are not here. */
export function saidIn(messages: readonly Message[]): string[] {
  const regions = messages.flatMap(regionsIn);
  return messages.map((message) => line(message, regions));
}

function regionsIn({ payload }: Message): readonly MemRegion[] {
  if (payload.kind === "memRegion") return [payload.region];
  return payload.kind === "memTable" ? payload.regions : [];
}

function line(message: Message, regions: readonly MemRegion[]): string {
  const words = [message.record.name as string, ...(message.needReply ? ["NEED_REPLY"] : [])];
  return [...words, ...details(message, regions)].join(" ");
}

function details({ payload, record }: Message, regions: readonly MemRegion[]): string[] {
  switch (payload.kind) {
    case "u64":
      // The descriptor of a reply-less message, and requests that are padded with a zero.
      return record.name.startsWith("SET_") ? [hex(payload.value)] : [];
    case "vringState":
      return record.name.startsWith("GET_")
        ? [`q${payload.index}`]
        : [`q${payload.index}`, String(payload.num)];
    case "vringFd":
      return [`q${payload.index}`, ...(payload.noFd ? ["no descriptor"] : [])];
    case "vringAddr": {
      const { desc, avail, used } = payload;
      const kinds = new Set([desc, avail, used].map((address) => classOf(address, regions)));
      return [`q${payload.index}`, `flags=${payload.flags}`, [...kinds].join("/")];
    }
    case "memTable":
      return [`regions=${payload.regions.length}`];
    case "config":
      return [`off=${payload.offset}`, `size=${payload.data.length}`, `flags=${payload.flags}`];
    case "iotlb": {
      if (payload.type !== IOTLB_TYPE.UPDATE)
        return [payload.type === IOTLB_TYPE.INVALIDATE ? "INVALIDATE" : "?"];
      const leadsTo = classOf(payload.userAddress, regions);
      return ["UPDATE", `size=${hex(payload.size)}`, `perm=${payload.perm}`, `to ${leadsTo}`];
    }
    default:
      return [];
  }
}

/** From the first message to the last that starts the rings, without what answers a MISS. */
export interface Conversation {
  /** Up to SET_FEATURES. */
  readonly before: readonly string[];
  /** From there on, up to what follows the rings' start by itself. */
  readonly start: readonly string[];
  /** From the first ring that is disabled on. */
  readonly stop: readonly string[];
}

/** @param queues how many rings were started: that many UPDATEs are sent unasked, those that follow answer a MISS */
export function conversationOf(said: readonly string[], queues = 2): Conversation {
  const features = said.findIndex((each) => each.startsWith("SET_FEATURES"));
  const disable = said.findIndex((each) => /^SET_VRING_ENABLE.* 0$/.test(each));
  const end = disable < 0 ? said.length : disable;
  const started = said.slice(features, end);
  const isIotlb = (each: string) => each.startsWith("IOTLB_MSG");
  const firstAnswer = started.findIndex((each, index) => {
    const before = started.slice(0, index).filter(isIotlb).length;
    return isIotlb(each) && before >= queues;
  });
  return {
    before: said.slice(0, features),
    start: firstAnswer < 0 ? started : started.slice(0, firstAnswer),
    stop: disable < 0 ? [] : said.slice(disable),
  };
}
