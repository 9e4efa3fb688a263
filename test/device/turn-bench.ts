/**
 * For tests of this folder: a guest, its VMM and the device, which take turns in one thread. So it is known what each of
 * them did, and whether the device has come to rest. Three queues, the event queue is the last.
 */

import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { VsockBackend } from "../../src/device/vsock-backend.js";
import type { GuestConnection } from "../../src/guest/connection.js";
import type { DmaKind } from "../../src/guest/dma.js";
import { chooseFeatures } from "../../src/guest/features.js";
import { createPlatform, type Platform } from "../../src/guest/platform.js";
import { VsockDriver } from "../../src/guest/vsock-driver.js";
import { EventLoop } from "../../src/linux/event-loop.js";
import { createMemfd, mapShared, view } from "../../src/linux/mapping.js";
import { socketPair } from "../../src/linux/unix-socket.js";
import { silentLogger } from "../../src/log/logger.js";
import { builtinVmm } from "../../src/profiles/builtin.js";
import type { VmmProfile } from "../../src/profiles/vmm-profile.js";
import { BackendSession } from "../../src/vhost/backend-session.js";
import { F, has, mask, PROTOCOL_F } from "../../src/virtio/index.js";
import { FrontEnd } from "../../src/vmm/front-end.js";
import { machineFor } from "../../src/vmm/virtual-machine.js";
import { DEFAULT_LIMITS } from "../../src/vsock/limits.js";
import { VsockSwitch } from "../../src/vsock/switch.js";
import { GUEST_CID, HOST_PORT, type HostEnd, PairEndpoints } from "../../src/vsock/switch-rig.js";

export const PAGE = 4096;
/** A machine with a hole below 4 GiB, and not at page 0 of anything. */
export const SLOTS = [
  { gpa: 0x100000, bytes: 4 * 2 ** 20 },
  { gpa: 2 ** 32, bytes: 4 * 2 ** 20 },
];
export const LOG_BYTES = (2 ** 32 + 4 * 2 ** 20) / PAGE / 8;

export interface Mode {
  readonly kind: DmaKind;
  readonly profile: VmmProfile;
}

const qemu = builtinVmm("qemu-7.2");
const withQueues: VmmProfile = {
  ...qemu,
  queues: 3,
  protocolFeatures: qemu.protocolFeatures | mask(PROTOCOL_F.LOG_SHMFD),
};
/** With `packed=on`. */
const packed: VmmProfile = {
  ...withQueues,
  offer: { ...qemu.offer, own: qemu.offer.own | mask(F.RING_PACKED) },
};
export const MODES: Readonly<Record<string, Mode>> = {
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
  "user addresses, packed rings": { kind: "direct", profile: packed },
  "an IOTLB, with a vIOMMU, packed rings": { kind: "viommu", profile: packed },
};

export class Bench {
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
    assert.equal(has(choice.acknowledged, F.RING_PACKED), profile === packed);
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

  /** Nothing happens in the device's loop, and nothing was put off: it would block until an event comes. */
  isAtRest(): boolean {
    return !this.deviceLoop.turn(0) && !this.deviceLoop.turn(0);
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

export async function withBench(mode: Mode, use: (bench: Bench) => Promise<void>): Promise<void> {
  const bench = new Bench(mode);
  try {
    await bench.settle();
    await use(bench);
  } finally {
    bench.close();
  }
}
