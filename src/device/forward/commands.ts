/**
 * Commands behind ports of the host (`--forward PORT=exec:COMMAND`), as the device's thread sees them: a connection is one
 * end of a socket pair, and somebody else is asked to run the command with the other end. Must not know how
 * (`command-runner.ts`), nor what the command is.
 */
import { closeDescriptor } from "../../linux/close.js";
import { errno, SystemCallError } from "../../linux/errors.js";
import { setBlocking, socketPair } from "../../linux/unix-socket.js";
import type { Connection } from "../../vsock/connection.js";
import { type CommandRequest, MOST_COMMANDS } from "./command-request.js";

/** Where requests go; none of this waits for an answer. */
export interface CommandRequester {
  /** The descriptor is the receiver's from now on. */
  start(request: CommandRequest & { readonly fd: number }): void;
  /** The connection of a command is over, and `isCut` if that was not in good order. */
  over(id: number, isCut: boolean): void;
}

export class Commands {
  /** Of connections that live, by their descriptor. */
  readonly #byDescriptor = new Map<number, number>();
  /** Of those that the guest has left, and whose bytes still wait for the command. */
  readonly #draining = new Map<Connection, number>();
  /** Those that have been asked for and have not ended. */
  readonly #running = new Set<number>();
  #nextId = 1;

  constructor(private readonly requester: CommandRequester) {}

  /** The connected end for a guest's connection, or `-errno`: -EBUSY if as many run as may. */
  connect(hostPort: number, guestPort: number, descriptorCeiling: number): number {
    if (this.#running.size >= MOST_COMMANDS) return -errno.EBUSY;
    let pair: [number, number];
    try {
      pair = socketPair();
    } catch (error) {
      if (error instanceof SystemCallError) return -error.errno;
      throw error;
    }
    const [ours, theirs] = pair;
    if (ours >= descriptorCeiling || theirs >= descriptorCeiling) {
      for (const fd of pair) closeDescriptor(fd);
      return -errno.EMFILE;
    }
    // Programs do not expect standard input and output that do not block.
    setBlocking(theirs);
    const id = this.#nextId++;
    // A connection that came to nothing before it had begun told nobody: its descriptor's number is free again.
    this.#tell(this.#byDescriptor.get(ours), true);
    this.#byDescriptor.set(ours, id);
    this.#running.add(id);
    this.requester.start({ id, hostPort, guestPort, fd: theirs });
    return ours;
  }

  /** The guest's side of a connection is over; its descriptor may still be there. */
  detached(connection: Connection, isCut: boolean): void {
    const id = this.#byDescriptor.get(connection.fd);
    if (id === undefined) return;
    this.#byDescriptor.delete(connection.fd);
    if (isCut) this.#tell(id, true);
    else this.#draining.set(connection, id);
  }

  /** All of a connection is over. */
  released(connection: Connection): void {
    this.#tell(this.#draining.get(connection), false);
    this.#draining.delete(connection);
  }

  #tell(id: number | undefined, isCut: boolean): void {
    if (id !== undefined && this.#running.has(id)) this.requester.over(id, isCut);
  }

  /** A command has ended, or could not be started. */
  exited(id: number): void {
    this.#running.delete(id);
  }
}
