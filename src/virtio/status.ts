/**
 * The device status byte (VIRTIO, Device Status Field), as SET_STATUS and GET_STATUS carry it.
 *
 * Its bits are values, not numbers, as in the specification. It decides nothing; src/vhost does.
 */
import { hex } from "./bits.js";

/** Device status bits (VIRTIO, Device Status Field). */
export const STATUS = {
  /** The guest has noticed the device. */
  ACKNOWLEDGE: 1,
  /** The guest knows how to drive it. */
  DRIVER: 2,
  /** The driver is set up and may use the device. */
  DRIVER_OK: 4,
  /** Feature negotiation is complete. */
  FEATURES_OK: 8,
  /** The device is suspended (VIRTIO 1.4). */
  SUSPEND: 16,
  /** The device has met an error from which only a reset recovers. */
  DEVICE_NEEDS_RESET: 64,
  /** The guest has given up on the device. */
  FAILED: 128,
} as const;

/** One line for a status value: `0xf [ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK]`; 0 is `0x0 [reset]`. */
export function describeStatus(status: bigint): string {
  if (status === 0n) return "0x0 [reset]";
  const names: string[] = [];
  let rest = status;
  for (const [name, value] of Object.entries(STATUS)) {
    const bit = BigInt(value);
    if ((rest & bit) === 0n) continue;
    names.push(name);
    rest ^= bit;
  }
  if (rest !== 0n) names.push(hex(rest));
  return `${hex(status)} [${names.join(" ")}]`;
}
