/**
 * What is known of one ring from the messages that named it. A record that session-model.ts changes; it judges
 * nothing. A ring counts as started from SET_VRING_KICK on, until GET_VRING_BASE (vhost-user, Ring states).
 */

/** VIRTIO, Split Virtqueues and Packed Virtqueues: the same limit for both. */
export const MOST_DESCRIPTORS = 32768;

export interface RingAddresses {
  readonly desc: bigint;
  readonly avail: bigint;
  readonly used: bigint;
  /** For the log of the used ring; looked at only if `logged`. */
  readonly log: bigint;
  readonly logged: boolean;
}

export class RingModel {
  size: number | undefined;
  base: number | undefined;
  addresses: RingAddresses | undefined;
  /** How often translation had been switched when the addresses were given. */
  addressesGivenAt = 0;
  kick: "none" | "descriptor" | "polled" = "none";
  call: "none" | "descriptor" | "polled" = "none";
  error: "none" | "descriptor" | "polled" = "none";
  isStarted = false;
  /** By SET_VRING_ENABLE; undefined until the first one. */
  isEnabled: boolean | undefined;
  /** When it was started last; undefined while it is stopped. */
  startedAtNs: bigint | undefined;
  /** What the back-end last answered to GET_VRING_BASE. */
  stoppedAt: number | undefined;
  starts = 0;
  /** In-band notifications, where those were negotiated. */
  inbandKicks = 0;
  inbandCalls = 0;
  inbandErrors = 0;

  constructor(readonly index: number) {}

  /** Its descriptors are gone, its addresses and position are not. */
  stop(): void {
    this.isStarted = false;
    this.startedAtNs = undefined;
    this.kick = "none";
  }

  /** By the kernel's requests, which start and stop the rings of a device that were set up before. */
  setRunning(isRunning: boolean): void {
    if (isRunning && this.isEnabled !== true) this.starts++;
    this.isEnabled = isRunning;
  }

  /** After RESET_DEVICE: "back to the initial state". Addresses come anew before the next start. */
  reset(): void {
    this.stop();
    this.isEnabled = undefined;
    this.base = undefined;
    this.stoppedAt = undefined;
  }

  /** A new owner's: nothing that was set is left. */
  startOver(): void {
    this.reset();
    this.size = undefined;
    this.addresses = undefined;
    this.call = "none";
    this.error = "none";
  }
}

/** Bytes of a ring's three areas (VIRTIO, Split Virtqueues; Packed Virtqueues), and what each has to be a multiple of. */
export function ringAreas(
  size: number,
  isPacked: boolean,
): readonly {
  readonly name: "desc" | "avail" | "used";
  readonly bytes: bigint;
  readonly alignment: bigint;
}[] {
  const n = BigInt(size);
  if (isPacked) {
    return [
      { name: "desc", bytes: 16n * n, alignment: 16n },
      { name: "avail", bytes: 4n, alignment: 4n },
      { name: "used", bytes: 4n, alignment: 4n },
    ];
  }
  return [
    { name: "desc", bytes: 16n * n, alignment: 16n },
    { name: "avail", bytes: 6n + 2n * n, alignment: 2n },
    { name: "used", bytes: 6n + 8n * n, alignment: 4n },
  ];
}
