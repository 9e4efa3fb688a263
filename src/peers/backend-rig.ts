/**
 * For tests of this folder: a modelled back-end and a front-end in one thread, over a real socket pair.
 * Not part of the product.
 */
import { EventLoop } from "../linux/event-loop.js";
import { Timers } from "../linux/timers.js";
import { socketPair } from "../linux/unix-socket.js";
import type { DeviceProfile } from "../profiles/device-profile.js";
import { FrontEndSession } from "../vhost/front-end-session.js";
import { has, PROTOCOL_F } from "../virtio/index.js";
import { Op } from "../vsock/header.js";
import { PairEndpoints } from "../vsock/switch-rig.js";
import { BackendModel } from "./backend-model.js";
import {
  type Addressing,
  GUEST_CID,
  IOVA_BASE,
  MEMORY_BYTES,
  PAGE,
  profileOf,
  QUEUE_SIZE,
  RigGuest,
  USER_BASE,
} from "./peer-rig.js";

export interface BackendRigOptions {
  readonly profile?: DeviceProfile;
  readonly addressing?: Addressing;
}

export class BackendRig {
  readonly clock = { ms: 0 };
  readonly loop = new EventLoop(undefined, new Timers(() => this.clock.ms));
  readonly endpoints = new PairEndpoints();
  readonly guest: RigGuest;
  readonly device: BackendModel;
  readonly fe: FrontEndSession;
  /** What the device asked for, relative to IOVA_BASE. */
  readonly misses: string[] = [];
  /** Whether questions get an answer. */
  answers = true;

  constructor({ profile = profileOf(), addressing = "untranslated" }: BackendRigOptions = {}) {
    this.guest = new RigGuest(addressing);
    const [ours, theirs] = socketPair();
    const { loop, endpoints } = this;
    this.device = new BackendModel({ loop, fd: ours, profile, endpoints, guestCid: GUEST_CID });
    this.fe = new FrontEndSession(theirs, {
      pump: () => this.loop.turn(0),
      now: () => this.clock.ms++,
      onMiss: ({ iova, perm }) => {
        this.misses.push(`${(iova - IOVA_BASE).toString(16)} ${["", "r", "w", "rw"][perm]}`);
        return this.answers && this.map(iova & ~0xfffn) === 0n;
      },
    });
  }

  /** Everything up to the guest's driver: protocol features, and a channel if it can be had. */
  connect(): void {
    const { fe } = this;
    fe.getFeatures();
    fe.setProtocolFeatures(fe.getProtocolFeatures());
    fe.setOwner();
    if (has(fe.protocolFeatures, PROTOCOL_F.BACKEND_REQ)) fe.openBackendChannel();
  }

  /** What a VMM does at DRIVER_OK, with bit 30. */
  start(features: bigint, enable = true): void {
    const { fe, guest } = this;
    guest.boot();
    fe.setFeatures(features);
    fe.setMemTable([guest.ram.region]);
    for (const index of [0, 1]) {
      fe.setUpRing({
        index,
        size: QUEUE_SIZE,
        addresses: guest.addresses(index),
        kickFd: guest.kicks[index],
        callFd: guest.calls[index],
      });
    }
    if (enable) for (const index of [0, 1]) fe.setVringEnable(index, true);
    this.settle();
  }

  map(iova: bigint, pages = 1n): bigint {
    return this.fe.iotlbUpdate(iova, pages * PAGE, USER_BASE + (iova - IOVA_BASE));
  }

  mapAll(): bigint {
    return this.map(IOVA_BASE, BigInt(MEMORY_BYTES) / PAGE);
  }

  settle(): void {
    for (let turns = 0; turns < 12; turns++) {
      this.loop.turn(0);
      if (this.device.isOpen) this.fe.serve();
      this.guest.poll();
    }
  }

  /** The guest connects and says something; what came back, and what the host program read. */
  talk(): { guest: string; host: string } {
    this.guest.send({ op: Op.REQUEST });
    this.settle();
    this.guest.send({ op: Op.RW }, "hello");
    this.settle();
    const [host] = this.endpoints.accepted;
    host?.write("welcome");
    this.settle();
    return { guest: this.guest.story, host: host?.readAll().toString() ?? "" };
  }

  close(): void {
    this.device.close();
    this.fe.close();
    for (const host of this.endpoints.accepted) host.close();
    this.guest.close();
    this.loop.close();
  }
}

/** Runs `body` with a back-end, and closes it. */
export function withBackend(options: BackendRigOptions, body: (rig: BackendRig) => void): void {
  const rig = new BackendRig(options);
  try {
    body(rig);
  } finally {
    rig.close();
  }
}
