/**
 * What the real kernel and our model of it are both asked: every negotiation that a profile of a kernel device models,
 * and the requests around it that can fail. Data only: no result is expected here, the two are compared.
 */
import { IOTLB_PERM, IOTLB_TYPE, type IotlbMessage } from "../../src/vhost/wire/index.js";
import { F, maskOf, VSOCK_F } from "../../src/virtio/index.js";
import { AVAIL, availRingOffset, DESC_BYTES, USED } from "../../src/virtqueue/layout.js";
import { HEADER_BYTES, HOST_CID, Op, SocketType } from "../../src/vsock/header.js";
import {
  type KernelScript,
  type KernelStep,
  MEMORY_BYTES,
  MEMORY_USER,
  type ScriptRegion,
  type ScriptRequest,
} from "./kernel-script.js";

// ---- addresses -------------------------------------------------------------------------------------------------

const PAGE = 0x1000;
const RX = 0;
const TX = 1;
const RING_SIZE = 8;
const GUEST_CID = 3n;
const NOBODYS_PORT = 999;
const GUEST_PORT = 1111;

/** Every area has a page of its own, so that each can be mapped without the others. */
const AREAS = [
  { desc: 0 * PAGE, avail: 1 * PAGE, used: 2 * PAGE },
  { desc: 3 * PAGE, avail: 4 * PAGE, used: 5 * PAGE },
] as const;
const RX_BUFFER = 6 * PAGE;
const TX_HEADER = 7 * PAGE;

const user = (offset: number): bigint => MEMORY_USER + BigInt(offset);
const gpa = (offset: number): bigint => 0x10_0000n + BigInt(offset);
const iova = (offset: number): bigint => 0xfff0_0000n + BigInt(offset);
type AddressOf = (offset: number) => bigint;

/** Inside no user's half of the address space: what access_ok() refuses on x86-64. */
const KERNEL_ADDRESS = 0xffff_8000_0000_0000n;
/** A user address at which nothing is. */
const NOWHERE = 0x20_0000_0000n;

const PLAIN = maskOf(F.VERSION_1);
const WITH_33 = maskOf(F.VERSION_1, F.ACCESS_PLATFORM);

// ---- steps -----------------------------------------------------------------------------------------------------

const open = (device = 0): KernelStep => ({ step: "open", device });
const close = (device = 0): KernelStep => ({ step: "close", device });
const ioctl = (request: ScriptRequest, device = 0): KernelStep => ({ step: "ioctl", device, request });
const settle: KernelStep = { step: "settle", device: 0 };
const questions: KernelStep = { step: "questions", device: 0 };
/** A mapping that comes sets a waiting ring going at once, so the device settles before the next step. */
const write = (message: IotlbMessage): KernelStep[] => [{ step: "write", device: 0, message }, settle];

const owner = ioctl({ name: "VHOST_SET_OWNER" });
const features = (word: bigint): KernelStep => ioctl({ name: "VHOST_SET_FEATURES", features: word });
const backendFeatures = (word: bigint): KernelStep =>
  ioctl({ name: "VHOST_SET_BACKEND_FEATURES", features: word });
const cid = (value: bigint, device = 0): KernelStep =>
  ioctl({ name: "VHOST_VSOCK_SET_GUEST_CID", cid: value }, device);
const running = (on: boolean): KernelStep => ioctl({ name: "VHOST_VSOCK_SET_RUNNING", running: on });
/** The rings are looked at as soon as they run. */
const start = [running(true), settle];
const memory = (...regions: ScriptRegion[]): KernelStep => ioctl({ name: "VHOST_SET_MEM_TABLE", regions });
const allMemory = memory({ guestAddress: gpa(0), size: MEMORY_BYTES, userAddress: user(0) });
const num = (index: number, value: number): KernelStep =>
  ioctl({ name: "VHOST_SET_VRING_NUM", index, num: value });
const base = (index: number, value: number): KernelStep =>
  ioctl({ name: "VHOST_SET_VRING_BASE", index, num: value });
const bases: KernelStep[] = [RX, TX].map((index) => ioctl({ name: "VHOST_GET_VRING_BASE", index }));

