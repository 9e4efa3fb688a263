/**
 * What a device's two data queues have done through all of its sessions. Added to once a wake-up, a burst or a
 * notification, never once a packet.
 */
import { Histogram } from "./histogram.js";

export class QueueCounters {
  receiveKicks = 0;
  transmitKicks = 0;
  receiveNotifications = 0;
  transmitNotifications = 0;
  /** Packets of one burst. */
  readonly fromGuestBatches = new Histogram();
  readonly toGuestBatches = new Histogram();
}
