/**
 * A vhost-user session under any messages, any bytes and any descriptors, with a guest that uses whatever rings come of
 * it. Every range that the device resolves has to lie in memory that is shared; queues stop once for each start; no
 * descriptor is left.
 */
import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { signalEventfd } from "../../../src/linux/eventfd.js";
import { Timers } from "../../../src/linux/timers.js";
import { socketPair } from "../../../src/linux/unix-socket.js";
import type { AccessWatcher } from "../../../src/memory/watched-space.js";
import { FrontEndError } from "../../../src/vhost/front-end-error.js";
import {
  type Dma,
  GPA_BASE,
  GuestRam,
  IOVA_BASE,
  MEMORY_BYTES,
  QUEUE_SIZE,
  type Rig,
  USER_BASE,
  VERSION_1_AND_30,
  WITH_BIT_33,
  withRig,
} from "../../../src/vhost/session-rig.js";
import {
  encodeFrame,
  type FrontendMessageName,
  messagesOf,
  type Payload,
} from "../../../src/vhost/wire/index.js";
import { F, maskOf } from "../../../src/virtio/index.js";
import { Input, type Target } from "../target.js";

const HEADER_BYTES = 12;
const IOTLB = ["auto", "on", "off", "explicit"] as const;
const CHANNELS = ["kick", "memory", "socket", "other socket"] as const;

/** Nothing is denied. To be asked at all makes the session prove that each range lies in a region. */
const watcher: AccessWatcher = { accessed: () => undefined, withheld: () => {} };

/** Kept from run to run, since a mapping that a view was made over stays. */
let shared: GuestRam | undefined;

function cleanRam(): GuestRam {
  shared ??= new GuestRam();
  shared.bytes.fill(0, 0, shared.offsetOf(4));
  return shared;
}

class SessionRun {
  readonly #sockets = socketPair();

  constructor(
    private readonly rig: Rig,
    private readonly clock: { ms: number },
  ) {
    for (const index of [0, 1, 2]) rig.drivers[index] = rig.ram.driver(index);
  }

  get isOpen(): boolean {
    return this.rig.session.isOpen;
  }

  #descriptors(selector: number): number[] {
    const { rig } = this;
    const kinds = [rig.kicks[(selector >> 2) % 3], rig.ram.fd, ...this.#sockets];
    return Array.from({ length: selector & 3 }, (_, at) => kinds[(selector >> (2 + 2 * at)) & 3]);
  }

