/**
 * What a modelled back-end does with each message, as a table. A message that is not in it, or whose protocol feature
 * the profile does not offer, is one that the back-end does not know.
 */
import { MemoryError } from "../memory/errors.js";
import type { RegionInput } from "../memory/region.js";
import { type Answer, DONE, refused, reply, replyU64 } from "../vhost/answer.js";
import type { ReceivedFds } from "../vhost/descriptors.js";
import { packedBaseOf } from "../vhost/ring-queue.js";
import type { RingState } from "../vhost/ring-state.js";
import {
  decodeSplitBase,
  describeIotlb,
  type FrontendMessageName,
  type MemRegion,
  type Message,
  type PayloadKind,
  type PayloadOf,
} from "../vhost/wire/index.js";
import { describeFeatures, describeProtocolFeatures, F, has } from "../virtio/index.js";
import { isQueueSize } from "../virtqueue/layout.js";
import { isPackedQueueSize } from "../virtqueue/packed-layout.js";
import type { BackendCore } from "./backend-core.js";

export type PeerHandler = (core: BackendCore, message: Message, fds: ReceivedFds) => Answer;

function taking<K extends PayloadKind>(
  kind: K,
  handle: (core: BackendCore, payload: PayloadOf<K>, fds: ReceivedFds) => Answer,
): PeerHandler {
  return (core, { payload }, fds) =>
    payload.kind === kind
      ? handle(core, payload as PayloadOf<K>, fds)
      : refused(`it carries ${payload.kind}, not ${kind}`);
}

function onRing<K extends "vringState" | "vringAddr" | "vringFd">(
  kind: K,
  handle: (core: BackendCore, ring: RingState, payload: PayloadOf<K>, fds: ReceivedFds) => Answer,
): PeerHandler {
  return taking(kind, (core, payload, fds) => {
    const { index } = payload as unknown as { index: number };
    const ring = core.model.rings.all[index];
    return ring === undefined ? refused(`there is no queue ${index}`) : handle(core, ring, payload, fds);
  });
}

function inputOf({ guestAddress, size, userAddress, mmapOffset }: MemRegion): RegionInput {
  return { gpa: guestAddress, size, uva: userAddress, mmapOffset };
}

/** A change of the memory table; what rings wait for may have come. */
function changingMemory(core: BackendCore, change: () => void): Answer {
  try {
    change();
  } catch (error) {
    if (error instanceof MemoryError) return refused(error.message);
    throw error;
  }
  core.plane.memoryAvailable();
  return DONE;
}

const setFeatures = taking("u64", (core, { value }) =>
  core.setFeatures(value)
    ? DONE
    : refused(`${describeFeatures(value & ~core.offeredFeatures, "vsock")} was acknowledged and not offered`),
);

const setProtocolFeatures = taking("u64", (core, { value }) => {
  const unoffered = value & ~core.device.protocolFeatures;
  if (unoffered !== 0n) return refused(`${describeProtocolFeatures(unoffered)} was not offered`);
  core.setProtocolFeatures(value);
  return DONE;
});

const setMemTable = taking("memTable", (core, { regions }, fds) =>
  changingMemory(core, () => {
    const taken = fds.takeAll();
    core.model.setMemory(regions.map((region, index) => ({ region: inputOf(region), fd: taken[index] })));
  }),
);

const addMemReg = taking("memRegion", (core, { region }, fds) => {
  const fd = fds.take();
  if (fd === undefined) return refused("no descriptor came with it");
  return changingMemory(core, () => {
    core.model.memory.add(inputOf(region), fd);
    core.model.hasMemoryTable = true;
  });
});

const remMemReg = taking("memRegion", (core, { region }) =>
  changingMemory(core, () => core.model.memory.remove(inputOf(region))),
);

const setVringNum = onRing("vringState", (core, ring, { num }) => {
  const isPacked = has(core.model.features, F.RING_PACKED);
  if (isPacked ? !isPackedQueueSize(num) : !isQueueSize(num)) return refused(`${num} is no queue size`);
  ring.size = num;
  return DONE;
});

const setVringBase = onRing("vringState", (core, ring, { num }) => {
  const isPacked = has(core.model.features, F.RING_PACKED);
  ring.base = isPacked ? packedBaseOf(ring, num) : decodeSplitBase(num);
  return DONE;
});

