/**
 * The dirty log against the truth: the guest's memory before and after a turn of the device, page by page. Guest,
 * VMM and device take turns in one thread, so that whatever changes in the device's turn is the device's doing.
 */

import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { describe, it } from "node:test";
import fc from "fast-check";
import { VsockBackend } from "../../src/device/vsock-backend.js";
import type { GuestConnection } from "../../src/guest/connection.js";
import type { DmaKind } from "../../src/guest/dma.js";
import { chooseFeatures } from "../../src/guest/features.js";
import { createPlatform, type Platform } from "../../src/guest/platform.js";
import { VsockDriver } from "../../src/guest/vsock-driver.js";
import { EventLoop } from "../../src/linux/event-loop.js";
import { createEventfd, drainEventfd } from "../../src/linux/eventfd.js";
import { createMemfd, mapShared, view } from "../../src/linux/mapping.js";
import { socketPair } from "../../src/linux/unix-socket.js";
import { silentLogger } from "../../src/log/logger.js";
import { builtinVmm } from "../../src/profiles/builtin.js";
import type { VmmProfile } from "../../src/profiles/vmm-profile.js";
import { BackendSession } from "../../src/vhost/backend-session.js";
import { F, mask, PROTOCOL_F } from "../../src/virtio/index.js";
import { FrontEnd } from "../../src/vmm/front-end.js";
import { machineFor } from "../../src/vmm/virtual-machine.js";
import { DEFAULT_LIMITS } from "../../src/vsock/limits.js";
import { VsockSwitch } from "../../src/vsock/switch.js";
import { GUEST_CID, HOST_PORT, type HostEnd, PairEndpoints } from "../../src/vsock/switch-rig.js";

const PAGE = 4096;
/** A machine with a hole below 4 GiB, and not at page 0 of anything. */
const SLOTS = [
  { gpa: 0x100000, bytes: 4 * 2 ** 20 },
  { gpa: 2 ** 32, bytes: 4 * 2 ** 20 },
];
const LOG_BYTES = (2 ** 32 + 4 * 2 ** 20) / PAGE / 8;

interface Mode {
  readonly kind: DmaKind;
  readonly profile: VmmProfile;
}

const qemu = builtinVmm("qemu-7.2");
const withQueues: VmmProfile = {
  ...qemu,
  queues: 3,
  protocolFeatures: qemu.protocolFeatures | mask(PROTOCOL_F.LOG_SHMFD),
};
const MODES: Readonly<Record<string, Mode>> = {
  "user addresses": { kind: "direct", profile: withQueues },
  "guest-physical addresses": {
    kind: "direct",
    profile: {
      ...withQueues,
      ringAddresses: "guest-physical",
      protocolFeatures: withQueues.protocolFeatures | mask(PROTOCOL_F.GPA_ADDRESSES),
    },
  },
  "an IOTLB, with a vIOMMU": { kind: "viommu", profile: withQueues },
  "an IOTLB, where addresses are passed through": { kind: "passthrough", profile: withQueues },
  "a restricted pool": { kind: "restricted", profile: withQueues },
};

class Bench {
  readonly deviceLoop = new EventLoop();
  readonly guestLoop = new EventLoop();
  readonly endpoints = new PairEndpoints();
  readonly logFd = createMemfd("log", LOG_BYTES);
  readonly bits = new Uint8Array(view(mapShared(this.logFd, 0, LOG_BYTES), LOG_BYTES));
  readonly platform: Platform;
  readonly frontEnd: FrontEnd;
  readonly driver: VsockDriver;
  readonly connections: GuestConnection[] = [];
  readonly #switch: VsockSwitch;
  readonly #session: BackendSession;
  readonly #closed = new Set<HostEnd>();

