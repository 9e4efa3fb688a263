/** A listening socket of the guest: connections that the driver has accepted wait here for the application. */
import { SocketType } from "../vsock/header.js";
import type { GuestConnection } from "./connection.js";

/** What Linux programs commonly pass to listen(). */
export const DEFAULT_BACKLOG = 128;

export class GuestListener<Socket extends GuestConnection = GuestConnection> {
  readonly #waiting: Socket[] = [];
  readonly #accepts: ((connection: Socket) => void)[] = [];

  constructor(
    readonly port: number,
    readonly backlog: number,
    private readonly closeListener: () => void,
    /** `SocketType` of the connections that it takes. */
    readonly type: number = SocketType.STREAM,
  ) {}

  get isFull(): boolean {
    return this.#waiting.length >= this.backlog && this.#accepts.length === 0;
  }

  /** The next connection that came in. */
  accept(): Promise<Socket> {
    const connection = this.#waiting.shift();
    if (connection !== undefined) return Promise.resolve(connection);
    return new Promise((resolve) => this.#accepts.push(resolve));
  }

  /** Called by the driver. */
  offer(connection: Socket): void {
    const accept = this.#accepts.shift();
    if (accept === undefined) this.#waiting.push(connection);
    else accept(connection);
  }

  /** Further requests are refused; those that wait are reset. */
  close(): void {
    this.closeListener();
    for (const connection of this.#waiting.splice(0)) connection.reset();
  }
}
