/**
 * The four address spaces of a vhost device, as types that cannot be mixed up, and 64-bit guest addresses.
 *
 * Control-plane values (memory tables, IOTLB messages) are bigints until they are checked. On the hot path a guest
 * address is the pair (low, high) of 32-bit halves as the ring holds it: JavaScript numbers are exact only below
 * 2^53, and an I/O virtual address may be any 64-bit value (Linux hands them out from the top of the space).
 */

declare const space: unique symbol;

/** Guest physical address. Region checks keep it below 2^53, so a number is exact. */
export type Gpa = number & { readonly [space]?: "gpa" };
/** Address in the front-end's user address space, as the memory table names it. Below 2^53. */
export type Uva = number & { readonly [space]?: "uva" };
/** I/O virtual address: any 64-bit value. */
export type Iova = bigint & { readonly [space]?: "iova" };
/** Where this process mapped something. Below 2^47 on every supported host. */
export type HostAddress = number & { readonly [space]?: "host" };

/** What an access does, in the numbers of VHOST_ACCESS_* (include/uapi/linux/vhost_types.h). */
export const Access = { READ: 1, WRITE: 2, READ_WRITE: 3 } as const;
export type Access = (typeof Access)[keyof typeof Access];

/** How a translation ended. */
export const Outcome = {
  /** All segments were appended. */
  OK: 0,
  /** Not mapped yet: a MISS is pending (or will be sent); try again after the next UPDATE. */
  MISS: 1,
  /** Never going to work: outside of memory, or not permitted. `fault` of the address space says why. */
  FAULT: 2,
} as const;
export type Outcome = (typeof Outcome)[keyof typeof Outcome];
