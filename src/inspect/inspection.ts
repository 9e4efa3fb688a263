/**
 * Any number of sessions under inspection at once: a FrameObserver that hands each to its InspectedSession and what
 * comes of it to whoever shows it. Live or replayed, the same goes in and the same comes out.
 */
import type { FrameObserver, Remark, SessionEnd, SessionFrame, SessionStart } from "./frame.js";
import { isAtLeast, type Severity } from "./lints/lint.js";
import type { SessionMessage } from "./message.js";
import type { RingFault, RingPacket, SessionTraffic } from "./rings/traffic.js";
import { type Finding, InspectedSession, type InspectOptions, type Observed } from "./session.js";

/** Whoever shows sessions. */
export interface InspectionView {
  begun(session: InspectedSession): void;
  observed(session: InspectedSession, observed: Observed): void;
  /** Something is overdue, or was missing at the end. */
  found(session: InspectedSession, findings: readonly Finding[]): void;
  remarked(session: InspectedSession, remark: Remark): void;
  /** A ring carried a packet. Those of a session come in their order, messages perhaps a little before or after. */
  packet(session: InspectedSession, packet: RingPacket): void;
  ended(session: InspectedSession): void;
}

export class Inspection implements FrameObserver {
  readonly #running = new Map<number, InspectedSession>();
  #worst: Severity | undefined;

  constructor(
    readonly view: InspectionView,
    readonly options: InspectOptions = {},
  ) {}

  /** The severest finding of all sessions so far. */
  get worst(): Severity | undefined {
    return this.#worst;
  }

  begun(start: SessionStart): void {
    const session = new InspectedSession(start, this.options);
    this.#running.set(start.session, session);
    this.view.begun(session);
  }

  /** What was found about the frame is returned as well, for those who keep it. */
  frame(number: number, frame: SessionFrame): readonly Finding[] {
    const session = this.#running.get(number);
    return session === undefined ? [] : this.#show(session, frame.timeNs, () => session.frame(frame));
  }

  /** From a source that has no bytes. */
  message(number: number, message: SessionMessage): void {
    const session = this.#running.get(number);
    if (session !== undefined) this.#show(session, message.timeNs, () => session.message(message));
  }

  remark(number: number, remark: Remark): void {
    const session = this.#running.get(number);
    if (session === undefined) return;
    session.remark(remark);
    this.view.remarked(session, remark);
  }

  /** What was found about it is returned as well. */
  packet(number: number, packet: RingPacket): readonly Finding[] {
    const session = this.#running.get(number);
    if (session === undefined) return [];
    const findings = session.packet(packet);
    this.view.packet(session, packet);
    this.#found(session, findings);
    return findings;
  }

  /** A ring holds something against its rules. */
  fault(number: number, fault: RingFault): void {
    const session = this.#running.get(number);
    if (session !== undefined) this.#found(session, session.fault(fault));
  }

  /** What the rings of a session that is about to end did, where somebody followed them. */
  traffic(number: number, traffic: SessionTraffic): void {
    const session = this.#running.get(number);
    if (session !== undefined) session.traffic = traffic;
  }

  /** Everything before this moment has been told. Returns whether something is overdue now that was not before. */
  time(nowNs: bigint): boolean {
    let isOverdue = false;
    for (const session of this.#running.values()) {
      const findings = session.passTime(nowNs);
      this.#found(session, findings);
      isOverdue ||= findings.length > 0;
    }
    return isOverdue;
  }

  ended(number: number, end: SessionEnd): void {
    const session = this.#running.get(number);
    if (session === undefined) return;
    this.#running.delete(number);
    this.#found(session, session.finish(end));
    this.view.ended(session);
  }

  /** What was overdue before the message is shown before it, whether a clock or the message itself told the time. */
  #show(session: InspectedSession, timeNs: bigint, observe: () => Observed): readonly Finding[] {
    this.#found(session, session.passTime(timeNs));
    const observed = observe();
    this.#note(observed.findings);
    this.view.observed(session, observed);
    return observed.findings;
  }

  #found(session: InspectedSession, findings: readonly Finding[]): void {
    this.#note(findings);
    if (findings.length > 0) this.view.found(session, findings);
  }

  #note(findings: readonly Finding[]): void {
    for (const { severity } of findings) {
      if (this.#worst === undefined || isAtLeast(severity, this.#worst)) this.#worst = severity;
    }
  }
}
