/**
 * The IOTLB messages of a front-end as bytes, for the time in which nothing else is said: prepared messages and plain
 * reads and writes, so that it is the device that is measured. Their content and order are QEMU's: each asks for a
 * reply, and a blocking read waits for it. Must not know why something is mapped.
 */
import { checked, errno, orErrno } from "../src/linux/errors.js";
import { libcCalls } from "../src/linux/libc.js";
import { Scratch } from "../src/linux/scratch.js";
import {
  encodeAck,
  encodeRequest,
  HEADER_BYTES,
  IOTLB_TYPE,
  type IotlbMessage,
  LAYOUTS,
} from "../src/vhost/wire/index.js";

const MSG_DONTWAIT = 0x40;
/** Messages sent in one piece at most, and answers left unread at most: less than a socket holds. */
const MOST_AT_ONCE = 128;
const PAGE_BYTES = 4096;

function encoded(message: IotlbMessage): Uint8Array {
  return encodeRequest("frontend", "IOTLB_MSG", { kind: "iotlb", ...message }, { needReply: true });
}

const EMPTY: IotlbMessage = { type: IOTLB_TYPE.UPDATE, iova: 0n, size: 0n, userAddress: 0n, perm: 0 };
const MESSAGE_BYTES = encoded(EMPTY).length;
const ANSWER_BYTES = encodeAck({ request: 0, flags: 0, size: 0 }, 0n).length;

const at = (name: (typeof LAYOUTS.IOTLB.fields)[number]["name"]): number =>
  HEADER_BYTES + (LAYOUTS.IOTLB.fields.find((field) => field.name === name)?.offset ?? 0);
const IOVA = at("iova");
const SIZE = at("size");
const USER_ADDRESS = at("userAddress");
const PERM = at("perm");
const TYPE = at("type");

/** What a question is answered with: the page's user address, and for which accesses it is mapped. */
export interface MappedPage {
  readonly user: number;
  readonly access: number;
}

export class IotlbLine {
  readonly #fd: number;
  readonly #channelFd: number;
  readonly #out = new Scratch(MOST_AT_ONCE * MESSAGE_BYTES);
  readonly #answers = new Scratch(MOST_AT_ONCE * ANSWER_BYTES);
  readonly #questions = new Scratch(MOST_AT_ONCE * MESSAGE_BYTES);
  /** Messages in `out`. */
  #unsent = 0;
  /** Answers that were not read yet. */
  #due = 0;
  /** Bytes of a question that is not whole yet. */
  #keptBytes = 0;

  /** `fd`: the session's socket, which blocks; `channelFd`: the front-end's end of the back-end channel. */
  constructor(fd: number, channelFd: number) {
    this.#fd = fd;
    this.#channelFd = channelFd;
    const message = encoded(EMPTY);
    for (let index = 0; index < MOST_AT_ONCE; index++) this.#out.bytes.set(message, index * MESSAGE_BYTES);
  }

  update(iova: number, bytes: number, user: number, access: number): void {
    this.#add(IOTLB_TYPE.UPDATE, iova, bytes, user, access);
  }

  invalidate(iova: number, bytes: number): void {
    this.#add(IOTLB_TYPE.INVALIDATE, iova, bytes, 0, 0);
  }

  #add(type: number, iova: number, bytes: number, user: number, access: number): void {
    if (this.#unsent === MOST_AT_ONCE) this.send();
    const { data } = this.#out;
    const base = this.#unsent++ * MESSAGE_BYTES;
    put(data, base + IOVA, iova);
    put(data, base + SIZE, bytes);
    put(data, base + USER_ADDRESS, user);
    data.setUint8(base + PERM, access);
    data.setUint8(base + TYPE, type);
  }

  /** Sends what was added, in one piece. */
  send(): void {
    if (this.#unsent === 0) return;
    while (this.#due > 0 && this.#due + this.#unsent > MOST_AT_ONCE) this.#readAnswers();
    const bytes = this.#unsent * MESSAGE_BYTES;
    this.#due += this.#unsent;
    this.#unsent = 0;
    for (let sent = 0; sent < bytes; )
      sent += checked(
        orErrno(libcCalls.write(this.#fd, this.#out.address + sent, bytes - sent)),
        "write",
        "an IOTLB message",
      );
  }

  /** Sends what was added, and returns once everything is answered. */
  settle(): void {
    this.send();
    while (this.#due > 0) this.#readAnswers();
  }

  /**
   * Reads the questions that are there and adds the answer to each, after which `added` is called. How many there
   * were.
   */
  takeQuestions(lookup: (page: number) => MappedPage | undefined, added: () => void): number {
    const { address, bytes, data } = this.#questions;
    const kept = this.#keptBytes;
    const room = MOST_AT_ONCE * MESSAGE_BYTES - kept;
    const got = orErrno(libcCalls.recv(this.#channelFd, address + kept, room, MSG_DONTWAIT));
    if (got === -errno.EAGAIN) return 0;
    checked(got, "recv", "questions of the device");
    if (got === 0) throw new Error("the device closed the back-end channel");
    const end = kept + got;
    let from = 0;
    for (; from + MESSAGE_BYTES <= end; from += MESSAGE_BYTES) {
      if (data.getUint8(from + TYPE) !== IOTLB_TYPE.MISS) throw new Error("the device sent no MISS");
      const page =
        data.getUint32(from + IOVA + 4, true) * 2 ** 20 + (data.getUint32(from + IOVA, true) >>> 12);
      const found = lookup(page);
      if (found === undefined) continue;
      this.update(page * PAGE_BYTES, PAGE_BYTES, found.user, found.access);
      added();
    }
    bytes.copyWithin(0, from, end);
    this.#keptBytes = end - from;
    return from / MESSAGE_BYTES;
  }

  #readAnswers(): void {
    const { address, data } = this.#answers;
    let got = 0;
    do {
      const more = orErrno(libcCalls.read(this.#fd, address + got, this.#due * ANSWER_BYTES - got));
      if (checked(more, "read", "an answer") === 0) throw new Error("the device closed the session");
      got += more;
    } while (got % ANSWER_BYTES !== 0);
    for (let answer = 0; answer < got; answer += ANSWER_BYTES)
      if (data.getUint32(answer + HEADER_BYTES, true) !== 0)
        throw new Error("the device refused an IOTLB message");
    this.#due -= got / ANSWER_BYTES;
  }
}

/** A number of 64 bits as its two halves: addresses here are below 2^53. */
function put(data: DataView, offset: number, value: number): void {
  data.setUint32(offset, value % 2 ** 32, true);
  data.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
}