function ringAddresses(index: number, addressOf: AddressOf): KernelStep {
  const areas = AREAS[index];
  const addresses = {
    desc: addressOf(areas.desc),
    avail: addressOf(areas.avail),
    used: addressOf(areas.used),
  };
  return ioctl({ name: "VHOST_SET_VRING_ADDR", index, addresses, log: 0n });
}

function ring(index: number, addressOf: AddressOf): KernelStep[] {
  return [
    num(index, RING_SIZE),
    base(index, 0),
    ringAddresses(index, addressOf),
    ioctl({ name: "VHOST_SET_VRING_KICK", index, fd: "eventfd" }),
    ioctl({ name: "VHOST_SET_VRING_CALL", index, fd: "eventfd" }),
    ioctl({ name: "VHOST_SET_VRING_ERR", index, fd: "eventfd" }),
  ];
}

const rings = (addressOf: AddressOf): KernelStep[] => [...ring(RX, addressOf), ...ring(TX, addressOf)];

/** Everything up to SET_RUNNING. */
function setUp(word: bigint, addressOf: AddressOf): KernelStep[] {
  return [open(), owner, features(word), allMemory, cid(GUEST_CID), ...rings(addressOf)];
}

// ---- IOTLB messages --------------------------------------------------------------------------------------------

function update(offset: number, bytes = PAGE, perm: number = IOTLB_PERM.readWrite): KernelStep[] {
  const message = { iova: iova(offset), size: BigInt(bytes), userAddress: user(offset), perm };
  return write({ type: IOTLB_TYPE.UPDATE, ...message });
}

function invalidate(offset: number, bytes = PAGE): KernelStep[] {
  const message = { iova: iova(offset), size: BigInt(bytes), userAddress: 0n, perm: 0 };
  return write({ type: IOTLB_TYPE.INVALIDATE, ...message });
}

const mapUsed = [...update(AREAS[RX].used), ...update(AREAS[TX].used)];
const mapTables = AREAS.flatMap(({ desc, avail }) => [...update(desc), ...update(avail)]);
const mapRings = [...mapUsed, ...mapTables];
const mapBuffers = [...update(RX_BUFFER), ...update(TX_HEADER)];

// ---- the driver ------------------------------------------------------------------------------------------------

const poke = (offset: number, bytes: Uint8Array): KernelStep => ({ step: "poke", offset, bytes });
const peek = (offset: number, bytes: number, what: string): KernelStep => ({
  step: "peek",
  offset,
  bytes,
  what,
});
const kick = (index: number): KernelStep => ({ step: "kick", device: 0, ring: index });

function littleEndian(width: 2 | 4 | 8, value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes.subarray(0, width);
}

const DESC_WRITE = 2;

/** The n-th buffer of a ring, n from 0: its descriptor, and its place in the avail ring. */
function offer(index: number, n: number, address: bigint, bytes: number, flags: number): KernelStep[] {
  const { desc, avail } = AREAS[index];
  return [
    poke(
      desc + n * DESC_BYTES,
      Buffer.concat([
        littleEndian(8, address),
        littleEndian(4, bytes),
        littleEndian(2, flags),
        littleEndian(2, 0),
      ]),
    ),
    poke(avail + availRingOffset(n), littleEndian(2, n)),
    poke(avail + AVAIL.idx.offset, littleEndian(2, n + 1)),
  ];
}

/** One receive buffer; each has 256 bytes of the page. */
const offerBuffer = (n: number, addressOf: AddressOf): KernelStep[] =>
  offer(RX, n, addressOf(RX_BUFFER + n * 256), 256, DESC_WRITE);

/** A REQUEST to a port that nobody serves, which the device answers with RST; and both kicks. */
function send(n: number, addressOf: AddressOf): KernelStep[] {
  const header = Buffer.concat([
    littleEndian(8, GUEST_CID),
    littleEndian(8, HOST_CID),
    littleEndian(4, GUEST_PORT + n),
    littleEndian(4, NOBODYS_PORT),
    littleEndian(4, 0),
    littleEndian(2, SocketType.STREAM),
    littleEndian(2, Op.REQUEST),
    littleEndian(4, 0),
    littleEndian(4, 0x4_0000),
    littleEndian(4, 0),
  ]);
  return [
    ...offerBuffer(n, addressOf),
    poke(TX_HEADER + n * 64, header),
    ...offer(TX, n, addressOf(TX_HEADER + n * 64), HEADER_BYTES, 0),
    kick(RX),
    kick(TX),
    settle,
  ];
}

