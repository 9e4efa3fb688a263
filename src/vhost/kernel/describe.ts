/** One line for every request of kernel vhost, with names for bits. Must not know who makes it. */
import { BACKEND_FEATURES, bitsOf, describeFeatures, hex } from "../../virtio/index.js";
import type { KernelRequest, KernelResult } from "./requests.js";

/** `VHOST_SET_VRING_NUM q0 num=128`, `VHOST_SET_FEATURES 0x300000000 [VERSION_1 ACCESS_PLATFORM]`. */
export function describeKernelRequest(request: KernelRequest): string {
  const details = detailsOf(request);
  return details === "" ? request.name : `${request.name} ${details}`;
}

function detailsOf(request: KernelRequest): string {
  switch (request.name) {
    case "VHOST_SET_OWNER":
    case "VHOST_GET_FEATURES":
    case "VHOST_GET_BACKEND_FEATURES":
      return "";
    case "VHOST_SET_FEATURES":
      return describeFeatures(request.features, "vsock");
    case "VHOST_SET_BACKEND_FEATURES":
      return describeBackendFeatures(request.features);
    case "VHOST_SET_MEM_TABLE": {
      const regions = request.regions.map(
        ({ guestAddress, size, userAddress }) =>
          `; gpa=${hex(guestAddress)} size=${hex(size)} user=${hex(userAddress)}`,
      );
      return `regions=${request.regions.length}${regions.join("")}`;
    }
    case "VHOST_SET_VRING_NUM":
    case "VHOST_SET_VRING_BASE":
      return `q${request.index} num=${request.num}`;
    case "VHOST_SET_VRING_ADDR": {
      const { desc, avail, used } = request.addresses;
      return `q${request.index} desc=${hex(desc)} used=${hex(used)} avail=${hex(avail)} log=${hex(request.log)}`;
    }
    case "VHOST_GET_VRING_BASE":
      return `q${request.index}`;
    case "VHOST_SET_VRING_KICK":
    case "VHOST_SET_VRING_CALL":
    case "VHOST_SET_VRING_ERR":
      return request.fd < 0 ? `q${request.index} no-fd` : `q${request.index}`;
    case "VHOST_VSOCK_SET_GUEST_CID":
      return String(request.cid);
    case "VHOST_VSOCK_SET_RUNNING":
      return request.running ? "1" : "0";
  }
}

/** What came back: the word or number of a request that gives one, `ok`, or the name of the error. */
export function describeKernelResult(request: KernelRequest, result: KernelResult): string {
  if (!result.ok) return result.errno;
  switch (request.name) {
    case "VHOST_GET_FEATURES":
      return describeFeatures(result.value, "vsock");
    case "VHOST_GET_BACKEND_FEATURES":
      return describeBackendFeatures(result.value);
    case "VHOST_GET_VRING_BASE":
      return String(result.value);
    default:
      return "ok";
  }
}

/** `0x2 [IOTLB_MSG_V2]`. */
export function describeBackendFeatures(word: bigint): string {
  const names = Object.entries(BACKEND_FEATURES);
  const nameOf = (bit: number): string => names.find(([, record]) => record.bit === bit)?.[0] ?? `bit${bit}`;
  return `${hex(word)} [${bitsOf(word).map(nameOf).join(" ")}]`;
}
