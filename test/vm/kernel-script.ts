/**
 * A conversation with /dev/vhost-vsock as data: a list of steps, each of which has a result of one line. The same list
 * is run by the real kernel in a guest (kernel-guest.ts) and by a model of it (kernel-replay.ts). Owns the steps and
 * their text; must not know what any script is about (kernel-scripts.ts).
 */
import type { KernelRequest } from "../../src/vhost/kernel/requests.js";
import type { IotlbMessage } from "../../src/vhost/wire/index.js";

/** The memory of the probing program: mapped there on either side, so that both are told the same addresses. */
export const MEMORY_USER = 0x10_0000_0000n;
export const MEMORY_BYTES = 0x8000n;

/** A range of user addresses with memory behind it. */
export interface ScriptMemory {
  readonly address: bigint;
  readonly bytes: bigint;
}

const OWN_MEMORY: readonly ScriptMemory[] = [{ address: MEMORY_USER, bytes: MEMORY_BYTES }];

type VringFileRequest = Extract<KernelRequest, { fd: number }>;
type MemoryRequest = Extract<KernelRequest, { name: "VHOST_SET_MEM_TABLE" }>;

export interface ScriptRegion {
  readonly guestAddress: bigint;
  readonly size: bigint;
  readonly userAddress: bigint;
}

/** A request whose descriptors are left to whoever runs it. */
export type ScriptRequest =
  | Exclude<KernelRequest, VringFileRequest | MemoryRequest>
  | { readonly name: VringFileRequest["name"]; readonly index: number; readonly fd: "eventfd" | "none" }
  | { readonly name: MemoryRequest["name"]; readonly regions: readonly ScriptRegion[] };

/** `device`: two can be open at once. */
export type KernelStep =
  | { readonly step: "open" | "close"; readonly device: number }
  | { readonly step: "ioctl"; readonly device: number; readonly request: ScriptRequest }
  | { readonly step: "write"; readonly device: number; readonly message: IotlbMessage }
  /** What the device asks: every MISS that waits is read. */
  | { readonly step: "questions"; readonly device: number }
  /** What a driver writes into its memory, and what it finds there. `offset` counts from MEMORY_USER. */
  | { readonly step: "poke"; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly step: "peek"; readonly offset: number; readonly bytes: number; readonly what: string }
  | { readonly step: "kick"; readonly device: number; readonly ring: number }
  /** Waits until the device has done all that it had to do. */
  | { readonly step: "settle"; readonly device: number }
  /** Which of a ring's eventfds were signalled since the last time: "call", "err". */
  | { readonly step: "signals"; readonly device: number; readonly ring: number };

export interface KernelScript {
  readonly name: string;
  /** Default: MEMORY_BYTES at MEMORY_USER. */
  readonly memory?: readonly ScriptMemory[];
  readonly steps: readonly KernelStep[];
}

export function memoryOf({ memory }: KernelScript): readonly ScriptMemory[] {
  return memory ?? OWN_MEMORY;
}

/** A step with its result, as both sides are compared. */
export function transcriptLine(step: KernelStep, result: string): string {
  const what = step.step === "peek" ? ` (${step.what})` : "";
  return `${stepLine(step)}${what}: ${step.step === "questions" ? distinct(result) : result}`;
}

/**
 * Which questions, not how many of the same and in which order: the kernel asks again at each kick, and its two rings
 * are served by a worker that comes to them when it comes.
 */
function distinct(questions: string): string {
  const [verdict, ...asked] = questions.split(" ");
  return [verdict, ...[...new Set(asked)].sort()].join(" ");
}

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** The step as the program in the guest reads it (guest/vhost-probe.c). */
export function stepLine(step: KernelStep): string {
  switch (step.step) {
    case "ioctl":
      return ["ioctl", step.device, step.request.name, ...requestWords(step.request)].join(" ");
    case "write": {
      const { type, iova, size, userAddress, perm } = step.message;
      return `write ${step.device} ${type} ${hex(iova)} ${hex(size)} ${hex(userAddress)} ${perm}`;
    }
    case "poke":
      return `poke ${hex(MEMORY_USER + BigInt(step.offset))} ${Buffer.from(step.bytes).toString("hex")}`;
    case "peek":
      return `peek ${hex(MEMORY_USER + BigInt(step.offset))} ${step.bytes}`;
    case "kick":
    case "signals":
      return `${step.step} ${step.device} ${step.ring}`;
    default:
      return `${step.step} ${step.device}`;
  }
}

function requestWords(request: ScriptRequest): (string | number)[] {
  switch (request.name) {
    case "VHOST_SET_OWNER":
    case "VHOST_GET_FEATURES":
    case "VHOST_GET_BACKEND_FEATURES":
      return [];
    case "VHOST_SET_FEATURES":
    case "VHOST_SET_BACKEND_FEATURES":
      return [hex(request.features)];
    case "VHOST_SET_MEM_TABLE":
      return request.regions.flatMap(({ guestAddress, size, userAddress }) =>
        [guestAddress, size, userAddress].map(hex),
      );
    case "VHOST_SET_VRING_NUM":
    case "VHOST_SET_VRING_BASE":
      return [request.index, hex(request.num)];
    case "VHOST_GET_VRING_BASE":
      return [request.index];
    case "VHOST_SET_VRING_ADDR": {
      const { desc, used, avail } = request.addresses;
      return [request.index, ...[desc, used, avail, request.log].map(hex)];
    }
    case "VHOST_SET_VRING_KICK":
    case "VHOST_SET_VRING_CALL":
    case "VHOST_SET_VRING_ERR":
      return [request.index, request.fd];
    case "VHOST_VSOCK_SET_GUEST_CID":
      return [hex(request.cid)];
    case "VHOST_VSOCK_SET_RUNNING":
      return [Number(request.running)];
  }
}
