/** One line for every vhost-user message, with names for bits. Logs, test names and the inspector use it. */
import {
  type DeviceType,
  describeFeatures,
  describeProtocolFeatures,
  describeStatus,
  hex,
} from "../../virtio/index.js";
import type { Frame } from "./frame-decoder.js";
import { isReply, needsReply } from "./header.js";
import type { Message } from "./message.js";
import type { U64Meaning } from "./message-record.js";
import type { NamedMessage } from "./messages.js";
import { IOTLB_TYPE, type IotlbMessage, type MemRegion, type Payload, VRING_FLAG_LOG } from "./payload.js";

/** What a printer has to know to give bits their names. */
export interface DescribeOptions {
  readonly deviceType?: DeviceType;
  /** Where the experimental explicit IOTLB sits, if not at its default. */
  readonly explicitIotlbBit?: number;
}

/**
 * One line: `SET_VRING_ADDR q0 desc=0x7f… used=0x7f… avail=0x7f… log=0x5…`, `GET_FEATURES REPLY 0x1… […]`,
 * `BACKEND_IOTLB_MSG MISS iova=0xfffff000 perm=r`; with `NEED_REPLY` and `fds=N` where they apply.
 */
export function describeMessage(message: Message, options: DescribeOptions = {}): string {
  const { record, channel, payload, reply, fds } = message;
  const meaning = reply ? (record.u64?.reply ?? "result") : (record.u64?.request ?? "number");
  const words = [channel === "backend" ? `BACKEND_${record.name}` : record.name];
  if (reply) words.push("REPLY");
  if (message.needReply) words.push("NEED_REPLY");
  words.push(describePayload(payload, meaning, options));
  if (fds.length > 0) words.push(`fds=${fds.length}`);
  return words.filter((word) => word !== "").join(" ");
}

/** What a reply says, without the name of its message: `0x1… […]`, `q0 num=7`. */
export function describeReply(record: NamedMessage, payload: Payload, options: DescribeOptions = {}): string {
  return describePayload(payload, record.u64?.reply ?? "result", options);
}

/** One line for a frame that could not be decoded: numbers only. */
export function describeFrame({ header, fds }: Frame): string {
  const words = [`request ${header.request}`];
  if (isReply(header)) words.push("REPLY");
  if (needsReply(header)) words.push("NEED_REPLY");
  words.push(`${header.size} bytes`);
  if (fds.length > 0) words.push(`fds=${fds.length}`);
  return words.join(" ");
}

/** One line for an IOTLB message: `UPDATE iova=0x1000 size=0x1000 user=0x7f… perm=rw`. */
export function describeIotlb({ iova, size, userAddress, perm, type }: IotlbMessage): string {
  const name = Object.entries(IOTLB_TYPE).find(([, value]) => value === type)?.[0] ?? `type${type}`;
  switch (type) {
    case IOTLB_TYPE.UPDATE:
      return `${name} iova=${hex(iova)} size=${hex(size)} user=${hex(userAddress)} perm=${describePerm(perm)}`;
    case IOTLB_TYPE.INVALIDATE:
      return `${name} iova=${hex(iova)} size=${hex(size)}`;
    case IOTLB_TYPE.MISS:
    case IOTLB_TYPE.ACCESS_FAIL:
      return `${name} iova=${hex(iova)} perm=${describePerm(perm)}`;
    default:
      return name;
  }
}

function describePerm(perm: number): string {
  return ["none", "r", "w", "rw"][perm] ?? String(perm);
}

function describeRegion({ guestAddress, size, userAddress, mmapOffset, xen }: MemRegion): string {
  const line = `gpa=${hex(guestAddress)} size=${hex(size)} user=${hex(userAddress)} offset=${hex(mmapOffset)}`;
  return xen === undefined ? line : `${line} xen-flags=${hex(xen.flags)} domid=${xen.domid}`;
}

function describeU64(value: bigint, meaning: U64Meaning, options: DescribeOptions): string {
  switch (meaning) {
    case "features":
      return describeFeatures(value, options.deviceType);
    case "protocolFeatures":
      return describeProtocolFeatures(value, options.explicitIotlbBit);
    case "status":
      return describeStatus(value);
    case "count":
      return value.toString();
    case "result":
      return value === 0n ? "ok" : `failed (${value})`;
    case "number":
      return hex(value);
  }
}

function describePayload(payload: Payload, meaning: U64Meaning, options: DescribeOptions): string {
  switch (payload.kind) {
    case "none":
      return "";
    case "u64":
      return describeU64(payload.value, meaning, options);
    case "vringState":
      return `q${payload.index} num=${payload.num}`;
    case "vringAddr": {
      const log = (payload.flags & VRING_FLAG_LOG) !== 0 ? " LOG" : "";
      return (
        `q${payload.index} desc=${hex(payload.desc)} used=${hex(payload.used)} avail=${hex(payload.avail)} ` +
        `log=${hex(payload.log)}${log}`
      );
    }
    case "vringFd":
      return payload.noFd ? `q${payload.index} no-fd` : `q${payload.index}`;
    case "memTable":
      return `regions=${payload.regions.length}${payload.regions.map((r) => `; ${describeRegion(r)}`).join("")}`;
    case "memRegion":
      return describeRegion(payload.region);
    case "log":
      return `size=${hex(payload.size)} offset=${hex(payload.offset)}`;
    case "iotlb":
      return describeIotlb(payload);
    case "config":
      return `offset=${payload.offset} size=${payload.data.byteLength} flags=${payload.flags} data=${hexBytes(payload.data)}`;
    case "vringArea":
      return `q${payload.vring & 0xffn} size=${hex(payload.size)} offset=${hex(payload.offset)}`;
    case "inflight":
      return (
        `size=${hex(payload.mmapSize)} offset=${hex(payload.mmapOffset)} queues=${payload.queueCount} ` +
        `queue-size=${payload.queueSize}`
      );
    case "sharedObject":
      return `uuid=${hexBytes(payload.uuid)}`;
    case "deviceState":
      return `${["save", "load"][payload.direction] ?? payload.direction} phase=${payload.phase}`;
    case "shmemConfig":
      return `regions=${payload.regionCount} sizes=${payload.sizes.map((size) => hex(size)).join(",")}`;
    case "shmemMap":
      return (
        `shmid=${payload.shmid} fd-offset=${hex(payload.fdOffset)} offset=${hex(payload.shmOffset)} ` +
        `size=${hex(payload.size)} flags=${hex(payload.flags)}`
      );
    case "opaque":
      return `${payload.bytes.byteLength} bytes`;
  }
}

/** Bytes as hexadecimal, cut where a line would no longer be one. */
function hexBytes(bytes: Uint8Array): string {
  const shown = Buffer.from(bytes.subarray(0, 32)).toString("hex");
  return bytes.byteLength > 32 ? `${shown}…` : shown;
}