const signals: KernelStep[] = [RX, TX].map((ring) => ({ step: "signals", device: 0, ring }));

/** How far both used rings are, and who was told. */
const progress: KernelStep[] = [
  peek(AREAS[TX].used + USED.idx.offset, 2, "packets taken"),
  peek(AREAS[RX].used + USED.idx.offset, 2, "packets received"),
  ...signals,
];

/** CIDs, ports, length, type and operation of the n-th packet that came. */
const received = (n: number): KernelStep => peek(RX_BUFFER + n * 256, 32, "the packet received");

const exchange = (n: number, addressOf: AddressOf): KernelStep[] => [
  ...send(n, addressOf),
  ...progress,
  received(n),
];

const stop: KernelStep[] = [running(false), ...bases];

// ---- scripts ---------------------------------------------------------------------------------------------------

const script = (name: string, ...steps: (KernelStep | KernelStep[])[]): KernelScript => ({
  name,
  steps: steps.flat(),
});

const getFeatures = ioctl({ name: "VHOST_GET_FEATURES" });
const getBackendFeatures = ioctl({ name: "VHOST_GET_BACKEND_FEATURES" });

const offers: KernelScript[] = [
  script("what is offered", open(), owner, getFeatures, getBackendFeatures),
  script("who may ask before SET_OWNER", open(), getFeatures, getBackendFeatures, allMemory, running(true)),
  script("SET_OWNER twice", open(), owner, owner),
  script(
    "feature bits that were not offered",
    open(),
    owner,
    ...[
      VSOCK_F.VSOCK_SEQPACKET,
      F.RING_PACKED,
      F.IN_ORDER,
      F.ORDER_PLATFORM,
      F.RING_RESET,
      F.PROTOCOL_FEATURES,
    ].map((bit) => features(maskOf(F.VERSION_1, bit))),
    features(PLAIN),
  ),
  script(
    "backend features",
    open(),
    owner,
    backendFeatures(0n),
    backendFeatures(2n),
    backendFeatures(4n),
    backendFeatures(0xffn),
  ),
];

const negotiations: KernelScript[] = [
  script("no bit 33", setUp(PLAIN, user), start, exchange(0, gpa), exchange(1, gpa), questions, stop),
  script(
    "bit 33, nothing mapped, user addresses in the rings: the incident",
    setUp(WITH_33, user),
    start,
    questions,
    signals,
    start,
    questions,
    stop,
  ),
  script("bit 33, nothing mapped, IOVAs in the rings", setUp(WITH_33, iova), start, questions),
  script(
    "bit 33 masked by the VMM, the guest uses guest-physical addresses",
    setUp(WITH_33 & PLAIN, user),
    start,
    exchange(0, gpa),
    stop,
  ),
  script(
    "everything mapped before the start",
    setUp(WITH_33, iova),
    mapRings,
    mapBuffers,
    start,
    exchange(0, iova),
    questions,
    exchange(1, iova),
    stop,
  ),
  script(
    "one mapping over everything",
    setUp(WITH_33, iova),
    update(0, Number(MEMORY_BYTES)),
    start,
    exchange(0, iova),
    questions,
    stop,
  ),
  script(
    "rings mapped, buffers asked for one by one",
    setUp(WITH_33, iova),
    mapRings,
    start,
    send(0, iova),
    questions,
    progress,
    update(TX_HEADER),
    questions,
    progress,
    update(RX_BUFFER),
    questions,
    progress,
    received(0),
    stop,
  ),
  script(
    "used rings mapped, the other areas asked for one by one",
    setUp(WITH_33, iova),
    mapUsed,
    start,
    send(0, iova),
    questions,
    progress,
    AREAS.flatMap(({ desc, avail }) => [...update(desc), questions, ...update(avail), questions]),
    progress,
    update(TX_HEADER),
    questions,
    update(RX_BUFFER),
    questions,
    progress,
    stop,
  ),
  script(
    "mapped before the question was read",
    setUp(WITH_33, iova),
    mapRings,
    start,
    send(0, iova),
    mapBuffers,
    progress,
    questions,
    kick(TX),
    settle,
    questions,
    progress,
  ),
  script(
    "one used ring mapped, the other not",
    setUp(WITH_33, iova),
    update(AREAS[RX].used),
    start,
    questions,
    update(AREAS[TX].used),
    start,
    send(0, iova),
    questions,
  ),
  script(
    "messages of the second form",
    open(),
    owner,
    features(WITH_33),
    backendFeatures(2n),
    allMemory,
    cid(GUEST_CID),
    rings(iova),
    mapRings,
    start,
    send(0, iova),
    questions,
    update(TX_HEADER),
    questions,
    update(RX_BUFFER),
    progress,
  ),
  script(
    "a mapping that is asked for again and again",
    setUp(WITH_33, iova),
    mapRings,
    start,
    send(0, iova),
    kick(TX),
    settle,
    kick(TX),
    settle,
    questions,
    update(TX_HEADER),
    questions,
  ),
];

