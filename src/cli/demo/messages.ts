/**
 * What the demo and its guest process say to each other over Node's IPC: plain objects, 64-bit words in hexadecimal.
 */

import type { DmaKind } from "../../guest/dma.js";

/** To the guest, which does one thing at a time and answers each. */
export type ToGuest =
  | { readonly kind: "boot"; readonly socketPath: string; readonly dma: DmaKind; readonly vmm: string }
  /** Connect to a port of the host and send so many bytes. */
  | { readonly kind: "send"; readonly port: number; readonly bytes: number }
  /** Listen on a port; answered at once. */
  | { readonly kind: "listen"; readonly port: number }
  /** Take what the one connection to the listener sends, so many bytes if all goes well. */
  | { readonly kind: "receive"; readonly bytes: number }
  | { readonly kind: "power-off" };

/** The words of the negotiation, in order. */
export interface Negotiated {
  readonly offeredByDevice: string;
  readonly offeredToGuest: string;
  readonly takenByGuest: string;
  readonly toldToDevice: string;
}

export interface IotlbCounts {
  readonly misses: number;
  readonly updates: number;
  readonly invalidations: number;
}

export type FromGuest =
  | { readonly kind: "booted"; readonly cid: number; readonly negotiated: Negotiated }
  | { readonly kind: "sent"; readonly bytes: number; readonly sum: string }
  | { readonly kind: "listening" }
  | { readonly kind: "received"; readonly bytes: number; readonly sum: string }
  | { readonly kind: "off"; readonly iotlb: IotlbCounts | undefined }
  | { readonly kind: "failed"; readonly reason: string };

export type GuestAnswer<Kind extends FromGuest["kind"]> = Extract<FromGuest, { kind: Kind }>;
