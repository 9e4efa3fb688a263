/**
 * QEMU's monitor: one JSON object a line over a Unix socket (QEMU, docs/interop/qmp-spec.rst). Knows the protocol
 * and no command.
 */
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { within } from "./waiting.js";

interface Message {
  QMP?: unknown;
  id?: number;
  return?: unknown;
  error?: { desc: string };
  event?: string;
}

export class Qmp {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, (message: Message) => void>();
  #lastId = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("error", () => {});
    createInterface({ input: socket }).on("line", (line) => {
      const message = JSON.parse(line) as Message;
      if (message.id === undefined) return;
      this.#waiting.get(message.id)?.(message);
      this.#waiting.delete(message.id);
    });
  }

  static async open(path: string): Promise<Qmp> {
    const socket = connect(path);
    await within(
      new Promise((resolve, reject) => {
        socket.once("connect", resolve);
        socket.once("error", reject);
      }),
      "the QMP socket",
    );
    const qmp = new Qmp(socket);
    await qmp.run("qmp_capabilities");
    return qmp;
  }

  async run(command: string, options: Record<string, unknown> = {}): Promise<unknown> {
    const id = ++this.#lastId;
    const answer = new Promise<Message>((resolve) => this.#waiting.set(id, resolve));
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: options, id })}\n`);
    const message = await within(answer, `QMP ${command}`);
    if (message.error) throw new Error(`QMP ${command}: ${message.error.desc}`);
    return message.return;
  }

  close(): void {
    this.#socket.destroy();
  }
}
