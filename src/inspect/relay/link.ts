/**
 * Two sockets joined, one for each end of a channel: what comes in on one goes out on the other, whole messages with
 * their descriptors, as fast as the slower end takes them. An end that closes its half has it closed towards the other;
 * one that is gone ends the link. Knows messages by their length alone; what one means is its user's to ask.
 */
import { closeSync } from "node:fs";
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from "../../linux/epoll.js";
import { errnoName } from "../../linux/errors.js";
import type { EventLoop } from "../../linux/event-loop.js";
import { SHUT_WR, shutdownSocket } from "../../linux/unix-socket.js";
import type { FrameDirection } from "../frame.js";
import { Incoming } from "./incoming.js";
import { closeAll, Outgoing, type Piece } from "./outgoing.js";

/** Messages of one wake-up and end, so that a flood of one does not hold up the others. */
const MOST_MESSAGES = 64;

export type LinkSide = "front-end" | "back-end";

export interface LinkUser {
  /** A whole message that came; what is returned goes on instead of it. The descriptors are the user's. */
  message(direction: FrameDirection, bytes: Uint8Array, pieces: readonly Piece[]): readonly Piece[];
  /** Something that no message shows. */
  remark(text: string, isBroken: boolean): void;
  /** An end is gone and the link is closed. Called once, unless `close` was. */
  ended(by: LinkSide, reason: string): void;
}

class End {
  token: number | undefined;
  /** What is watched for, if anything is. */
  mask = 0;
  readonly incoming: Incoming;
  readonly outgoing: Outgoing;
  /** No more comes from here. */
  hasEnded = false;
  /** Nothing can be sent here any more, and nothing will come. */
  isGone = false;
  /** Told that no more comes from the other end. */
  wasShut = false;
  reason = "";

  constructor(
    readonly fd: number,
    readonly side: LinkSide,
  ) {
    this.incoming = new Incoming(fd);
    this.outgoing = new Outgoing(fd);
  }
}

export class Link {
  readonly #front: End;
  readonly #back: End;
  #isOpen = true;
  #isPaused = false;
  /** Which end ended first. */
  #first: End | undefined;