const setVringAddr = onRing("vringAddr", (core, ring, { desc, avail, used }) => {
  const { model } = core;
  model.rings.stop(ring, "its addresses were set anew");
  ring.addresses = { desc, avail, used };
  ring.broken = false;
  ring.held = false;
  if (core.isStrict && !model.isInMemory(ring))
    return refused("a ring address is not a user address of the memory table");
  return DONE;
});

const setVringEnable = onRing("vringState", (_core, ring, { num }) => {
  ring.enabled = num === 1;
  return DONE;
});

const getVringBase = onRing("vringState", (core, ring, { index }) => {
  core.model.retire(ring);
  return reply({ kind: "vringState", index, num: ring.base });
});

const setVringKick = onRing("vringFd", (core, ring, { noFd }, fds) => {
  const fd = noFd ? -1 : fds.takeEventfd();
  if (typeof fd === "string") return refused(fd);
  core.model.rings.stop(ring, "its kick eventfd was replaced");
  ring.kick.put(fd);
  ring.started = true;
  ring.broken = false;
  return DONE;
});

/** SET_VRING_CALL and SET_VRING_ERR: a descriptor that is only written. */
const setBell = (slot: "call" | "error"): PeerHandler =>
  onRing("vringFd", (_core, ring, { noFd }, fds) => {
    const fd = noFd ? -1 : fds.takeBell();
    if (typeof fd === "string") return refused(fd);
    ring[slot].put(fd);
    return DONE;
  });

const setBackendReqFd: PeerHandler = (core, _message, fds) => {
  const fd = fds.take();
  if (fd === undefined) return refused("no descriptor came with it");
  const problem = core.openChannel(fd);
  return problem === undefined ? DONE : refused(problem);
};

const iotlbMessage = taking("iotlb", (core, message) => {
  if (!core.knowsIotlb) return refused("it does not know this message");
  const result = core.model.iotlbMessage(message);
  if (!result.ok) return refused(`${describeIotlb(message)}: ${result.errno}`);
  core.plane.memoryAvailable();
  return replyU64(0n);
});

const getConfig = taking("config", (core, { offset, flags, data }) => {
  const bytes = core.plane.readConfig(offset, data.length);
  return bytes === undefined
    ? refused(`there is no configuration of ${data.length} bytes at ${offset}`)
    : reply({ kind: "config", offset, flags, data: bytes });
});

const setStatus = taking("u64", (core, { value }) => {
  if (value === 0n) core.resetDevice("the driver wrote status 0");
  core.status = Number(value & 0xffn);
  return DONE;
});

export const PEER_HANDLERS: Readonly<Partial<Record<FrontendMessageName, PeerHandler>>> = {
  GET_FEATURES: (core) => replyU64(core.offeredFeatures),
  SET_FEATURES: setFeatures,
  SET_OWNER: () => DONE,
  RESET_OWNER: (core) => {
    core.model.rings.stopAll("the front-end gave up ownership");
    for (const ring of core.model.rings.all) ring.enabled = false;
    return DONE;
  },
  SET_MEM_TABLE: setMemTable,
  SET_VRING_NUM: setVringNum,
  SET_VRING_ADDR: setVringAddr,
  SET_VRING_BASE: setVringBase,
  GET_VRING_BASE: getVringBase,
  SET_VRING_KICK: setVringKick,
  SET_VRING_CALL: setBell("call"),
  SET_VRING_ERR: setBell("error"),
  GET_PROTOCOL_FEATURES: (core) => replyU64(core.device.protocolFeatures),
  SET_PROTOCOL_FEATURES: setProtocolFeatures,
  GET_QUEUE_NUM: (core) => replyU64(BigInt(core.model.rings.all.length)),
  SET_VRING_ENABLE: setVringEnable,
  SET_BACKEND_REQ_FD: setBackendReqFd,
  IOTLB_MSG: iotlbMessage,
  GET_CONFIG: getConfig,
  SET_CONFIG: () => refused("the configuration space is read-only"),
  RESET_DEVICE: (core) => {
    core.resetDevice("the front-end reset the device");
    return DONE;
  },
  GET_MAX_MEM_SLOTS: (core) => replyU64(BigInt(core.model.memory.mostRegions)),
  ADD_MEM_REG: addMemReg,
  REM_MEM_REG: remMemReg,
  SET_STATUS: setStatus,
  GET_STATUS: (core) => replyU64(BigInt(core.status)),
};
