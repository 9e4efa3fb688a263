/**
 * What a case gets to work with: fresh sessions, guests, the host's programs, expectations, and time that is bounded.
 * Closes behind the case whatever it opened. Must not know any case.
 */
import { closeSync } from "node:fs";
import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import { errno, errnoName } from "../linux/errors.js";
import { connectUnix, createSocket } from "../linux/unix-socket.js";
import { F, has, PROTOCOL_F } from "../virtio/index.js";
import type { FeatureName, ProtocolFeatureName } from "./case.js";
import { Evidence } from "./evidence.js";
import { assertWorks } from "./exchange.js";
import { Expect } from "./expect.js";
import { HostPrograms, type Until } from "./host-programs.js";
import { CaseFailed, CaseSkipped } from "./outcome.js";
import { protocolFeaturesFor, RawGuest, type RawGuestOptions } from "./raw-guest.js";
import { featureBit, TracedSession } from "./traced-session.js";

/** The back-end under test. */
export interface Target {
  /** Its vhost-user socket. */
  readonly socketPath: string;
  /** Its hybrid socket, if the host's side is to be tried, too. */
  readonly udsPath?: string | undefined;
  /** What the guest is called, for a back-end that gives no access to its configuration space. */
  readonly guestCid?: number | undefined;
  /** How long an answer may take. Default 2000. */
  readonly patienceMs?: number | undefined;
}

/** What the back-end offers: asked once, before the first case. */
export interface Offer {
  readonly features: bigint;
  readonly protocolFeatures: bigint;
}

export const DEFAULT_PATIENCE_MS = 2000;
/** So long `until` looks without pausing. */
const EAGER_MS = 2;

export class CaseContext {
  readonly evidence = new Evidence();
  readonly expect = new Expect();
  /** The host's programs; a case that uses them needs the endpoint `uds`. */
  readonly host: HostPrograms;
  readonly patienceMs: number;
  readonly #sessions = new Set<TracedSession>();
  readonly #guests = new Set<RawGuest>();
  readonly #closers: (() => void)[] = [];
  readonly #deadlineMs: number;
  #nextHostPort: number;
  #isOver = false;

  /**
   * @param limitMs how long the case may take altogether
   * @param ensure starts the back-end again if it ends with each session, which it may
   */
  constructor(
    readonly target: Target,
    readonly offer: Offer,
    limitMs: number,
    private readonly ensure: () => Promise<void> = async () => {},
  ) {
    this.patienceMs = target.patienceMs ?? DEFAULT_PATIENCE_MS;
    this.#deadlineMs = performance.now() + limitMs;
    this.host = new HostPrograms(target.udsPath, this.until, this.evidence);
    // Others than the case before had: a back-end may still remember those.
    this.#nextHostPort = 5000 + Math.floor(Math.random() * 40_000);
  }

  /** A port of the host's that no case before has used lately. */
  hostPort(): number {
    return this.#nextHostPort++;
  }

  /** The rule does not apply; says what is missing. */
  skip(missing: string): never {
    throw new CaseSkipped(missing);
  }

  /** Whether the back-end offers a feature. */
  offers(feature: FeatureName): boolean {
    return has(this.offer.features, featureBit(feature));
  }

  offersProtocol(feature: ProtocolFeatureName): boolean {
    return has(this.offer.protocolFeatures, PROTOCOL_F[feature]);
  }

  /** Connects; nothing has been said yet. */
  async connect(): Promise<TracedSession> {
    const fd = await connected(this.target.socketPath, this.patienceMs, this.ensure);
    this.evidence.add("front-end", "connects");
    const session = new TracedSession(fd, { timeoutMs: this.patienceMs }, this.evidence);
    this.#sessions.add(session);
    return session;
  }

  /** Ends a session before the case is over, as a VMM that dies. */
  disconnect(session: TracedSession): void {
    this.evidence.add("front-end", "closes the connection");
    this.#sessions.delete(session);
    session.close();
  }

  /** A session up to SET_FEATURES, and a raw guest behind it, whose rings run unless `isStopped`. */
  async guest(options: RawGuestOptions = {}): Promise<RawGuest> {
    const session = await this.connect();
    const offered = session.negotiate(protocolFeaturesFor(options));
    const guest = new RawGuest(this, session, offered, options);
    this.#guests.add(guest);
    if (options.isStopped !== true) guest.start();
    return guest;
  }

