/**
 * What the library's main-thread half (`vsock-device.ts`) and its half in the device's thread (`library-side.ts`) say to
 * each other, over a channel of their own. Descriptor numbers are the whole process's: a descriptor is made in the
 * device's thread and, once posted, is the main thread's to close.
 */

export type ToDevice =
  | { readonly kind: "listen"; readonly request: number; readonly port: number }
  | { readonly kind: "unlisten"; readonly port: number }
  | { readonly kind: "connect"; readonly request: number; readonly port: number }
  /** Whoever asked for a connection does not want it any more. */
  | { readonly kind: "cancel"; readonly request: number };

/** Why a connection to the guest did not come about. */
export type ConnectFailure = "ECONNREFUSED" | "ETIMEDOUT" | "ECONNRESET" | "EMFILE" | "EAGAIN";

export type GuestEvent = "up" | "reset" | "down";

export type FromDevice =
  | { readonly kind: "listening"; readonly request: number }
  /** The guest connected to `port`; `fd` is the host's end. */
  | {
      readonly kind: "accepted";
      readonly connection: number;
      readonly port: number;
      readonly fd: number;
    }
  | {
      readonly kind: "connected";
      readonly request: number;
      readonly connection: number;
      readonly fd: number;
    }
  | {
      readonly kind: "failed";
      readonly request: number;
      readonly code: ConnectFailure;
      readonly reason: string;
    }
  /** Posted before the device closes its end, which by itself would look like an orderly end. */
  | { readonly kind: "reset"; readonly connection: number; readonly reason: string }
  | { readonly kind: "guest"; readonly event: GuestEvent; readonly reason: string };