const toggles: KernelScript[] = [
  script(
    "bit 33 turned on after the ring addresses",
    setUp(PLAIN, user),
    features(WITH_33),
    start,
    questions,
  ),
  script(
    "bit 33 turned on after the ring addresses, rings mapped at their user addresses",
    setUp(PLAIN, iova),
    features(WITH_33),
    mapRings,
    mapBuffers,
    start,
    questions,
    exchange(0, iova),
    questions,
  ),
  script(
    "bit 33 turned off after the ring addresses",
    setUp(WITH_33, user),
    features(PLAIN),
    start,
    questions,
    exchange(0, gpa),
  ),
  script(
    "bit 33 turned off, then ring addresses",
    setUp(WITH_33, iova),
    features(PLAIN),
    ringAddresses(RX, user),
    ringAddresses(TX, user),
    start,
    exchange(0, gpa),
  ),
  script(
    "bit 33 again: the IOTLB is empty again",
    setUp(WITH_33, iova),
    mapRings,
    mapBuffers,
    features(WITH_33),
    start,
    questions,
    mapUsed,
    start,
    send(0, iova),
    questions,
  ),
  script(
    "bit 33 turned on after the ring addresses, then ring addresses again",
    setUp(PLAIN, user),
    features(WITH_33),
    ringAddresses(RX, iova),
    ringAddresses(TX, iova),
    mapRings,
    mapBuffers,
    start,
    exchange(0, iova),
    questions,
  ),
  script(
    "bit 33 turned on while the rings run",
    setUp(PLAIN, user),
    start,
    exchange(0, gpa),
    features(WITH_33),
    send(1, gpa),
    progress,
    questions,
    stop,
  ),
  script(
    "bit 33 turned off while the rings run",
    setUp(WITH_33, iova),
    mapRings,
    mapBuffers,
    start,
    exchange(0, iova),
    features(PLAIN),
    send(1, iova),
    progress,
    questions,
    stop,
  ),
  script(
    "bit 33 again while the rings run",
    setUp(WITH_33, iova),
    mapRings,
    mapBuffers,
    start,
    exchange(0, iova),
    features(WITH_33),
    send(1, iova),
    progress,
    questions,
    mapRings,
    mapBuffers,
    progress,
    questions,
    stop,
  ),
  script(
    "mapped before bit 33",
    open(),
    owner,
    features(PLAIN),
    allMemory,
    cid(GUEST_CID),
    mapRings,
    features(WITH_33),
    rings(iova),
    start,
    questions,
  ),
  script(
    "backend features after the mappings",
    setUp(WITH_33, iova),
    mapRings,
    backendFeatures(2n),
    start,
    send(0, iova),
    questions,
  ),
  script("LOG_ALL", setUp(PLAIN | maskOf(F.LOG_ALL), user), start, exchange(0, gpa), stop),
];

