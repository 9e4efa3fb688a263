/**
 * From the process of a VM's device to the main process: commands that shall run, and the descriptors that they get. A
 * descriptor cannot go over node's channel, so a socket beside it carries them, one byte each, in the order of the messages.
 */
import { closeSync } from "node:fs";
import { receiveMessage, sendMessage } from "../../linux/message-socket.js";
import type { CommandRequest } from "./command-request.js";
import type { CommandRequester } from "./commands.js";

export type CommandMessage =
  /** Its descriptor is on the socket. */
  | ({ readonly kind: "command" } & CommandRequest)
  | { readonly kind: "command-over"; readonly id: number; readonly isCut: boolean };

/** The end of the VM's process. */
export class CommandRelay implements CommandRequester {
  exited: (id: number) => void = () => {};

  constructor(
    private readonly socket: number,
    private readonly post: (message: CommandMessage) => void,
  ) {}

  start({ fd, ...request }: CommandRequest & { readonly fd: number }): void {
    const sent = sendMessage(this.socket, Uint8Array.of(0), [fd]);
    closeSync(fd);
    if (sent === 1) this.post({ kind: "command", ...request });
    else this.exited(request.id);
  }

  over(id: number, isCut: boolean): void {
    this.post({ kind: "command-over", id, isCut });
  }

  endAll(): void {}
}

/** The main process's end: does what a message says. */
export function obey(message: CommandMessage, socket: number, runner: CommandRequester): boolean {
  if (message.kind === "command-over") {
    runner.over(message.id, message.isCut);
    return true;
  }
  const { id, hostPort, guestPort } = message;
  const { descriptors } = receiveMessage(socket, 1);
  const [fd, ...others] = descriptors;
  for (const other of others) closeSync(other);
  if (fd === undefined) return false;
  runner.start({ id, hostPort, guestPort, fd });
  return true;
}
