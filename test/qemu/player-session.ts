/**
 * Plays a VMM's profile on a machine, against a back-end that writes down what it is told, and returns what the player
 * said. No guest runs: the rings are there, and nothing is put on them.
 */
import { closeSync } from "node:fs";
import { GuestRam } from "../../src/guest/guest-ram.js";
import type { Viommu } from "../../src/guest/platform.js";
import { EventLoop } from "../../src/linux/event-loop.js";
import { createEventfd } from "../../src/linux/eventfd.js";
import { socketPair } from "../../src/linux/unix-socket.js";
import { Access } from "../../src/memory/address.js";
import { ScriptedSession } from "../../src/observe/scripted-session.js";
import { builtinGuest } from "../../src/profiles/builtin.js";
import type { VmmProfile } from "../../src/profiles/vmm-profile.js";
import { FrontEnd } from "../../src/vmm/front-end.js";
import type { GuestQueue } from "../../src/vmm/player.js";
import { saidIn } from "./conversation.js";
import type { Situation } from "./recordings.js";

const PAGE_BYTES = 4096;
const RAM_BYTES = 2 ** 28;
/** As Linux's driver and QEMU's default. */
const QUEUE_SIZE = 128;
/** Where a driver's ring is in its page, as in the recordings. */
const AVAIL_OFFSET = 0x800n;
const USED_OFFSET = 0x940n;
const RING_GPA = 0x53d_e000;
/** Linux hands I/O virtual addresses out from 4 GiB down. */
const RING_IOVA = 0xffff_f000n;

export function played(profile: VmmProfile, situation: Situation): string[] {
  const loop = new EventLoop();
  const ram = new GuestRam({ slots: [{ gpa: 0, bytes: RAM_BYTES }] });
  const [frontEndFd, backEndFd] = socketPair();
  const { name, features, protocolFeatures, machine } = situation;
  const offer = { id: "everything", title: name, features, protocolFeatures, until: "traffic" } as const;
  const session = new ScriptedSession(backEndFd, offer, loop);
  const viommu = machine.viommu ? ringsOnly : undefined;
  const pump = () => void loop.turn(1);
  const frontEnd = new FrontEnd({ profile, machine, ram, viommu, socket: frontEndFd, session: { pump } });
  const queues = [0, 1].map((index) => queue(index, machine.viommu));
  try {
    // The guest of the recordings takes what it knows.
    const offered = frontEnd.initialize();
    frontEnd.readCid();
    frontEnd.start(offered & builtinGuest("plain").knows, queues);
    frontEnd.stop();
    const isOnSocket = (on: string, from: string) => on === "socket" && from === "front-end";
    const { entries } = session.transcript;
    return saidIn(entries.filter(({ on, from }) => isOnSocket(on, from)).map(({ message }) => message));
  } finally {
    frontEnd.close();
    session.close();
    for (const { kickFd, callFd } of queues) for (const fd of [kickFd, callFd]) closeSync(fd);
    ram.close();
    loop.close();
  }
}

function queue(index: number, isBehindViommu: boolean): GuestQueue {
  const page = index * PAGE_BYTES;
  const desc = isBehindViommu ? RING_IOVA - BigInt(page) : BigInt(RING_GPA + page);
  const addresses = { desc, avail: desc + AVAIL_OFFSET, used: desc + USED_OFFSET };
  return { size: QUEUE_SIZE, addresses, kickFd: createEventfd(), callFd: createEventfd() };
}

/** A vIOMMU in which the guest has mapped its rings and nothing else. */
const ringsOnly: Viommu = {
  translations: {
    lookup(iova) {
      const offset = Number(RING_IOVA - iova);
      if (offset !== 0 && offset !== PAGE_BYTES) return undefined;
      return { gpa: RING_GPA + offset, access: Access.READ_WRITE };
    },
  },
  onInvalidate() {},
};
