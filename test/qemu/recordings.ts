/**
 * The recorded sessions as what was offered and what was said, from either kind of fixture: written-down lines, and
 * bytes as they crossed the socket.
 */
import { classOf } from "../../src/inspect/address-class.js";
import { decodeMessage, FrameDecoder, type MemRegion, type Message } from "../../src/vhost/wire/index.js";
import { VIOMMU_SESSION } from "../../src/vhost/wire/qemu-session.fixture.js";
import type { MachineOptions } from "../../src/vmm/negotiation.js";
import { saidIn } from "./conversation.js";
import { RECORDED_LINES, type RecordedLines } from "./recordings.fixture.js";

/** What a session is about: a machine, and a back-end's offer. */
export interface Situation {
  readonly name: string;
  readonly machine: MachineOptions;
  readonly features: bigint;
  readonly protocolFeatures: bigint;
}

export interface Recording extends Situation {
  /** The profile that has to do the same. */
  readonly vmm: string;
  /** As `saidIn` writes it. */
  readonly said: readonly string[];
}

export function recordings(): Recording[] {
  return [...RECORDED_LINES.map(fromLines), fromBytes()];
}

const machine = (iommuPlatform: boolean, viommu: boolean): MachineOptions => ({
  iommuPlatform,
  viommu,
  protectedMemory: false,
});

// ---- lines -----------------------------------------------------------------------------------------------------

function fromLines({ name, vmm, iommuPlatform, viommu, text }: RecordedLines): Recording {
  const lines = text.trim().split("\n");
  const answerTo = (request: string): bigint => {
    const found = lines.find((line) => line.startsWith(`${request} => `));
    return BigInt(found?.split(" => ")[1] ?? 0);
  };
  const regions = lines.flatMap(regionIn);
  return {
    name,
    vmm,
    machine: machine(iommuPlatform, viommu),
    features: answerTo("GET_FEATURES"),
    protocolFeatures: answerTo("GET_PROTOCOL_FEATURES"),
    said: lines.filter((line) => !line.startsWith(" ")).map((line) => said(line, regions)),
  };
}

function regionIn(line: string): MemRegion[] {
  const found = /^ {2}region gpa=(\S+) size=(\S+) uaddr=(\S+) off=(\S+)$/.exec(line);
  if (found === null) return [];
  const [guestAddress, size, userAddress, mmapOffset] = found.slice(1).map(BigInt);
  return [{ guestAddress, size, userAddress, mmapOffset }];
}

/** A recorded line in the words of `saidIn`. */
function said(line: string, regions: readonly MemRegion[]): string {
  const [request] = line.split(" => ");
  if (request.startsWith("SET_MEM_TABLE")) return request.replace("nregions", "regions");
  if (request.startsWith("SET_VRING_ADDR")) {
    const [index, flags, ...addresses] = request.split(" ").slice(1);
    const kinds = new Set(addresses.map((word) => classOf(BigInt(word.split("=")[1]), regions)));
    return `SET_VRING_ADDR ${index} ${flags} ${[...kinds].join("/")}`;
  }
  if (request.startsWith("IOTLB_MSG")) {
    const found = / UPDATE iova=\S+ size=(\S+) uaddr=(\S+) perm=(\d)/.exec(request);
    if (found === null) throw new Error(`not understood: ${line}`);
    const [, size, user, perm] = found;
    return `IOTLB_MSG NEED_REPLY UPDATE size=${size} perm=${perm} to ${classOf(BigInt(user), regions)}`;
  }
  return request.replace(/ (num|base|enable)=(\S+)$/, (_all, _name, value) => ` ${Number(value)}`);
}

// ---- bytes -----------------------------------------------------------------------------------------------------

function fromBytes(): Recording {
  const messages = VIOMMU_SESSION.filter(({ channel }) => channel === "frontend").map(({ hex, fds }) =>
    decoded(Buffer.from(hex, "hex"), fds),
  );
  const answerTo = (request: string): bigint => {
    const answer = messages.find(({ record, reply }) => reply && record.name === request)?.payload;
    return answer?.kind === "u64" ? answer.value : 0n;
  };
  return {
    name: "QEMU 7.2, virtio-iommu",
    vmm: "qemu-7.2",
    machine: machine(true, true),
    features: answerTo("GET_FEATURES"),
    protocolFeatures: answerTo("GET_PROTOCOL_FEATURES"),
    said: saidIn(messages.filter(({ reply }) => !reply)),
  };
}

function decoded(bytes: Uint8Array, fds: number): Message {
  const decoder = new FrameDecoder();
  decoder.push(
    bytes,
    Array.from({ length: fds }, (_, index) => index),
  );
  const frame = decoder.next();
  if (frame?.ok !== true) throw new Error("a recorded frame is not whole");
  const message = decodeMessage("frontend", frame.value);
  if (!message.ok) throw message.error;
  return message.value;
}