  constructor({ kind, profile }: Mode) {
    const [theirs, ours] = socketPair();
    const loop = this.deviceLoop;
    this.#switch = new VsockSwitch({
      loop,
      log: silentLogger,
      endpoints: this.endpoints,
      limits: DEFAULT_LIMITS,
      guestCid: GUEST_CID,
    });
    const device = new VsockBackend(loop, this.#switch, GUEST_CID, silentLogger, () => {});
    const policy = {
      iotlb: "auto",
      accessPlatform: true,
      explicitBit: 62,
      probationMs: 1,
      queueSizeMax: 1024,
    } as const;
    this.#session = new BackendSession({ loop, fd: ours, device, policy, log: silentLogger });
    this.platform = createPlatform({ kind, slots: SLOTS, poolBytes: 2 ** 21 });
    const { ram, viommu } = this.platform;
    this.frontEnd = new FrontEnd({
      socket: theirs,
      profile,
      machine: machineFor(kind),
      ram,
      viommu,
      loop: this.guestLoop,
      session: { pump: () => void loop.turn(1) },
    });
    const choice = chooseFeatures(kind, this.frontEnd.initialize(), { unknownBits: 0n });
    assert.ok(choice.ok);
    this.driver = new VsockDriver({
      platform: this.platform,
      loop: this.guestLoop,
      features: choice.acknowledged,
      readCid: () => this.frontEnd.readCid(),
      queueSize: 32,
    });
    this.frontEnd.start(choice.acknowledged, this.driver.queues);
    this.driver.start();
  }

  setLog(isOn: boolean): void {
    this.frontEnd.setDirtyLog(isOn ? { fd: this.logFd, size: BigInt(LOG_BYTES) } : undefined);
  }

  async guestTurn(): Promise<void> {
    for (let turns = 0; turns < 3; turns++) {
      this.guestLoop.turn(0);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  deviceTurn(): void {
    for (let turns = 0; turns < 6; turns++) {
      this.deviceLoop.turn(0);
      this.frontEnd.serve();
    }
  }

  /** Turns until the guest and the device have nothing more to say to each other. */
  async settle(): Promise<void> {
    for (let turns = 0; turns < 6; turns++) {
      await this.guestTurn();
      this.deviceTurn();
    }
    await this.guestTurn();
  }

  connect(): void {
    this.driver.connect(HOST_PORT).then(
      (connection) => this.connections.push(connection),
      () => {},
    );
  }

  snapshot(): Uint8Array[] {
    return SLOTS.map(({ gpa, bytes }) => this.platform.ram.view(gpa, bytes).slice());
  }

  /** The guest-physical pages that are different now. */
  changed(before: readonly Uint8Array[]): number[] {
    return SLOTS.flatMap(({ gpa, bytes }, slot) => {
      const now = this.platform.ram.view(gpa, bytes);
      const pages: number[] = [];
      for (let at = 0; at < bytes; at += PAGE) {
        if (Buffer.compare(now.subarray(at, at + PAGE), before[slot].subarray(at, at + PAGE)) !== 0)
          pages.push((gpa + at) / PAGE);
      }
      return pages;
    });
  }

  /** The pages that are logged; takes the bits away. */
  takeLog(): number[] {
    const pages: number[] = [];
    this.bits.forEach((bits, byte) => {
      for (let bit = 0; bit < 8; bit++) if ((bits >> bit) & 1) pages.push(8 * byte + bit);
    });
    this.bits.fill(0);
    return pages;
  }

  isOpen(host: HostEnd | undefined): host is HostEnd {
    return host !== undefined && !this.#closed.has(host);
  }

  closeHost(host: HostEnd): void {
    if (this.#closed.has(host)) return;
    this.#closed.add(host);
    host.close();
  }

  close(): void {
    this.frontEnd.stop();
    this.#session.end("the test is over");
    this.#switch.close();
    this.frontEnd.close();
    this.driver.release();
    for (const host of this.endpoints.accepted) this.closeHost(host);
    this.deviceLoop.close();
    this.guestLoop.close();
    this.platform.ram.close();
    closeSync(this.logFd);
  }
}

async function withBench(mode: Mode, use: (bench: Bench) => Promise<void>): Promise<void> {
  const bench = new Bench(mode);
  try {
    await bench.settle();
    await use(bench);
  } finally {
    bench.close();
  }
}

type Action =
  | { readonly does: "connect" }
  | { readonly does: "guest-sends" | "host-sends"; readonly which: number; readonly bytes: number }
  | { readonly does: "guest-closes" | "host-closes"; readonly which: number }
  | { readonly does: "toggle" };

const which = fc.nat(3);
const bytes = fc.oneof(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 3000, max: 20_000 }));
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 2, arbitrary: fc.constant({ does: "connect" } as const) },
  { weight: 3, arbitrary: fc.record({ does: fc.constant("guest-sends" as const), which, bytes }) },
  { weight: 5, arbitrary: fc.record({ does: fc.constant("host-sends" as const), which, bytes }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant("guest-closes" as const), which }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant("host-closes" as const), which }) },
  { weight: 1, arbitrary: fc.constant({ does: "toggle" } as const) },
);

let filler = 1;

function act(bench: Bench, todo: Action): void {
  if (todo.does === "connect") bench.connect();
  if (!("which" in todo)) return;
  const guest = bench.connections[todo.which];
  const host = bench.endpoints.accepted[todo.which];
  // A byte that was not there before, so that every page that is written changes.
  if (todo.does === "guest-sends") guest?.write(Buffer.alloc(todo.bytes, filler++)).catch(() => {});
  if (todo.does === "host-sends" && bench.isOpen(host)) host.write(Buffer.alloc(todo.bytes, filler++));
  if (todo.does === "guest-closes") guest?.close().catch(() => {});
  if (todo.does === "host-closes" && bench.isOpen(host)) bench.closeHost(host);
}