  /** Takes ownership of both sockets. Neither needs to be non-blocking. */
  constructor(
    fronts: number,
    backs: number,
    readonly loop: EventLoop,
    readonly user: LinkUser,
  ) {
    this.#front = new End(fronts, "front-end");
    this.#back = new End(backs, "back-end");
    this.#settle();
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Sends a message of our own behind what is on its way. False if that end takes nothing any more. */
  inject(direction: FrameDirection, bytes: Uint8Array): boolean {
    const target = direction === "to-backend" ? this.#back : this.#front;
    if (!this.#isOpen || target.isGone || target.wasShut) return false;
    target.outgoing.add({ bytes: bytes.slice(), fds: [] });
    this.#flush(target);
    this.#settle();
    return true;
  }

  /** Takes nothing more in until `resume`. */
  pause(): void {
    this.#isPaused = true;
    this.#settle();
  }

  resume(): void {
    this.#isPaused = false;
    this.#settle();
  }

  /** Closes both ends and calls nobody. Idempotent. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    for (const end of [this.#front, this.#back]) {
      this.#watch(end, 0);
      end.incoming.close();
      end.outgoing.drop();
      closeSync(end.fd);
    }
  }

  #other(end: End): End {
    return end === this.#front ? this.#back : this.#front;
  }

  #onEvents(end: End, events: number): void {
    if (!this.#isOpen) return;
    if ((events & EPOLLOUT) !== 0) this.#flush(end);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) !== 0) this.#read(end);
    // A peer that is gone is told apart from one that only sends no more by EPOLLHUP.
    if (end.hasEnded && (events & (EPOLLHUP | EPOLLERR)) !== 0) end.isGone = true;
    this.#settle();
  }

  #read(end: End): void {
    const other = this.#other(end);
    for (let messages = 0; messages < MOST_MESSAGES; ) {
      if (end.hasEnded || !other.outgoing.isEmpty || this.#isPaused || !this.#isOpen) return;
      const arrival = end.incoming.read();
      if (arrival === undefined) continue;
      switch (arrival.kind) {
        case "nothing":
          return;
        case "message": {
          messages++;
          const direction = end === this.#front ? "to-backend" : "to-frontend";
          this.#pass(other, this.user.message(direction, arrival.bytes, arrival.pieces));
          break;
        }
        case "raw":
          messages++;
          this.#pass(other, [arrival.piece]);
          break;
        case "lost":
          this.user.remark(`${arrival.problem}: what follows from the ${end.side} is passed on unseen`, true);
          break;
        case "descriptors-lost":
          this.#leave(
            end,
            "descriptors were lost: too many came at once, or this process may open no more files",
          );
          end.isGone = true;
          return;
        case "end":
          if (arrival.cut.length > 0) this.user.remark(`the ${end.side} closed within a message`, true);
          this.#pass(other, arrival.cut);
          this.#leave(end, reasonOf(end.side, arrival.result));
          if (arrival.result < 0) end.isGone = true;
          return;
      }
    }
  }

  #leave(end: End, reason: string): void {
    end.hasEnded = true;
    end.reason = reason;
    this.#first ??= end;
  }

  #pass(target: End, pieces: readonly Piece[]): void {
    // A message that was injected meanwhile can have found that an end is gone, and closed the link.
    if (!this.#isOpen || target.isGone || target.wasShut) {
      for (const { fds } of pieces) closeAll(fds);
      return;
    }
    for (const piece of pieces) target.outgoing.add(piece);
    this.#flush(target);
  }

  #flush(target: End): void {
    const result = target.outgoing.flush();
    if (result >= 0) return;
    target.outgoing.drop();
    target.isGone = true;
    // What it sent before it went is still there to be read.
    this.#read(target);
    if (!target.hasEnded) this.#leave(target, reasonOf(target.side, result));
  }

  /** What follows from the state of both ends: what is watched, which half is closed, whether it is over. */
  #settle(): void {
    if (!this.#isOpen) return;
    for (const end of [this.#front, this.#back]) {
      const other = this.#other(end);
      if (end.hasEnded && other.outgoing.isEmpty && !other.wasShut) {
        other.wasShut = true;
        if (!end.isGone) shutdownSocket(other.fd, SHUT_WR);
      }
    }
    if (this.#isOver()) {
      const by = this.#first ?? this.#front;
      this.close();
      this.user.ended(by.side, by.reason);
      return;
    }
    for (const end of [this.#front, this.#back]) {
      const reads = !end.hasEnded && this.#other(end).outgoing.isEmpty && !this.#isPaused;
      const mask = (reads ? EPOLLIN : 0) | (end.outgoing.isEmpty ? 0 : EPOLLOUT);
      // Half closed: nothing to wait for but that it goes altogether, which epoll tells unasked.
      const waitsForHangup = end.hasEnded && !end.isGone && !this.#isPaused;
      this.#watch(end, mask !== 0 ? mask : waitsForHangup ? EPOLLERR : 0);
    }
  }

  /** Over once an end is gone and the other has what was on its way to it, or once both have ended. */
  #isOver(): boolean {
    const [front, back] = [this.#front, this.#back];
    if (front.isGone && (back.isGone || back.outgoing.isEmpty)) return true;
    if (back.isGone && front.outgoing.isEmpty) return true;
    return front.hasEnded && back.hasEnded && front.outgoing.isEmpty && back.outgoing.isEmpty;
  }

  /** 0: not at all, since epoll reports a hang-up whatever is asked for. */
  #watch(end: End, mask: number): void {
    if (mask === end.mask) return;
    end.mask = mask;
    if (mask === 0) {
      if (end.token !== undefined) this.loop.unwatch(end.fd, end.token);
      end.token = undefined;
    } else if (end.token === undefined) {
      end.token = this.loop.watch(end.fd, mask, { onEvents: (events) => this.#onEvents(end, events) });
    } else {
      this.loop.modify(end.fd, mask, end.token);
    }
  }
}

function reasonOf(side: LinkSide, result: number): string {
  return result === 0 ? `the ${side} closed the connection` : `the ${side} is gone (${errnoName(-result)})`;
}
