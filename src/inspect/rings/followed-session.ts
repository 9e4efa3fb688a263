/**
 * One session's rings: what its messages say of memory, mappings and rings is done here as well, with the files that came
 * with them, for reading only. Nothing that a session holds is written, read away or waited for, and nobody hears of it
 * here: what is wrong with a message is for the lints to say.
 */
import { closeSync } from "node:fs";
import type { EventLoop } from "../../linux/event-loop.js";
import type { AddressSpace } from "../../memory/address-space.js";
import { GuestMemory, MOST_REGIONS } from "../../memory/guest-memory.js";
import { Iotlb } from "../../memory/iotlb.js";
import { TableSpace } from "../../memory/table-space.js";
import { IOTLB_TYPE, type MemRegion, type PayloadOf } from "../../vhost/wire/index.js";
import { type DeviceType, F, PROTOCOL_F } from "../../virtio/index.js";
import type { SessionFrame } from "../frame.js";
import { ringSpace } from "../line.js";
import { messageOf, type SessionMessage } from "../message.js";
import { SessionModel } from "../model/session-model.js";
import { FollowedRing } from "./followed-ring.js";
import { GuestReader } from "./guest-reader.js";
import { ObservedIovaSpace } from "./observed-space.js";
import type { RingFault, RingFaultKind, RingPacket, SessionTraffic } from "./traffic.js";
import { carriesPackets, VsockReader } from "./vsock-reader.js";

/** Our choice: more than any back-end is known to keep, so that what is in use there is known here. */
const IOTLB_ENTRIES = 8192;
/** Rings that are followed: each keeps two descriptors. Network devices have the most. */
const MOST_RINGS = 64;

export interface FollowedSessionOptions {
  readonly loop: EventLoop;
  readonly deviceType: DeviceType | undefined;
  readonly mostPayloadBytes: number;
  readonly nowNs: () => bigint;
  /** Whether another packet will be taken; what is not counts as unseen. */
  readonly hasRoom: () => boolean;
  /** A ring's own signal says that there is something to look at. */
  readonly rang: () => void;
  readonly packet: (packet: RingPacket) => void;
  /** Once for each ring and kind. */
  readonly fault: (fault: RingFault) => void;
  readonly remark: (text: string) => void;
}

