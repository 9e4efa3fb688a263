/**
 * Serves the IOTLB in the place of a front-end that acknowledged bit 33 and maps nothing. Its guest translates nothing,
 * so each region is mapped twice: at its guest-physical address, which buffers have, and at its user address, which rings
 * have. The UPDATEs go to the back-end before a ring starts and whenever a MISS asks; the MISSes do not reach the
 * front-end, nor do the answers to the UPDATEs.
 */

import { encodeAck, encodeRequest, IOTLB_PERM, IOTLB_TYPE, type MemRegion } from "../../vhost/wire/index.js";
import { F, has, hex, PROTOCOL_F } from "../../virtio/index.js";
import { messageOf, type SessionMessage } from "../message.js";
import { SessionModel } from "../model/session-model.js";
import { PASS, type RelayedMessage, type RewriterPort, type Rewriting } from "../relay/rewriter.js";

const DROP: Rewriting = { kind: "drop" };

export class IotlbServer {
  readonly #port: RewriterPort;
  readonly #model = new SessionModel("vhost-user");
  /** Regions that the back-end has mappings of. */
  #mapped: readonly MemRegion[] = [];
  /** UPDATEs and INVALIDATEs of ours whose answers have not come. */
  #unanswered = 0;
  /** The front-end maps by itself after all. */
  #isNeeded = true;

  constructor(port: RewriterPort) {
    this.#port = port;
  }

  rewrite({ channel, direction, bytes, fds }: RelayedMessage): Rewriting {
    const message = messageOf({ timeNs: 0n, channel, direction, bytes, descriptorCount: fds.length });
    const rewriting = this.#look(message);
    if (rewriting.kind !== "drop") this.#model.apply(message, undefined);
    return rewriting;
  }

  #look(message: SessionMessage): Rewriting {
    const { channel, name, isReply, payload } = message;
    if (channel === "backend") return this.#isMiss(message) ? this.#answer(message) : PASS;
    if (name === "IOTLB_MSG") return isReply ? this.#ownAnswer() : this.#stepBack();
    if (isReply) return PASS;
    if (this.#model.isOwnerAgain(message)) this.#mapped = [];
    if (name === "SET_FEATURES" || name === "RESET_DEVICE") this.#forget(payload);
    if (name === "SET_MEM_TABLE") this.#unmap(this.#mapped);
    if (name === "REM_MEM_REG" && payload?.kind === "memRegion") {
      const { guestAddress, userAddress } = payload.region;
      this.#unmap(
        this.#mapped.filter((each) => each.guestAddress === guestAddress && each.userAddress === userAddress),
      );
    }
    const starts =
      name === "SET_VRING_KICK" ||
      (name === "SET_VRING_ENABLE" && payload?.kind === "vringState" && payload.num === 1);
    if (starts && this.#serves()) this.#map(this.#model.regions);
    return PASS;
  }

  /** A back-end may empty its IOTLB at this point; while rings run only the switch for dirty logging changes. */
  #forget(payload: SessionMessage["payload"]): void {
    if (payload?.kind === "u64" && !has(payload.value, F.ACCESS_PLATFORM)) this.#unmap(this.#mapped);
    else if (this.#model.runningRings.length === 0) this.#mapped = [];
  }

  #isMiss({ name, isReply, payload }: SessionMessage): boolean {
    const isQuestion = name === "BACKEND_IOTLB_MSG" && !isReply;
    return isQuestion && payload?.kind === "iotlb" && payload.type === IOTLB_TYPE.MISS && this.#serves();
  }

  /** Whether the back-end has reason to translate, and nobody else tells it how. */
  #serves(): boolean {
    if (!this.#isNeeded || !this.#model.isAcknowledged(F.ACCESS_PLATFORM)) return false;
    const addresses = [...this.#model.rings.values()].flatMap((ring) =>
      ring.addresses ? [ring.addresses.desc] : [],
    );
    if (addresses.every((address) => this.#model.classOf(address) !== "iova")) return true;
    this.#giveUp("a ring is at an I/O virtual address, so the front-end translates by itself");
    return false;
  }

  #stepBack(): Rewriting {
    this.#giveUp("the front-end sends IOTLB messages by itself");
    return PASS;
  }

  #giveUp(why: string): void {
    if (this.#isNeeded) this.#port.remark(`repair: the IOTLB is not served: ${why}`);
    this.#isNeeded = false;
  }

  /** An answer to a message of ours is nobody else's. */
  #ownAnswer(): Rewriting {
    if (this.#unanswered === 0) return PASS;
    this.#unanswered--;
    return DROP;
  }

  #answer(message: SessionMessage): Rewriting {
    const iova = message.payload?.kind === "iotlb" ? message.payload.iova : 0n;
    const region = this.#model.regions.find(({ guestAddress, userAddress, size }) =>
      [guestAddress, userAddress].some((start) => iova >= start && iova < start + size),
    );
    if (region === undefined)
      this.#port.remark(`repair: MISS ${hex(iova)} is in no region, and cannot be answered`);
    else this.#map([region], true);
    if (message.needReply && this.#model.hasProtocol(PROTOCOL_F.REPLY_ACK)) {
      const header = { request: message.request, flags: 0, size: 0 };
      this.#port.inject("backend", "to-backend", encodeAck(header, region === undefined ? 1n : 0n));
    }
    return DROP;
  }

  /** @param isAsked the back-end has lost what it may have had */
  #map(regions: readonly MemRegion[], isAsked = false): void {
    for (const region of regions) {
      if (!isAsked && this.#mapped.includes(region)) continue;
      if (!this.#mapped.includes(region)) {
        const { guestAddress, userAddress, size } = region;
        this.#port.remark(
          `repair: mapped ${hex(size)} bytes at gpa:${hex(guestAddress)} and uva:${hex(userAddress)}`,
        );
        this.#mapped = [...this.#mapped, region];
      }
      this.#send(IOTLB_TYPE.UPDATE, region.guestAddress, region);
      this.#send(IOTLB_TYPE.UPDATE, region.userAddress, region);
    }
  }

  #unmap(regions: readonly MemRegion[]): void {
    for (const region of regions) {
      this.#send(IOTLB_TYPE.INVALIDATE, region.guestAddress, region);
      this.#send(IOTLB_TYPE.INVALIDATE, region.userAddress, region);
    }
    this.#mapped = this.#mapped.filter((region) => !regions.includes(region));
  }

  #send(type: number, iova: bigint, { size, userAddress }: MemRegion): void {
    const payload = { kind: "iotlb", type, iova, size, userAddress, perm: IOTLB_PERM.readWrite } as const;
    const needReply = this.#model.hasProtocol(PROTOCOL_F.REPLY_ACK);
    const bytes = encodeRequest("frontend", "IOTLB_MSG", payload, { needReply });
    if (this.#port.inject("main", "to-backend", bytes)) this.#unanswered++;
  }
}
