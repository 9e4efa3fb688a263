/**
 * An inspection as text: one line a message as it goes by, findings where they show, a summary at the end of each
 * session. Must not know where messages come from.
 */
import type { Remark } from "../../inspect/frame.js";
import type { InspectionView } from "../../inspect/inspection.js";
import { packetHeader, type RingPacket } from "../../inspect/rings/traffic.js";
import type { Finding, InspectedSession, Observed } from "../../inspect/session.js";
import { summaryOf } from "../../inspect/summary.js";
import type { DeviceType } from "../../virtio/index.js";
import { describePacket } from "../../vsock/header.js";
import { milliseconds, summaryText } from "./summary-text.js";

export interface TextViewOptions {
  readonly print: (line: string) => void;
  readonly quiet: boolean;
  readonly deviceType: DeviceType | undefined;
}

const DAY_NS = 86_400_000_000_000n;

/** `>` towards the back-end, `<` towards the front-end; doubled on the back-end channel. */
const ARROWS = {
  main: { "to-backend": " > ", "to-frontend": " < " },
  backend: { "to-backend": " >>", "to-frontend": " <<" },
} as const;

/** The same for what a ring carries: towards the device, or towards the guest. */
const PACKET_ARROWS = { "to-device": " > ", "to-guest": " < " } as const;

export class TextView implements InspectionView {
  readonly #options: TextViewOptions;

  constructor(options: TextViewOptions) {
    this.#options = options;
  }

  begun(session: InspectedSession): void {
    const { start } = session;
    // Traces may have a time of day and no date, or no time at all.
    const [date = "", time = ""] = new Date(Number(start.timeNs / 1_000_000n)).toISOString().split("T");
    const at =
      start.timeNs === 0n ? "" : ` at ${start.timeNs < DAY_NS ? time.replace("Z", "") : `${date}T${time}`}`;
    this.#print(`session ${start.session} begins${at}`);
  }

  observed(session: InspectedSession, { number, message, line, answers, findings }: Observed): void {
    if (!this.#options.quiet) {
      const after =
        answers === undefined || answers.afterNs === 0n ? "" : `, ${milliseconds(answers.afterNs)}`;
      const pair = answers === undefined ? "" : `  (#${answers.number}${after})`;
      const arrow = ARROWS[message.channel][message.direction];
      this.#print(`${this.#time(session, message.timeNs)} #${number}${arrow} ${line}${pair}`);
    }
    this.found(session, findings);
  }

  found(session: InspectedSession, findings: readonly Finding[]): void {
    for (const { lint, severity, text, shownBy } of findings) {
      const place = shownBy === undefined ? "" : ` #${shownBy.number}`;
      this.#print(`${session.start.session}${place} ${severity} ${lint}: ${text}`);
    }
  }

  remarked(session: InspectedSession, { text }: Remark): void {
    this.#print(`${session.start.session} note: ${text}`);
  }

  packet(session: InspectedSession, packet: RingPacket): void {
    if (this.#options.quiet) return;
    const arrow = PACKET_ARROWS[packet.direction];
    const line = describePacket(packetHeader(packet));
    this.#print(`${this.#time(session, packet.timeNs)} q${packet.ring}${arrow} ${line}`);
  }

  ended(session: InspectedSession): void {
    this.#print(summaryText(summaryOf(session, this.#options.deviceType)));
  }

  #time({ start }: InspectedSession, timeNs: bigint): string {
    const seconds = Number((timeNs - start.timeNs) / 1000n) / 1e6;
    return `${start.session} ${seconds.toFixed(6).padStart(11)}`;
  }

  #print(text: string): void {
    this.#options.print(text);
  }
}