describe("the dirty log", { timeout: 300_000 }, () => {
  for (const [name, mode] of Object.entries(MODES)) {
    it(`has the pages that the device wrote, and no other, under ${name}`, () =>
      fc.assert(
        fc.asyncProperty(fc.array(action, { minLength: 1, maxLength: 25 }), (actions) =>
          withBench(mode, async (bench) => {
            bench.connect();
            await bench.settle();
            let isOn = true;
            bench.setLog(isOn);
            bench.takeLog();
            for (const todo of actions) {
              if (todo.does === "toggle") {
                isOn = !isOn;
                bench.setLog(isOn);
                bench.takeLog();
              }
              act(bench, todo);
              await bench.guestTurn();
              const before = bench.snapshot();
              bench.takeLog();
              bench.deviceTurn();
              const logged = bench.takeLog();
              assert.deepEqual(logged, isOn ? withRewritten(bench, bench.changed(before), logged) : []);
              await bench.guestTurn();
            }
          }),
        ),
        { numRuns: 8 },
      ));
  }

  /** Used rings may be written with what was there before: the flags, and where kicks are wanted. */
  function withRewritten(bench: Bench, changed: readonly number[], logged: readonly number[]): number[] {
    const used = usedPages(bench);
    const pages = new Set([...changed, ...logged.filter((page) => used.has(page))]);
    return [...pages].sort((a, b) => a - b);
  }

  function usedPages({ driver, platform }: Bench): Set<number> {
    const pages = new Set<number>();
    for (const { memory } of driver.queues) {
      for (const { gpa, bytes } of SLOTS) {
        const start = platform.ram.hostOf(gpa);
        const at = memory.host - start;
        if (at < 0 || at >= bytes) continue;
        for (let page = Math.floor((gpa + at) / PAGE); page <= (gpa + at + 4096) / PAGE; page++)
          pages.add(page);
      }
    }
    return pages;
  }

  it("rings the bell that came with SET_LOG_FD, and not without a reason", () =>
    withBench(MODES["user addresses"], async (bench) => {
      const bell = createEventfd();
      bench.frontEnd.session.setLogFd(bell);
      bench.connect();
      await bench.settle();
      assert.ok(drainEventfd(bell) < 0);
      bench.setLog(true);
      bench.endpoints.accepted[0].write(Buffer.from("hello"));
      await bench.settle();
      assert.equal(drainEventfd(bell), 8);
      bench.setLog(false);
      await bench.settle();
      drainEventfd(bell);
      bench.endpoints.accepted[0].write(Buffer.from("hello"));
      await bench.settle();
      assert.ok(drainEventfd(bell) < 0);
      closeSync(bell);
    }));

  it("that is too short loses pages, and nothing beyond its end is written", () =>
    withBench(MODES["user addresses"], async (bench) => {
      bench.frontEnd.setDirtyLog({ fd: bench.logFd, size: 8n });
      bench.connect();
      await bench.settle();
      assert.deepEqual(bench.takeLog(), []);
      assert.equal(bench.connections.length, 1);
    }));

  it("is refused where it cannot be one, and the session goes on", () =>
    withBench(MODES["user addresses"], async (bench) => {
      const { session } = bench.frontEnd;
      assert.equal(session.setLogBase(bench.logFd, 0n), false);
      assert.equal(session.setLogBase(bench.logFd, BigInt(LOG_BYTES) + 4096n), false);
      assert.equal(session.setLogBase(bench.logFd, 4096n, 2n ** 63n), false);
      bench.connect();
      await bench.settle();
      assert.equal(bench.connections.length, 1);
    }));

  it("can be replaced by a larger one while rings run", () =>
    withBench(MODES["user addresses"], async (bench) => {
      bench.frontEnd.setDirtyLog({ fd: bench.logFd, size: 4096n });
      bench.setLog(true);
      bench.takeLog();
      bench.connect();
      await bench.settle();
      assert.notDeepEqual(bench.takeLog(), []);
    }));

  it("needs LOG_ALL: a log alone has nothing written to it", () =>
    withBench(MODES["user addresses"], async (bench) => {
      assert.equal(bench.frontEnd.negotiation.offeredByBackend & mask(F.LOG_ALL), mask(F.LOG_ALL));
      bench.frontEnd.session.setLogBase(bench.logFd, BigInt(LOG_BYTES));
      bench.connect();
      await bench.settle();
      assert.deepEqual(bench.takeLog(), []);
    }));
});
