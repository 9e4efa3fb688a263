/**
 * What one guest's switch has done, in numbers that only rise. Plain fields, each added to once a packet or more rarely,
 * so that counting costs next to nothing. Must not know who reads them (`device/metrics/`).
 */

/** Why an established connection was cut short, or a packet answered with a reset. */
export const RESET_CAUSES = ["guest", "violation", "host", "sibling", "timeout", "restart", "stray"] as const;
export type ResetCause = (typeof RESET_CAUSES)[number];

/** Why a connection did not come about. */
export const REFUSAL_CAUSES = ["limit", "host", "guest", "timeout"] as const;
export type RefusalCause = (typeof REFUSAL_CAUSES)[number];

export class SwitchCounters {
  fromGuestPackets = 0;
  fromGuestBytes = 0;
  toGuestPackets = 0;
  toGuestBytes = 0;
  /** Packets that belong to no connection, and whose source, destination or type is not ours. */
  strayPackets = 0;
  openedByGuest = 0;
  openedByHost = 0;
  /** RST packets made for the guest, those that answer a clean close included. */
  resets = 0;
  /** Times that data for the guest began to wait because it had given no credit. */
  creditStalls = 0;
  readonly resetsBy: Record<ResetCause, number> = {
    guest: 0,
    violation: 0,
    host: 0,
    sibling: 0,
    timeout: 0,
    restart: 0,
    stray: 0,
  };
  readonly refusedBy: Record<RefusalCause, number> = { limit: 0, host: 0, guest: 0, timeout: 0 };
}
