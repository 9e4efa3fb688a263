/** What goes between the three threads of an inspection that follows rings: messages in, packets and figures out. */
import type { MessagePort } from "node:worker_threads";
import type { DeviceType } from "../../virtio/index.js";
import type { Remark, SessionFrame } from "../frame.js";
import type { RingFault, RingPacket, SessionTraffic } from "./traffic.js";

/** From the relay's thread: what has gone by, in its order. Descriptors are copies and belong to whoever gets this. */
export type Passed =
  | {
      readonly kind: "message";
      readonly session: number;
      readonly frame: SessionFrame;
      readonly fds: readonly number[];
    }
  | { readonly kind: "ended"; readonly session: number };

/** The relay's end of what it tells the rings' thread. */
export interface RingsEnd {
  readonly port: MessagePort;
  /** Written after something was posted. It stays the main thread's. */
  readonly wakeFd: number;
  /** 1 while somebody takes what is posted; shared. */
  readonly isOpen: Int32Array;
}

export interface RingsStart extends RingsEnd {
  readonly deviceType: DeviceType | undefined;
  readonly mostPayloadBytes: number;
  /** What the main thread has dealt with, by `weightOf`; shared. */
  readonly seen: Int32Array;
}

export type RingReport =
  | { readonly kind: "packet"; readonly session: number; readonly packet: RingPacket }
  | { readonly kind: "fault"; readonly session: number; readonly fault: RingFault }
  | { readonly kind: "remark"; readonly session: number; readonly remark: Remark }
  /** Nothing more comes of this session. */
  | { readonly kind: "ended"; readonly session: number; readonly traffic: SessionTraffic };

export type FromRings = "ready" | readonly RingReport[];

/** How much a report counts for among those that nobody has dealt with yet: one, and one more for each KiB. */
export function weightOf(report: RingReport): number {
  return report.kind === "packet" ? 1 + (report.packet.payload.byteLength >>> 10) : 1;
}
