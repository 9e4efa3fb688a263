/**
 * What every profile has: a description, as data, of one party of a virtio-vsock session - a guest, a VMM or a device -
 * as its source code or a run of it says. Profiles are files (`profiles/`, or a user's own); `schema/` reads them.
 * Must not know who plays them.
 */

/** What stands behind a profile. */
export type Evidence =
  /** A test of this project compares the profile with the real program. */
  | "executed"
  /** Read from the program's source, which `source` names. */
  | "derived"
  /** Nobody has built it: a proposal from a discussion, or this project's draft. */
  | "proposed";

export interface ProfileHead {
  /** How commands and records call it; lower-case letters, digits, dots and dashes. */
  readonly name: string;
  /** The program and its version, as its makers would name it. */
  readonly program: string;
  /** One sentence for a list. */
  readonly summary: string;
  /** Where each claim can be checked: program, version or commit, file. At least one. */
  readonly source: readonly string[];
  readonly evidence: Evidence;
}

/** How a VMM reaches a device: ioctls on /dev/vhost-vsock, or messages on a Unix socket. */
export type Transport = "kernel" | "vhost-user";
