/**
 * One session that goes through: the link of its main socket, that of its back-end channel once there is one, each
 * message reported before it goes on, and rewritten if somebody was asked to. Must not know what a message does, but
 * for the one that brings a second socket.
 */
import { closeSync } from "node:fs";
import type { EventLoop } from "../../linux/event-loop.js";
import { socketPair } from "../../linux/unix-socket.js";
import { decodeHeader, isReply, messageByName } from "../../vhost/wire/index.js";
import type { FrameChannel, FrameDirection, FrameObserver } from "../frame.js";
import type { Clock } from "./clock.js";
import { descriptorKind } from "./descriptor-kind.js";
import { Link, type LinkSide } from "./link.js";
import type { Piece } from "./outgoing.js";
import type { MakeRewriter, Rewriter, RewriterPort } from "./rewriter.js";
import type { RelayTap } from "./tap.js";

const SET_BACKEND_REQ_FD = messageByName("frontend", "SET_BACKEND_REQ_FD").id;

export interface RelaySessionOptions {
  readonly session: number;
  readonly loop: EventLoop;
  readonly clock: Clock;
  readonly observer: FrameObserver;
  readonly makeRewriter: MakeRewriter | undefined;
  readonly tap: RelayTap | undefined;
  readonly finished: () => void;
}

export class RelaySession implements RewriterPort {
  readonly #options: RelaySessionOptions;
  readonly #main: Link;
  readonly #rewriter: Rewriter | undefined;
  /** A front-end may give another socket; the one before it goes on until somebody closes it. */
  readonly #channels = new Set<Link>();
  #channel: Link | undefined;
  #isPaused = false;
  #isOver = false;

  /** Takes ownership of both sockets. */
  constructor(frontFd: number, backFd: number, options: RelaySessionOptions) {
    this.#options = options;
    this.#rewriter = options.makeRewriter?.(this);
    this.#main = new Link(frontFd, backFd, options.loop, {
      message: (direction, bytes, pieces) => this.#message("main", direction, bytes, pieces),
      remark: (text, isBroken) => this.#remark(text, isBroken),
      ended: (by, reason) => this.#end(by, reason),
    });
  }

  inject(channel: FrameChannel, direction: FrameDirection, bytes: Uint8Array): boolean {
    const link = channel === "main" ? this.#main : this.#channel;
    if (link?.inject(direction, bytes) !== true) return false;
    const { observer, session, clock } = this.#options;
    observer.frame(session, { timeNs: clock.nowNs(), channel, direction, bytes, descriptorCount: 0 });
    return true;
  }

  remark(text: string): void {
    this.#remark(text, false);
  }

  pause(): void {
    this.#isPaused = true;
    for (const link of [this.#main, ...this.#channels]) link.pause();
  }

  resume(): void {
    this.#isPaused = false;
    for (const link of [this.#main, ...this.#channels]) link.resume();
  }

  /** Ends the session for both. */
  close(reason: string): void {
    this.#end("observer", reason);
  }

  #message(
    channel: FrameChannel,
    direction: FrameDirection,
    bytes: Uint8Array,
    pieces: readonly Piece[],
  ): readonly Piece[] {
    const fds = pieces.flatMap((piece) => piece.fds);
    const { observer, session, clock, tap } = this.#options;
    const seen = { timeNs: clock.nowNs(), channel, direction, bytes, descriptorCount: fds.length };
    observer.frame(session, fds.length === 0 ? seen : { ...seen, descriptorKinds: fds.map(descriptorKind) });
    tap?.message(session, seen, fds);
    const passed = this.#rewritten(channel, direction, bytes, pieces, fds);
    const header = decodeHeader(bytes);
    const isChannel =
      channel === "main" && direction === "to-backend" && header.request === SET_BACKEND_REQ_FD;
    return isChannel && !isReply(header) ? this.#joinChannel(passed) : passed;
  }

  #rewritten(
    channel: FrameChannel,
    direction: FrameDirection,
    bytes: Uint8Array,
    pieces: readonly Piece[],
    fds: readonly number[],
  ): readonly Piece[] {
    const rewriting = this.#rewriter?.rewrite({ channel, direction, bytes, fds });
    if (rewriting === undefined || rewriting.kind === "pass") return pieces;
    if (rewriting.kind === "replace") return [{ bytes: rewriting.bytes.slice(), fds }];
    for (const fd of fds) closeSync(fd);
    return [];
  }

  /**
   * Puts a socket of our own in the place of the front-end's, so that what the back-end asks goes through here. The
   * front-end's is left as it is: its flags are the front-end's too.
   */
  #joinChannel(pieces: readonly Piece[]): readonly Piece[] {
    const fds = pieces.flatMap((piece) => piece.fds);
    const [fd] = fds;
    if (fds.length !== 1 || descriptorKind(fd) !== "socket") {
      if (fds.length > 0) this.remark("the back-end channel is no socket: it is passed on unseen");
      return pieces;
    }
    let pair: [number, number];
    try {
      pair = socketPair();
    } catch (error) {
      this.remark(`the back-end channel is passed on unseen: ${(error as Error).message}`);
      return pieces;
    }
    const [near, given] = pair;
    const link = new Link(fd, near, this.#options.loop, {
      message: (direction, bytes, parts) => this.#message("backend", direction, bytes, parts),
      remark: (text, isBroken) => this.#remark(`back-end channel: ${text}`, isBroken),
      ended: (_by, reason) => this.#channelEnded(link, reason),
    });
    if (this.#isPaused) link.pause();
    this.#channels.add(link);
    this.#channel = link;
    return pieces.map((piece) => (piece.fds.length === 0 ? piece : { bytes: piece.bytes, fds: [given] }));
  }

  #channelEnded(link: Link, reason: string): void {
    this.#channels.delete(link);
    if (this.#channel === link) this.#channel = undefined;
    this.#remark(`back-end channel: ${reason}`, false);
  }

  #remark(text: string, isBroken: boolean): void {
    const { observer, session, clock } = this.#options;
    observer.remark(session, { timeNs: clock.nowNs(), text, isGap: isBroken, isBroken });
  }

  #end(by: LinkSide | "observer", reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#main.close();
    for (const link of this.#channels) link.close();
    this.#rewriter?.close();
    const { observer, session, clock, finished, tap } = this.#options;
    tap?.ended(session);
    observer.ended(session, { timeNs: clock.nowNs(), by, reason });
    finished();
  }
}
