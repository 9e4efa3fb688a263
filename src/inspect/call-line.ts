/**
 * One line for a system call on a vhost device, or for what it returned: `VHOST_SET_FEATURES 0x300000000 [VERSION_1
 * ACCESS_PLATFORM]`, `VHOST_VSOCK_SET_RUNNING = -1 EFAULT (Bad address)`. Must not know sessions.
 */
import { describeBackendFeatures } from "../vhost/kernel/describe.js";
import { type DescribeOptions, describeIotlb, type Payload } from "../vhost/wire/index.js";
import { describeFeatures, hex } from "../virtio/index.js";
import type { SessionMessage, SystemCall } from "./message.js";

/** @param details what the payload says, where only the session knows that */
export function describeCall(
  { payload, isReply }: SessionMessage,
  { name, unseen, result }: SystemCall,
  options: DescribeOptions,
  details = payload === undefined ? "" : detailsOf(name, payload, isReply, options),
): string {
  const words = [name];
  if (result !== undefined) words.push("=", result.text);
  if (unseen !== undefined) words.push(`(${unseen})`);
  if (details !== "") words.push(details);
  return words.join(" ");
}

function detailsOf(
  name: string,
  payload: Payload,
  isReply: boolean,
  { deviceType }: DescribeOptions,
): string {
  switch (payload.kind) {
    case "u64":
      if (name.endsWith("_BACKEND_FEATURES")) return describeBackendFeatures(payload.value);
      if (name.endsWith("_FEATURES")) return describeFeatures(payload.value, deviceType);
      return name.startsWith("VHOST_VSOCK_") ? String(payload.value) : hex(payload.value);
    case "vringState":
      return name === "VHOST_GET_VRING_BASE" && !isReply
        ? `q${payload.index}`
        : `q${payload.index} num=${payload.num}`;
    case "vringFd":
      return payload.noFd ? `q${payload.index} no-fd` : `q${payload.index}`;
    case "memTable": {
      const regions = payload.regions.map(
        ({ guestAddress, size, userAddress }) =>
          `; gpa=${hex(guestAddress)} size=${hex(size)} user=${hex(userAddress)}`,
      );
      return `regions=${payload.regions.length}${regions.join("")}`;
    }
    case "iotlb":
      return describeIotlb(payload);
    default:
      return "";
  }
}
