/** A port of the host on which a program waits for its guest. Must not know how connections come here. */
import { EventEmitter } from "node:events";
import type { Socket } from "node:net";

/** The events of a `VsockListener`, with what their listeners are called with. */
export interface VsockListenerEvents {
  /** The guest has connected. */
  connection: [socket: Socket];
  /** The listener accepts no more: it was closed, or its device was. */
  close: [];
}

/**
 * Accepts the guest's connections to one port of the host (CID 2). Made by `VsockDevice.listen`.
 *
 * Emits `connection` with a `net.Socket` for each. As with `net.Server`, each socket is the listener's to handle; one
 * that nobody handles is closed at once. Closing the listener leaves the sockets that it has emitted.
 *
 * @example
 * ```js
 * import { once } from "node:events";
 * import { createVsockDevice } from "bit33";
 * const device = await createVsockDevice({ socketPath: "vm3.sock" });
 * const listener = await device.listen(5678);
 * const [socket] = await once(listener, "connection");
 * for await (const chunk of socket) console.log(String(chunk)); // prints hello from the guest
 * listener.close();
 * await device.close();
 * ```
 */
export class VsockListener extends EventEmitter<VsockListenerEvents> {
  #close: (() => void) | undefined;

  /** @internal */
  constructor(
    /** The host's port that the guest connects to. */
    readonly port: number,
    close: () => void,
  ) {
    super();
    this.#close = close;
  }

  /** True until it is closed. */
  get listening(): boolean {
    return this.#close !== undefined;
  }

  /** Accepts no more. The guest's further connections to this port are refused. */
  close(): void {
    const close = this.#close;
    if (close === undefined) return;
    this.#close = undefined;
    close();
    this.emit("close");
  }

  /** Makes it one of those that are given to `await using` and `using`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