const invalidations: KernelScript[] = [
  script(
    "a page of a buffer is taken away",
    setUp(WITH_33, iova),
    mapRings,
    mapBuffers,
    start,
    exchange(0, iova),
    invalidate(TX_HEADER),
    send(1, iova),
    questions,
    progress,
    update(TX_HEADER),
    questions,
    progress,
    received(1),
  ),
  script(
    "one page of a large mapping is taken away, and all of it goes",
    setUp(WITH_33, iova),
    update(0, Number(MEMORY_BYTES)),
    start,
    exchange(0, iova),
    invalidate(TX_HEADER),
    send(1, iova),
    questions,
    update(0, Number(MEMORY_BYTES)),
    questions,
    progress,
  ),
  script(
    "a ring's page is taken away and given back",
    setUp(WITH_33, iova),
    mapRings,
    mapBuffers,
    start,
    exchange(0, iova),
    invalidate(AREAS[TX].avail),
    send(1, iova),
    questions,
    progress,
    update(AREAS[TX].avail),
    questions,
    progress,
  ),
  script(
    "a mapping is replaced without being taken away",
    setUp(WITH_33, iova),
    mapRings,
    mapBuffers,
    start,
    exchange(0, iova),
    write({
      type: IOTLB_TYPE.UPDATE,
      iova: iova(TX_HEADER),
      size: BigInt(PAGE),
      userAddress: NOWHERE,
      perm: IOTLB_PERM.readWrite,
    }),
    exchange(1, iova),
    questions,
  ),
  script(
    "what is not mapped is taken away",
    setUp(WITH_33, iova),
    invalidate(0),
    invalidate(0, 0),
    write({ type: IOTLB_TYPE.INVALIDATE, iova: 0n, size: 0xffff_ffff_ffff_ffffn, userAddress: 0n, perm: 0 }),
  ),
];

const permissions: KernelScript[] = [
  script(
    "a used ring mapped for reading only",
    setUp(WITH_33, iova),
    update(AREAS[RX].used, PAGE, IOTLB_PERM.read),
    update(AREAS[TX].used, PAGE, IOTLB_PERM.read),
    start,
    send(0, iova),
    questions,
    mapTables,
    mapBuffers,
    kick(TX),
    settle,
    questions,
    progress,
  ),
  script(
    "descriptor table and avail ring mapped for writing only",
    setUp(WITH_33, iova),
    mapUsed,
    AREAS.flatMap(({ desc, avail }) => [desc, avail]).flatMap((area) => update(area, PAGE, IOTLB_PERM.write)),
    start,
    questions,
    send(0, iova),
    questions,
    progress,
  ),
  script(
    "a receive buffer mapped for reading only",
    setUp(WITH_33, iova),
    mapRings,
    update(TX_HEADER),
    update(RX_BUFFER, PAGE, IOTLB_PERM.read),
    start,
    send(0, iova),
    questions,
    progress,
  ),
  script(
    "a packet to send mapped for writing only",
    setUp(WITH_33, iova),
    mapRings,
    update(TX_HEADER, PAGE, IOTLB_PERM.write),
    update(RX_BUFFER),
    start,
    send(0, iova),
    questions,
    progress,
  ),
  script(
    "each mapped for no more than it is used for",
    setUp(WITH_33, iova),
    AREAS.flatMap(({ used }) => update(used, PAGE, IOTLB_PERM.readWrite)),
    AREAS.flatMap(({ desc, avail }) => [desc, avail]).flatMap((area) => update(area, PAGE, IOTLB_PERM.read)),
    update(TX_HEADER, PAGE, IOTLB_PERM.read),
    update(RX_BUFFER, PAGE, IOTLB_PERM.write),
    start,
    exchange(0, iova),
    questions,
  ),
];

const at = (message: Partial<IotlbMessage>): KernelStep[] =>
  write({
    type: IOTLB_TYPE.UPDATE,
    iova: iova(0),
    size: BigInt(PAGE),
    userAddress: user(0),
    perm: IOTLB_PERM.readWrite,
    ...message,
  });