  message(input: Input): void {
    const [request, flags, descriptors] = [input.u8(), input.u8(), input.u8()];
    const bytes = input.take(input.u8());
    const frame = encodeFrame(request, flags, { kind: "opaque", bytes });
    this.rig.fe.sendBytes(frame, this.#descriptors(descriptors));
    this.rig.turn();
  }

  rawBytes(input: Input): void {
    const bytes = input.take(1 + (input.u8() & 63));
    if (bytes.length === 0) return;
    this.rig.fe.sendBytes(bytes, this.#descriptors(1));
    this.rig.turn();
  }

  /** The guest makes a buffer available, in whichever way it knows addresses, or just kicks. */
  guest(input: Input): void {
    const { rig } = this;
    const what = input.u8();
    const index = what % 3;
    const address = (what & 8) !== 0 ? IOVA_BASE : GPA_BASE;
    const length = input.u8();
    const buffer = { address: address + BigInt(rig.ram.write("x".repeat(length))), length: length + 1 };
    if ((what & 4) === 0 && rig.drivers[index].add([buffer], []) >= 0) rig.drivers[index].publish();
    signalEventfd(rig.kicks[index]);
    rig.turn();
  }

  passTime(input: Input): void {
    this.clock.ms += input.u8();
    this.rig.turn();
  }

  /** The front-end reads its answers, and answers questions. */
  read(): void {
    const { rig } = this;
    rig.fe.serve();
    for (let answers = 0; answers < 64; answers++) {
      try {
        if (!rig.fe.backendLeft) break;
      } catch (error) {
        if (!(error instanceof FrontEndError)) throw error;
      }
    }
    rig.turn();
  }

  end(): void {
    for (let turns = 0; turns < 4; turns++) this.rig.turn();
    this.rig.session.end("the input is over");
    assert.equal(this.rig.device.running.size, 0, "queues are left running");
    for (const fd of this.#sockets) closeSync(fd);
  }
}

const STEPS: readonly ((run: SessionRun, input: Input) => void)[] = [
  (run, input) => run.message(input),
  (run, input) => run.message(input),
  (run, input) => run.message(input),
  (run, input) => run.rawBytes(input),
  (run, input) => run.guest(input),
  (run, input) => run.passTime(input),
  (run) => run.read(),
];
const [MESSAGE, GUEST, TIME, READ] = [0, 4, 5, 6];

function run(bytes: Uint8Array): void {
  const input = new Input(bytes);
  const policy = { iotlb: IOTLB[input.u8() % IOTLB.length] };
  const clock = { ms: 0 };
  const parts = { watcher, ram: cleanRam(), timers: new Timers(() => clock.ms) };
  withRig(
    policy,
    (rig) => {
      const session = new SessionRun(rig, clock);
      try {
        while (!input.isAtEnd && session.isOpen) input.pick(STEPS)(session, input);
      } catch (error) {
        // A session that ends while a message is being sent is an answer, too.
        if (!(error instanceof FrontEndError)) throw error;
      } finally {
        session.end();
      }
    },
    parts,
  );
}

// ---- seeds: what front-ends really say ---------------------------------------------------------------------------

function message(
  name: FrontendMessageName,
  payload: Payload = { kind: "none" },
  ...fds: (typeof CHANNELS)[number][]
): number[] {
  const record = messagesOf("frontend").find((each) => each.name === name);
  assert.ok(record !== undefined);
  const body = encodeFrame(record.id, 0, payload).subarray(HEADER_BYTES);
  const kinds = fds.reduce((bits, kind, at) => bits | (CHANNELS.indexOf(kind) << (2 + 2 * at)), fds.length);
  return [MESSAGE, record.id, 0, kinds, body.length, ...body];
}

const u64 = (value: bigint): Payload => ({ kind: "u64", value });
const state = (index: number, num: number): Payload => ({ kind: "vringState", index, num });
const vringFd = (index: number): Payload => ({ kind: "vringFd", index, noFd: false });
const region = {
  guestAddress: GPA_BASE,
  userAddress: USER_BASE,
  size: BigInt(MEMORY_BYTES),
  mmapOffset: 0n,
};

/** MQ, LOG_SHMFD, REPLY_ACK, BACKEND_REQ, CONFIG, INFLIGHT_SHMFD, RESET_DEVICE, CONFIGURE_MEM_SLOTS, STATUS, DEVICE_STATE. */
const PROTOCOL_FEATURES = [0, 1, 3, 5, 9, 12, 13, 15, 16, 19].reduce(
  (word, bit) => word | (1n << BigInt(bit)),
  0n,
);

function negotiation(features: bigint): number[] {
  return [
    ...message("GET_FEATURES"),
    ...message("GET_PROTOCOL_FEATURES"),
    ...message("SET_PROTOCOL_FEATURES", u64(PROTOCOL_FEATURES)),
    ...message("GET_QUEUE_NUM"),
    ...message("SET_BACKEND_REQ_FD", { kind: "none" }, "socket"),
    ...message("SET_OWNER"),
    ...message("GET_CONFIG", { kind: "config", offset: 0, flags: 0, data: new Uint8Array(8) }),
    ...message("SET_FEATURES", u64(features)),
    ...message("GET_STATUS"),
    ...message("SET_STATUS", u64(8n)),
    READ,
  ];
}

function ring(ram: GuestRam, index: number, dma: Dma, base = 0, flags = 0): number[] {
  const { desc, avail, used } = ram.addresses(index, dma);
  return [
    ...message("SET_VRING_NUM", state(index, QUEUE_SIZE)),
    ...message("SET_VRING_BASE", state(index, base)),
    ...message("SET_VRING_ADDR", { kind: "vringAddr", index, flags, desc, used, avail, log: 0n }),
    ...message("SET_VRING_KICK", vringFd(index), "kick"),
    ...message("SET_VRING_CALL", vringFd(index), "kick"),
    ...message("SET_VRING_ENABLE", state(index, 1)),
  ];
}

function stop(): number[] {
  return [0, 1].flatMap((index) => [
    ...message("SET_VRING_ENABLE", state(index, 0)),
    ...message("GET_VRING_BASE", state(index, 0)),
  ]);
}

function iotlb(type: number, offset: number, pages = 64): number[] {
  const size = BigInt(pages * 4096);
  const [iova, userAddress] = [IOVA_BASE + BigInt(offset), USER_BASE + BigInt(offset)];
  return message("IOTLB_MSG", { kind: "iotlb", iova, size, userAddress, perm: 3, type });
}

function seeds(): Uint8Array[] {
  const ram = cleanRam();
  const addRegion = message("ADD_MEM_REG", { kind: "memRegion", region }, "memory");
  const table = message("SET_MEM_TABLE", { kind: "memTable", regions: [region] }, "memory");
  const plain = (dma: Dma): number[] => [...ring(ram, 0, dma), ...ring(ram, 1, dma)];
  const packed = VERSION_1_AND_30 | maskOf(F.RING_PACKED);
  const use = [GUEST, 0, 5, GUEST, 1, 9, TIME, 30, GUEST, 9, 9, READ];
  const useIova = [GUEST, 9, 5, GUEST, 10, 9, TIME, 30, READ];
  const log = [
    ...message("SET_LOG_BASE", { kind: "log", size: 4096n, offset: 0n }, "memory"),
    ...message("SET_FEATURES", u64(VERSION_1_AND_30 | (1n << 26n))),
  ];
  const deviceState = [
    ...message("SET_DEVICE_STATE_FD", { kind: "deviceState", direction: 0, phase: 0 }, "socket"),
    ...message("CHECK_DEVICE_STATE"),
  ];
  const inflight = { kind: "inflight", padded: true, mmapOffset: 0n, queueCount: 2, queueSize: 8 } as const;
  const takeUp = [
    ...message("GET_INFLIGHT_FD", { ...inflight, mmapSize: 0n }),
    ...message("SET_INFLIGHT_FD", { ...inflight, mmapSize: 8192n, mmapOffset: 0x100000n }, "memory"),
  ];
  return [
    [0, ...negotiation(VERSION_1_AND_30), ...addRegion, ...plain("user-rings"), ...use, ...stop()],
    [0, ...negotiation(VERSION_1_AND_30), ...addRegion, ...takeUp, ...plain("user-rings"), ...use, ...stop()],
    [2, ...negotiation(VERSION_1_AND_30), ...table, ...plain("user-rings"), ...use, ...table, ...use],
    [
      ...[1, ...negotiation(WITH_BIT_33), ...addRegion, ...plain("iova"), ...useIova],
      ...[...iotlb(2, 0, 512), ...useIova, ...iotlb(3, 0), ...useIova, ...stop()],
    ],
    [0, ...negotiation(packed), ...addRegion, ...ring(ram, 0, "user-rings", 0x8000_8000), ...use, ...stop()],
    [
      ...[0, ...negotiation(VERSION_1_AND_30), ...addRegion, ...log, ...ring(ram, 1, "user-rings", 0, 1)],
      ...[...use, ...stop(), ...deviceState],
    ],
    [
      ...[0, ...negotiation(VERSION_1_AND_30), ...addRegion, ...plain("user-rings"), ...use],
      ...message("REM_MEM_REG", { kind: "memRegion", region }),
      ...[...use, ...message("RESET_DEVICE"), ...message("SET_STATUS", u64(0n)), READ],
    ],
  ].map((steps) => Uint8Array.from(steps));
}

export const vhost: Target = {
  name: "vhost",
  about: "a vhost-user session: its decoder, its states, the memory and the rings that it sets up",
  mostBytes: 1500,
  get seeds() {
    return seeds();
  },
  run,
};
