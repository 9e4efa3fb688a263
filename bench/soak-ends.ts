/**
 * The two ends of a connection through the device, as a soak handles them: the guest's socket on the built-in driver,
 * and the host's on a Unix socket of Node. Both ends live in one process, so a scene has both in hand.
 */
import type { Socket } from "node:net";
import type { GuestConnection } from "../src/guest/connection.js";
import { Shutdown } from "../src/vsock/header.js";

/** The other side is gone, where that was not due; what a scene makes of it is its business. */
export class EndGone extends Error {
  override readonly name: string = "EndGone";
}

/** An answer did not come within the time that Linux and the device give it: somebody may have been kept from running. */
export class NotInTime extends EndGone {
  override readonly name = "NotInTime";
}

export interface End {
  readonly side: "guest" | "host";
  /** Resolves once the bytes are on their way. Rejects with EndGone. */
  write(bytes: Uint8Array): Promise<void>;
  /** The next bytes, or undefined when no more will come, for whatever reason. */
  read(): Promise<Uint8Array | undefined>;
  /** Nothing more is sent; the other direction stays. */
  finish(): void;
  /** Ends both directions behind what was written; resolves once it is over. */
  close(): Promise<void>;
  /** Ends it at once, whatever is under way. */
  cut(): void;
}

export class GuestEnd implements End {
  readonly side = "guest";

  constructor(readonly connection: GuestConnection) {}

  write(bytes: Uint8Array): Promise<void> {
    return this.connection.write(bytes).catch((cause: Error) => {
      throw new EndGone(`guest: ${cause.message}`, { cause });
    });
  }

  read(): Promise<Uint8Array | undefined> {
    return this.connection.read();
  }

  finish(): void {
    this.connection.shutdown(Shutdown.SEND);
  }

  close(): Promise<void> {
    return this.connection.close();
  }

  cut(): void {
    this.connection.reset();
  }
}

export class HostEnd implements End {
  readonly side = "host";
  readonly #closed: Promise<void>;
  #error: Error | undefined;

  /** `socket` was made with `allowHalfOpen`. */
  constructor(readonly socket: Socket) {
    this.#closed = new Promise((resolve) => socket.once("close", () => resolve()));
    socket.on("error", (error) => {
      this.#error = error;
    });
  }

  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.socket.write(bytes, (error) => {
        if (error == null) resolve();
        else reject(new EndGone(`host: ${error.message}`, { cause: error }));
      });
    });
  }

  async read(): Promise<Uint8Array | undefined> {
    return (await this.take()) ?? undefined;
  }

  /** So many bytes, or as many as there are; null when none (or not so many) will come. */
  async take(bytes?: number): Promise<Buffer | null> {
    const { socket } = this;
    for (;;) {
      const found = socket.read(bytes) as Buffer | null;
      if (found !== null) return found;
      if (socket.readableEnded || socket.destroyed || this.#error !== undefined) return null;
      await new Promise<void>((resolve) => {
        const go = (): void => {
          for (const event of WAKING) socket.off(event, go);
          resolve();
        };
        for (const event of WAKING) socket.on(event, go);
      });
    }
  }

  finish(): void {
    this.socket.end();
  }

  close(): Promise<void> {
    this.socket.end();
    this.socket.destroySoon();
    return this.#closed;
  }

  cut(): void {
    this.socket.destroy();
  }
}

const WAKING = ["readable", "end", "close", "error"] as const;