const messages: KernelScript[] = [
  script("IOTLB messages without an IOTLB", setUp(PLAIN, user), update(0), invalidate(0), questions),
  script("an UPDATE of no bytes", setUp(WITH_33, iova), at({ size: 0n })),
  script(
    "an UPDATE to an address that no program has",
    setUp(WITH_33, iova),
    at({ userAddress: KERNEL_ADDRESS }),
  ),
  script(
    "an UPDATE to an address at which nothing is",
    setUp(WITH_33, iova),
    at({ userAddress: NOWHERE }),
    at({ iova: iova(AREAS[RX].used), userAddress: NOWHERE }),
    at({ iova: iova(AREAS[TX].used), userAddress: NOWHERE }),
    start,
  ),
  script(
    "an UPDATE at the edges of the address space",
    setUp(WITH_33, iova),
    at({ iova: 0n }),
    at({ iova: 0xffff_ffff_ffff_f000n }),
    at({ iova: 0xffff_ffff_ffff_f000n, size: 0x2000n }),
    at({ iova: 0n, size: 0xffff_ffff_ffff_ffffn, userAddress: 0n }),
    at({ size: 0xffff_ffff_ffff_ffffn }),
  ),
  script(
    "other types and permissions",
    setUp(WITH_33, iova),
    ...[0, IOTLB_TYPE.MISS, IOTLB_TYPE.ACCESS_FAIL, IOTLB_TYPE.BATCH_BEGIN, IOTLB_TYPE.BATCH_END, 7].map(
      (type) => at({ type }),
    ),
    ...[0, 1, 2, 4, 255].map((perm) => at({ perm })),
  ),
];

const contextIds: KernelScript[] = [
  script(
    "CIDs that no guest may have",
    open(),
    owner,
    ...[0n, 1n, 2n, 0xffff_ffffn, 0x1_0000_0003n].map((n) => cid(n)),
  ),
  script(
    "a CID that is in use",
    open(),
    owner,
    cid(3n),
    cid(3n),
    open(1),
    ioctl({ name: "VHOST_SET_OWNER" }, 1),
    cid(3n, 1),
    cid(4n, 1),
    cid(4n),
    close(),
    cid(3n, 1),
  ),
  script(
    "running without a CID",
    open(),
    owner,
    features(PLAIN),
    allMemory,
    rings(user),
    start,
    exchange(0, gpa),
  ),
];

const ringSettings: KernelScript[] = [
  script(
    "ring addresses outside memory",
    setUp(PLAIN, (offset) => NOWHERE + BigInt(offset)),
    start,
    signals,
    stop,
  ),
  script(
    "ring addresses of the kernel",
    setUp(PLAIN, (offset) => KERNEL_ADDRESS + BigInt(offset)),
    start,
  ),
  script("guest-physical addresses in the rings", setUp(PLAIN, gpa), start),
  script(
    "crooked ring addresses",
    setUp(PLAIN, (offset) => user(offset) + 1n),
    start,
  ),
  script("no memory", open(), owner, features(PLAIN), cid(GUEST_CID), rings(user), start),
  script("no rings", open(), owner, features(PLAIN), allMemory, cid(GUEST_CID), start),
  script("no rings, bit 33", open(), owner, features(WITH_33), allMemory, cid(GUEST_CID), start, questions),
  script(
    "ring sizes and positions",
    open(),
    owner,
    ...[0, 1, 3, 0x8000, 0x1_0000].map((size) => num(RX, size)),
    ...[0, 0xffff, 0x1_0000].map((position) => base(RX, position)),
    num(2, RING_SIZE),
    bases,
  ),
  script(
    "settings of a running ring",
    setUp(PLAIN, user),
    start,
    start,
    num(RX, 16),
    base(RX, 1),
    ringAddresses(RX, user),
    ringAddresses(RX, (offset) => NOWHERE + BigInt(offset)),
    features(PLAIN),
    cid(5n),
    allMemory,
    memory(),
    exchange(0, gpa),
    stop,
    running(false),
    num(RX, 16),
    base(RX, 1),
  ),
  script(
    "memory tables",
    open(),
    owner,
    memory(),
    memory({ guestAddress: 0xffff_ffff_ffff_f000n, size: 0x2000n, userAddress: user(0) }),
  ),
  script(
    "a packet outside guest memory",
    setUp(PLAIN, user),
    start,
    offer(TX, 0, NOWHERE, HEADER_BYTES, 0),
    kick(TX),
    settle,
    progress,
  ),
];

export const kernelScripts: readonly KernelScript[] = [
  ...offers,
  ...negotiations,
  ...toggles,
  ...invalidations,
  ...permissions,
  ...messages,
  ...contextIds,
  ...ringSettings,
];