export class FollowedSession {
  readonly #options: FollowedSessionOptions;
  readonly #model: SessionModel;
  readonly #memory = new GuestMemory({ mostRegions: MOST_REGIONS, isReadOnly: true });
  readonly #iotlb = new Iotlb(this.#memory, IOTLB_ENTRIES);
  readonly #spaces = {
    gpa: new TableSpace("gpa", this.#memory),
    uva: new TableSpace("uva", this.#memory),
    iova: new ObservedIovaSpace(this.#iotlb),
  } as const;
  readonly #guest = new GuestReader(this.#memory.views, this.#spaces.gpa);
  readonly #rings = new Map<number, FollowedRing>();
  /** Something came that may have made an address reachable. */
  #isChanged = true;
  /** The pages of a migrated guest come when its own VMM touches them; a look from here would take their place. */
  #isPostcopy = false;

  constructor(options: FollowedSessionOptions) {
    this.#options = options;
    this.#model = new SessionModel("vhost-user", options.deviceType);
  }

  get traffic(): SessionTraffic {
    return new Map([...this.#rings].map(([index, { traffic }]) => [index, traffic]));
  }

  /** A message has gone by. Takes ownership of the descriptors, which are copies of those that came with it. */
  message(frame: SessionFrame, fds: readonly number[]): void {
    const kept = new Set<number>();
    try {
      const message = messageOf(frame);
      if (isTakingAway(message)) this.look();
      if (this.#model.isOwnerAgain(message)) this.#startOver();
      this.#model.apply(message, undefined);
      if (message.isReply) this.#applyReply(message);
      else if (message.channel === "main") this.#applyRequest(message, fds, kept);
      this.#settle();
    } finally {
      for (const fd of fds) if (!kept.has(fd)) closeSync(fd);
    }
  }

  /** Whether any ring has moved since the last look. */
  look(): boolean {
    if (this.#isPostcopy) return false;
    let isMoved = false;
    for (const [index, ring] of this.#rings) {
      if (ring.isFollowed && ring.look(this.#spaceOf(index), this.#isChanged)) isMoved = true;
    }
    this.#isChanged = false;
    return isMoved;
  }

  close(): void {
    this.look();
    for (const ring of this.#rings.values()) ring.close();
    this.#memory.clear();
  }

  #applyReply({ name, payload }: SessionMessage): void {
    // The device leaves the ring alone from here on, and its driver may use the memory for something else.
    if (name === "GET_VRING_BASE" && payload?.kind === "vringState") this.#rings.get(payload.index)?.stop();
  }

  #applyRequest({ name, payload }: SessionMessage, fds: readonly number[], kept: Set<number>): void {
    if (payload?.kind === "memTable") this.#replaceMemory(payload.regions, fds, kept);
    else if (payload?.kind === "memRegion") this.#changeMemory(name, payload.region, fds, kept);
    else if (payload?.kind === "iotlb") this.#translate(payload);
    else if (payload?.kind === "vringFd") this.#ring(name, payload, fds, kept);
    else if (name === "SET_FEATURES") this.#begin();
    else if (name === "RESET_DEVICE") for (const ring of this.#rings.values()) ring.stop();
    else if (name === "POSTCOPY_ADVISE") this.#isPostcopy = true;
    else if (name === "POSTCOPY_END") this.#isPostcopy = false;
  }

  #startOver(): void {
    for (const ring of this.#rings.values()) ring.stop();
    this.#iotlb.clear();
    this.#memory.clear();
  }

  #replaceMemory(regions: readonly MemRegion[], fds: readonly number[], kept: Set<number>): void {
    if (fds.length !== regions.length) return;
    this.#memory.clear();
    this.#expectGuestAddresses();
    regions.forEach((region, index) => {
      this.#addMemory(region, fds[index], kept);
    });
  }

  #changeMemory(name: string, region: MemRegion, fds: readonly number[], kept: Set<number>): void {
    if (name === "ADD_MEM_REG" && fds.length === 1) {
      this.#expectGuestAddresses();
      this.#addMemory(region, fds[0], kept);
    } else if (name === "REM_MEM_REG") {
      this.#attempt(() => this.#memory.remove(inputOf(region)));
    }
  }

  #expectGuestAddresses(): void {
    if (this.#memory.regions.length === 0)
      this.#memory.guestAddressesOnly = this.#model.hasProtocol(PROTOCOL_F.GPA_ADDRESSES);
  }

  #addMemory(region: MemRegion, fd: number, kept: Set<number>): void {
    // Closed by whom it is handed to.
    kept.add(fd);
    const problem = this.#attempt(() => this.#memory.add(inputOf(region), fd));
    if (problem !== undefined) this.#options.remark(`rings: what lies in a region is not seen: ${problem}`);
  }

  #translate({ type, iova, size, userAddress, perm }: PayloadOf<"iotlb">): void {
    if (type === IOTLB_TYPE.UPDATE) this.#attempt(() => this.#iotlb.update(iova, size, userAddress, perm));
    else if (type === IOTLB_TYPE.INVALIDATE) this.#attempt(() => this.#iotlb.invalidate(iova, size));
  }

  /** With every ring stopped it is a new beginning, perhaps of a guest without a vIOMMU. */
  #begin(): void {
    if (![...this.#rings.values()].some(({ isFollowed }) => isFollowed)) this.#iotlb.clear();
  }

  /** What a front-end says wrong is not done, here as in a back-end. */
  #attempt(change: () => unknown): string | undefined {
    try {
      change();
      return undefined;
    } catch (error) {
      return (error as Error).message;
    }
  }

  #ring(name: string, { index }: PayloadOf<"vringFd">, fds: readonly number[], kept: Set<number>): void {
    const ring = this.#rings.get(index) ?? this.#newRing(index);
    if (ring === undefined) return;
    const bell = name === "SET_VRING_KICK" ? ring.kick : name === "SET_VRING_CALL" ? ring.call : undefined;
    if (bell !== undefined && fds.length === 1) {
      kept.add(fds[0]);
      bell.take(fds[0]);
    } else bell?.close();
    if (name === "SET_VRING_KICK") this.#start(index, ring);
  }

  #newRing(index: number): FollowedRing | undefined {
    if (this.#rings.size === MOST_RINGS) return undefined;
    const { deviceType, loop, mostPayloadBytes, nowNs, hasRoom, packet, rang, fault } = this.#options;
    const reader =
      deviceType === "vsock" && carriesPackets(index)
        ? new VsockReader(
            index,
            mostPayloadBytes,
            () => this.#model.guestCid,
            nowNs,
            (found) => {
              if (hasRoom()) {
                ring.traffic.packets++;
                packet(found);
              } else ring.traffic.unseen++;
            },
          )
        : undefined;
    const told = new Set<RingFaultKind>();
    const ring: FollowedRing = new FollowedRing(loop, this.#guest, reader, {
      rang,
      fault: (kind, text) => {
        if (!told.has(kind)) fault({ timeNs: nowNs(), ring: index, kind, text });
        told.add(kind);
      },
    });
    this.#rings.set(index, ring);
    return ring;
  }

  #start(index: number, ring: FollowedRing): void {
    const { size, base = 0, addresses, starts } = this.#model.ring(index);
    if (starts === ring.starts || size === undefined || addresses === undefined) return;
    ring.starts = starts;
    const format = this.#model.isPacked ? "packed" : "split";
    const { desc, avail, used } = addresses;
    if (!ring.start({ format, size, base, desc, avail, used }))
      this.#options.remark(`rings: ring ${index} is not followed: no ${format} ring has ${size} descriptors`);
  }

  #spaceOf(index: number): AddressSpace {
    const { addresses } = this.#model.ring(index);
    if (addresses === undefined) return this.#spaces.uva;
    const space = ringSpace(addresses.desc, this.#model);
    return space === "gpa/uva" ? this.#spaces.uva : this.#spaces[space];
  }

  #settle(): void {
    this.#isChanged = true;
    const { gpa, iova } = this.#spaces;
    const isTranslated = this.#model.isAcknowledged(F.ACCESS_PLATFORM) && this.#model.iotlb.messages > 0;
    this.#guest.space = isTranslated ? iova : gpa;
  }
}

/**
 * Whether what is about to go may have been used until now. An UPDATE takes nothing away, and the device may have used
 * already what others behind it map; what was answered is over, and the memory may be somebody else's.
 */
function isTakingAway({ payload, isReply }: SessionMessage): boolean {
  return !isReply && !(payload?.kind === "iotlb" && payload.type === IOTLB_TYPE.UPDATE);
}

function inputOf({ guestAddress, userAddress, size, mmapOffset }: MemRegion): {
  gpa: bigint;
  uva: bigint;
  size: bigint;
  mmapOffset: bigint;
} {
  return { gpa: guestAddress, uva: userAddress, size, mmapOffset };
}
