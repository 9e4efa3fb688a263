/**
 * What goes into an inspection: whole messages of a session as they went by, whoever saw them (the live relay, a file
 * of captured messages, a system-call trace). A source reports to a FrameObserver; session.ts makes sense of it. Must
 * not know how a message was seen, nor what it means.
 */

import type { DeviceType } from "../virtio/index.js";

/** Which socket: the one that the session began on, or that of SET_BACKEND_REQ_FD. */
export type FrameChannel = "main" | "backend";

/** Which way a message went; answers go against the direction of their request. */
export type FrameDirection = "to-backend" | "to-frontend";

/** What kind of file a passed descriptor is, where the source could tell. */
export type DescriptorKind = "memory" | "eventfd" | "socket" | "pipe" | "other";

/** One whole vhost-user message as it went by. */
export interface SessionFrame {
  /** CLOCK_REALTIME in nanoseconds, never going back within a session: a clock that was set counts on from its first value. */
  readonly timeNs: bigint;
  readonly channel: FrameChannel;
  readonly direction: FrameDirection;
  /** The 12 bytes of the header, and the payload. Nobody changes them any more. */
  readonly bytes: Uint8Array;
  readonly descriptorCount: number;
  /** One entry a descriptor, in their order; absent if the source could not look. */
  readonly descriptorKinds?: readonly DescriptorKind[];
}

/** What carries the session: sockets, or the system calls of a VMM that drives the kernel's vhost. */
export type Transport = "vhost-user" | "kernel-vhost";

export interface SessionStart {
  /** From 1 on, within one run or file. */
  readonly session: number;
  readonly timeNs: bigint;
  readonly transport: Transport;
  /** Where the source can tell: the name of the device's file does. */
  readonly deviceType?: DeviceType;
}

/** Who ended a session first. */
export type Ender = "front-end" | "back-end" | "observer";

export interface SessionEnd {
  readonly timeNs: bigint;
  readonly by: Ender;
  /** A clause for a person: `the front-end closed the connection`. */
  readonly reason: string;
}

/** Something that the source knows and no message shows: what it could not see, or had to give up. */
export interface Remark {
  readonly timeNs: bigint;
  readonly text: string;
  /** What was missed can have been a message, so that what follows is not to be judged by what was seen. */
  readonly isGap: boolean;
  /** The stream itself is broken there: no vhost-user, or an end of it within a message. */
  readonly isBroken?: boolean;
}

/** Whoever follows sessions. Sessions may overlap in time; the calls of one come in its order. */
export interface FrameObserver {
  begun(start: SessionStart): void;
  frame(session: number, frame: SessionFrame): void;
  remark(session: number, remark: Remark): void;
  ended(session: number, end: SessionEnd): void;
}
