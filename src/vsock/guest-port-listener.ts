/**
 * A listening socket of the host, TCP or Unix, that stands for one port of the guest: who connects is connected to that
 * port, without a word before. A client that the guest does not take finds its connection closed.
 */
import { closeDescriptor } from "../linux/close.js";
import type { EventLoop } from "../linux/event-loop.js";
import { sendAtOnce } from "../linux/tcp-socket.js";
import type { Logger } from "../log/logger.js";
import { Acceptor } from "./acceptor.js";
import type { Opener } from "./connection.js";
import type { GuestConnector } from "./hybrid-listener.js";

export class GuestPortListener implements Opener {
  readonly #acceptor: Acceptor;

  constructor(
    private readonly options: {
      readonly loop: EventLoop;
      /** Listening and non-blocking; owned by this object from now on. */
      readonly fd: number;
      readonly guestPort: number;
      readonly connector: GuestConnector;
      readonly log: Logger;
      /** Descriptors from this number on are left to others (`connectionCeiling`). */
      readonly descriptorCeiling: number;
    },
  ) {
    const { loop, fd, guestPort, descriptorCeiling } = options;
    const accepted = (client: number) => this.#serve(client);
    const failed = (reason: string) => this.failed(reason, guestPort);
    this.#acceptor = new Acceptor({ loop, fd, descriptorCeiling, accepted, failed });
  }

  #serve(fd: number): void {
    const { guestPort, connector, descriptorCeiling } = this.options;
    if (fd >= descriptorCeiling) {
      closeDescriptor(fd);
      this.failed("this process can open no more descriptors for connections", guestPort);
      return;
    }
    sendAtOnce(fd);
    connector.connectGuest(guestPort, fd, this);
  }

  connected(): void {}

  failed(reason: string, guestPort: number): void {
    const message = `guest port ${guestPort}: ${reason}`;
    this.options.log.log({ event: "host-connect-failed", message });
  }

  close(): void {
    this.#acceptor.close();
  }
}
