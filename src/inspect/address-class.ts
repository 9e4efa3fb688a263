/**
 * What kind of address a front-end has put into a ring: compared with the memory table that it sent, nothing else.
 */
import type { MemRegion } from "../vhost/wire/index.js";

export type AddressClass =
  /** Inside a range of the front-end's own addresses. */
  | "user"
  /** Inside a guest-physical range, and no user range. */
  | "guest-physical"
  /** Both: the ranges overlap there. */
  | "user-or-guest-physical"
  /** In no range: it can only be an I/O virtual address. */
  | "iova";

export function classOf(address: bigint, regions: readonly MemRegion[]): AddressClass {
  const within = (start: bigint, size: bigint): boolean => address >= start && address < start + size;
  const user = regions.some(({ userAddress, size }) => within(userAddress, size));
  const guest = regions.some(({ guestAddress, size }) => within(guestAddress, size));
  if (user) return guest ? "user-or-guest-physical" : "user";
  return guest ? "guest-physical" : "iova";
}