  /** Whether the guest of a new session works: what a mistake must not cost. */
  async assertNextWorks(session: TracedSession): Promise<void> {
    if (this.#sessions.has(session)) this.disconnect(session);
    await assertWorks(this, await this.guest());
  }

  /** Behind the case, in reverse order. */
  onClose(close: () => void): void {
    this.#closers.push(close);
  }

  /** The guest's context id as the configuration space says it, or as the operator does. */
  cidOf(session: TracedSession): number {
    if (session.negotiated("CONFIG")) {
      const bytes = this.expect.present(session.getConfig(0, 8), "GET_CONFIG gives guest_cid");
      return Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
    }
    return this.target.guestCid ?? this.skip("CONFIG is not offered, and no --guest-cid is given");
  }

  /** Lets everybody work until `condition` holds; fails the case with `what` if it does not in time. */
  readonly until: Until = async (condition, what, withinMs = this.patienceMs) => {
    const startMs = performance.now();
    const deadlineMs = Math.min(startMs + withinMs, this.#deadlineMs);
    for (;;) {
      this.#turn();
      if (condition()) return;
      if (performance.now() > deadlineMs)
        throw new CaseFailed(`waited ${Math.round(withinMs)} ms in vain until ${what}`);
      // A timer is late by a millisecond, which is long for a case that moves gigabytes.
      await (performance.now() - startMs < EAGER_MS ? turn() : delay(1));
    }
  };

  /** Lets so much time pass while everybody works: for what must not happen. */
  async pass(ms: number): Promise<void> {
    const endMs = performance.now() + ms;
    do {
      this.#turn();
      await delay(1);
    } while (performance.now() < endMs);
    this.#turn();
  }

  #turn(): void {
    if (this.#isOver) throw new CaseFailed("the case has ended already");
    for (const session of this.#sessions) {
      session.serve();
      if (!session.mayEnd && session.backendLeft)
        throw new CaseFailed("the back-end closed the connection in the middle of the case");
    }
    for (const guest of this.#guests) guest.poll();
  }

  /** Whether the back-end has ended the session; it gets a moment to do so. */
  async hasLeft(session: TracedSession, withinMs = this.patienceMs): Promise<boolean> {
    session.mayEnd = true;
    const deadlineMs = performance.now() + withinMs;
    while (!session.backendLeft) {
      if (performance.now() > deadlineMs) return false;
      await delay(1);
    }
    return true;
  }

  close(): void {
    this.#isOver = true;
    this.host.close();
    for (const close of this.#closers.reverse()) close();
    for (const session of this.#sessions) session.close();
    for (const guest of this.#guests) guest.close();
  }
}

/** Waits for a listener, and for one that is busy. */
export async function connected(
  path: string,
  patienceMs: number,
  ensure: () => Promise<void> = async () => {},
): Promise<number> {
  const deadlineMs = performance.now() + patienceMs;
  for (;;) {
    await ensure();
    const fd = createSocket();
    const result = connectUnix(fd, path);
    if (result === 0) return fd;
    closeSync(fd);
    const isLasting = ![-errno.EAGAIN, -errno.ECONNREFUSED, -errno.ENOENT].includes(result);
    if (isLasting || performance.now() > deadlineMs)
      throw new CaseFailed(`nobody can be reached at ${path}: ${errnoName(-result)}`);
    await delay(10);
  }
}

/** Asks what is offered, on a session of its own. */
export async function askOffer(target: Target): Promise<Offer> {
  const patienceMs = target.patienceMs ?? DEFAULT_PATIENCE_MS;
  const fd = await connected(target.socketPath, patienceMs);
  const session = new TracedSession(fd, { timeoutMs: patienceMs }, new Evidence());
  try {
    const features = session.getFeatures();
    const speaksProtocol = has(features, F.PROTOCOL_FEATURES);
    return { features, protocolFeatures: speaksProtocol ? session.getProtocolFeatures() : 0n };
  } finally {
    session.close();
  }
}
