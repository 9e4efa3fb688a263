/** What goes wrong between a program that uses the library and a guest. Wrong options are `ConfigError` and `StartError`. */

export type VsockErrorCode =
  /** Nothing listens on that port of the guest. */
  | "ECONNREFUSED"
  /** The guest did not answer within the connect timeout: it is not running, or has no vsock driver. */
  | "ETIMEDOUT"
  /** The guest, its VMM or the device ended meanwhile. */
  | "ECONNRESET"
  /** This process may open no more descriptors. */
  | "EMFILE"
  /** The guest has as many connections as `maxConnections` allows. */
  | "EAGAIN"
  /** The device listens on that port already. */
  | "EADDRINUSE"
  /** The device is closed. */
  | "ERR_DEVICE_CLOSED";

/**
 * A connection or a listener that did not come about. `code` is stable, the message is for people.
 *
 * @example
 * ```js
 * import { createVsockDevice, VsockError } from "bit33";
 * const device = await createVsockDevice({ socketPath: "vm3.sock" });
 * await device.whenUp();
 * try {
 *   await device.connect(9);
 * } catch (error) {
 *   if (!(error instanceof VsockError)) throw error;
 *   console.log(error.code); // prints ECONNREFUSED
 * }
 * await device.close();
 * ```
 */
export class VsockError extends Error {
  override readonly name = "VsockError";

  constructor(
    /** What went wrong, for programs. */
    readonly code: VsockErrorCode,
    message: string,
    /** The port of the guest (`connect`) or of the host (`listen`) that this is about. */
    readonly port?: number,
  ) {
    super(message);
  }
}
