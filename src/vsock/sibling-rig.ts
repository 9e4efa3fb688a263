/**
 * For tests of this folder: two sibling guests, each a `SwitchRig` of its own, on one loop, and what they say to each
 * other. Not part of the product.
 */

import { Op, SocketType } from "./header.js";
import type { SwitchLimits } from "./limits.js";
import { Company, FakeRing, type Fields, LINUX_BUFFER_BYTES, SwitchRig } from "./switch-rig.js";

export const [CID_A, CID_B] = [3, 4];
export const [PORT_A, PORT_B] = [1024, 5000];

export interface PairOptions {
  readonly limits?: Partial<SwitchLimits>;
  readonly groupsA?: readonly string[];
  readonly groupsB?: readonly string[];
  readonly ringA?: FakeRing;
  readonly ringB?: FakeRing;
}

/** Guest A asks for port `PORT_B` of guest B, from its port `PORT_A`. */
export class SiblingPair {
  readonly company = new Company();
  readonly a: SwitchRig;
  readonly b: SwitchRig;
  /** `SocketType`. */
  type: number = SocketType.STREAM;

  constructor({ limits, groupsA = ["g"], groupsB = ["g"], ringA, ringB }: PairOptions = {}) {
    const { company } = this;
    this.a = new SwitchRig(limits, ringA ?? new FakeRing(), { company, cid: CID_A, groups: groupsA });
    this.b = new SwitchRig(limits, ringB ?? new FakeRing(), { company, cid: CID_B, groups: groupsB });
    this.a.vsock.seqpacket = true;
    this.b.vsock.seqpacket = true;
  }

  /** Fields of a packet of the connection, from A or from B. */
  fields(from: "a" | "b", more: Fields = {}): Fields {
    const ends = {
      a: { dstCid: CID_B, srcPort: PORT_A, dstPort: PORT_B },
      b: { dstCid: CID_A, srcPort: PORT_B, dstPort: PORT_A },
    };
    return { ...ends[from], type: this.type, ...more };
  }

  /** A packet of the connection, and everything that follows from it. */
  say(from: "a" | "b", more: Fields, payload: Buffer | string = "", framing?: readonly number[]): void {
    this[from].guest(this.fields(from, more), payload, framing);
  }

  /** Opens the connection; what was said for it is forgotten. */
  connect(answer: Fields = {}): void {
    this.say("a", { op: Op.REQUEST });
    this.say("b", { op: Op.RESPONSE, ...answer });
    const heard = [...this.b.heard(), ...this.a.heard()];
    if (heard.join() !== "REQUEST,RESPONSE") throw new Error(`expected a connection, got ${heard}`);
  }

  /** The guest's program has taken so many bytes of the connection altogether. */
  consumed(by: "a" | "b", bytes: number, bufAlloc = LINUX_BUFFER_BYTES): void {
    this.say(by, { op: Op.CREDIT_UPDATE, fwdCnt: bytes, bufAlloc });
  }

  /** Payload that a guest was sent since it was last asked. */
  received(by: "a" | "b"): Buffer {
    return Buffer.concat(this[by].take().map(({ payload }) => payload));
  }

  close(): void {
    this.a.close();
    this.b.close();
  }
}
