/**
 * The IOTLB of a session and its line to the front-end: mappings that came, questions that go out on the back-end
 * channel, and the timer that tries again what stays unanswered. Never blocks. Must not know rings or when translation
 * is on: where it is off nobody notes a miss, so there is nothing to send.
 */

import { closeSync } from "node:fs";
import { SystemCallError } from "../linux/errors.js";
import type { EventLoop } from "../linux/event-loop.js";
import type { Timer } from "../linux/timers.js";
import type { Logger } from "../log/logger.js";
import type { GuestMemory } from "../memory/guest-memory.js";
import { Iotlb } from "../memory/iotlb.js";
import { IotlbSpace } from "../memory/iotlb-space.js";
import { MISS_TIMEOUT_MS, MissQueue } from "../memory/miss-queue.js";
import { BackendChannel } from "./backend-channel.js";
import { ringAreas } from "./ring-areas.js";
import type { RingState } from "./ring-state.js";
import { encodeRequest, IOTLB_TYPE } from "./wire/index.js";

/** Whom the link tells. */
export interface IotlbLinkListener {
  /** There is a back-end channel now. */
  channelOpened(): void;
  /** Questions stayed unanswered: rings that still need something have to ask again. */
  retry(): void;
}

export class IotlbLink {
  readonly iotlb: Iotlb;
  readonly misses: MissQueue;
  readonly #missTimeoutMs: number;
  readonly #loop: EventLoop;
  readonly #log: Logger;
  readonly #listener: IotlbLinkListener;
  #channel: BackendChannel | undefined;
  #retryTimer: Timer | undefined;
  #saidNobodyToAsk = false;
  /** Rounds of questions in a row to which no UPDATE came. */
  #roundsInVain = 0;

  constructor(
    memory: GuestMemory,
    loop: EventLoop,
    log: Logger,
    listener: IotlbLinkListener,
    missTimeoutMs: number = MISS_TIMEOUT_MS,
  ) {
    this.misses = new MissQueue({ timeoutMs: missTimeoutMs });
    this.#missTimeoutMs = missTimeoutMs;
    this.iotlb = new Iotlb(memory);
    this.#loop = loop;
    this.#log = log;
    this.#listener = listener;
  }

  get hasChannel(): boolean {
    return this.#channel !== undefined;
  }

  /** A new view of the IOTLB for one ring or its buffers. */
  newSpace(): IotlbSpace {
    return new IotlbSpace(this.iotlb, this.misses);
  }

  /** SET_BACKEND_REQ_FD: takes ownership of `fd`, in place of an earlier channel. Returns what is wrong with it. */
  openChannel(fd: number): string | undefined {
    let channel: BackendChannel;
    try {
      channel = new BackendChannel(fd, this.#loop, {
        closed: (reason) => this.#channelClosed(reason),
        writable: () => this.flush(),
      });
    } catch (error) {
      closeSync(fd);
      if (error instanceof SystemCallError) return error.message;
      throw error;
    }
    this.#channel?.close();
    this.#channel = channel;
    this.#listener.channelOpened();
    return undefined;
  }

  /** Maps a range. Throws a MemoryError if the message cannot be obeyed. */
  update(iova: bigint, size: bigint, userAddress: bigint, permission: number): void {
    this.iotlb.update(iova, size, userAddress, permission);
    if (this.misses.satisfied(iova, size) > 0) this.#roundsInVain = 0;
  }

  /** Forgets every mapping and question: a new negotiation. Linux starts with an empty IOTLB then, too. */
  clear(): void {
    this.iotlb.clear();
    this.misses.clear();
    this.#saidNobodyToAsk = false;
    this.#roundsInVain = 0;
  }

  /**
   * The last ring stopped: a suspended device must "not send any messages to the front-end" (Suspended device state),
   * and QEMU answers a MISS of one with an error. Rings that start again ask again, also for what was asked already:
   * the front-end may have dropped it.
   */
  forgetQuestions(): void {
    this.misses.clear();
    this.#roundsInVain = 0;
    this.#channel?.dropUnsent();
  }

  /** Keeps the pages of exactly these rings from being retired. */
  pinRings(rings: readonly RingState[], features: bigint): void {
    this.iotlb.unpinAll();
    for (const ring of rings)
      for (const { address, bytes } of ringAreas(ring, features)) this.#pin(address, bytes);
  }

  #pin(address: bigint, length: number): void {
    this.iotlb.pin(Number(address & 0xffffffffn), Number((address >> 32n) & 0xffffffffn), length);
  }

  /** Sends every question that was noted since the last call, in one sendmsg. Cheap if there is none. */
  flush(): void {
    if (this.misses.count === 0) return;
    if (this.#channel === undefined) this.#sayNobodyToAsk();
    else if (this.#channel.isReady && this.misses.hasUnsent) this.#sendQuestions(this.#channel);
    this.#retryTimer ??= this.#loop.setTimer(this.#missTimeoutMs, () => this.#retryUnanswered());
  }

  /**
   * Without NEED_REPLY: the answer would say nothing that the UPDATE does not. "No mapping" is no verdict on the ring:
   * a VMM that moves memory unmaps a ring page for a moment, and a guest may map a buffer late.
   */
  #sendQuestions(channel: BackendChannel): void {
    const messages: Uint8Array[] = [];
    const nowMs = this.#loop.timers.now();
    for (let miss = this.misses.take(nowMs); miss !== undefined; miss = this.misses.take(nowMs)) {
      messages.push(
        encodeRequest("backend", "IOTLB_MSG", {
          kind: "iotlb",
          iova: miss.iova,
          size: 0n,
          userAddress: 0n,
          perm: miss.permission,
          type: IOTLB_TYPE.MISS,
        }),
      );
    }
    channel.send(Buffer.concat(messages), messages[0].length);
  }

  #retryUnanswered(): void {
    this.#retryTimer = undefined;
    if (this.misses.forgetUnanswered(this.#loop.timers.now()) > 0) {
      this.#roundsInVain++;
      if (this.#roundsInVain === 1) this.#sayUnmapped();
      this.#listener.retry();
    }
    this.flush();
  }

  #sayUnmapped(): void {
    this.#log.log({
      event: "mapping-missing",
      message:
        `the front-end was asked for mappings that a ring needs, and sent none within ${this.#missTimeoutMs} ms; ` +
        "the ring waits, and the question is repeated at growing intervals",
    });
  }

  #sayNobodyToAsk(): void {
    if (this.#saidNobodyToAsk) return;
    this.#saidNobodyToAsk = true;
    this.#log.log({
      event: "iotlb-refused",
      message:
        "a mapping is missing and there is no back-end channel to ask for it; the rings wait for an UPDATE",
      fields: { pending: this.misses.count },
    });
  }

  #channelClosed(reason: string): void {
    this.#channel = undefined;
    this.#log.log({ event: "channel-closed", message: reason });
  }

  close(): void {
    this.#retryTimer?.cancel();
    this.#retryTimer = undefined;
    this.#channel?.close();
    this.#channel = undefined;
  }
}
