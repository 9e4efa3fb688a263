/**
 * The host's applications: plain Unix sockets in Firecracker's hybrid scheme. A connection to the guest starts with
 * "CONNECT <port>\n" on <uds-path> and is answered by "OK <host port>\n"; one from the guest arrives at
 * <uds-path>_<port>. Must not know the device or the virtual machine.
 */
import { connect, createServer, type Server, Socket } from "node:net";
import { sha256 } from "./stream.js";
import { within } from "./waiting.js";

/** Everything one check opens, so that a failed check leaves nothing to the next. */
export class Host {
  readonly #udsPath: string;
  readonly #open: (Socket | Server)[] = [];

  constructor(udsPath: string) {
    this.#udsPath = udsPath;
  }

  closeAll(): void {
    for (const each of this.#open.splice(0)) {
      if (each instanceof Socket) each.destroy();
      else each.close();
    }
  }

  #keep(socket: Socket): Socket {
    this.#open.push(socket);
    // A reset is an outcome that checks look at where they expect it; elsewhere the data is missing anyway.
    socket.on("error", () => {});
    return socket;
  }

  /** Listens where connections of the guest to this port arrive. */
  async listen(port: number, onConnection: (socket: Socket) => void): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (socket) => onConnection(this.#keep(socket)));
    this.#open.push(server);
    const listening = new Promise<void>((resolve, reject) => {
      server.once("listening", resolve);
      server.once("error", reject);
    });
    server.listen(`${this.#udsPath}_${port}`);
    await within(listening, `listening on port ${port}`);
  }

  /** The next connection of the guest to this port. */
  async accept(port: number): Promise<{ connection: Promise<Socket> }> {
    let take = (_socket: Socket): void => {};
    const connection = new Promise<Socket>((resolve) => {
      take = resolve;
    });
    await this.listen(port, (socket) => take(socket));
    return { connection: within(connection, `a connection of the guest to port ${port}`) };
  }

  /** A connection to a port of the guest. */
  async connect(port: number): Promise<Socket> {
    const { socket, answer } = await this.ask(port);
    if (!/^OK \d+\n$/.test(answer))
      throw new Error(`CONNECT ${port} was answered by ${JSON.stringify(answer)}`);
    return socket;
  }

  /** Sends CONNECT and reads one line, or as much of it as came before the end. */
  async ask(port: number): Promise<{ socket: Socket; answer: string }> {
    const socket = this.#keep(connect({ path: this.#udsPath, allowHalfOpen: true }));
    socket.write(`CONNECT ${port}\n`);
    const answer = await within(readLine(socket), `an answer to CONNECT ${port}`);
    return { socket, answer };
  }
}

/** Reads up to the first newline and puts back what follows. */
function readLine(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const finish = (): void => {
      socket.off("readable", read);
      socket.off("end", finish);
      socket.off("close", finish);
      resolve(text);
    };
    const read = (): void => {
      while (!text.endsWith("\n")) {
        const byte = socket.read(1) as Buffer | null;
        if (byte === null) return;
        text += byte.toString("latin1");
      }
      finish();
    };
    socket.on("readable", read);
    socket.on("end", finish);
    socket.on("close", finish);
  });
}

/** Reads this much, and whatever arrives with its last piece. */
export function readBytes(socket: Socket, length: number): Promise<Buffer> {
  return within(
    new Promise((resolve, reject) => {
      const parts: Buffer[] = [];
      let bytes = 0;
      socket.on("data", (part: Buffer) => {
        parts.push(part);
        bytes += part.length;
        if (bytes >= length) resolve(Buffer.concat(parts));
      });
      for (const event of ["end", "close", "error"]) {
        socket.on(event, () => reject(new Error(`the connection ended after ${bytes} of ${length} bytes`)));
      }
    }),
    `${length} bytes`,
  );
}

/** Reads to the end of the stream. A reset instead of an end rejects. */
export function readToEnd(socket: Socket, onProgress?: (bytes: number) => void): Promise<Buffer> {
  return within(
    new Promise((resolve, reject) => {
      const parts: Buffer[] = [];
      let bytes = 0;
      socket.on("data", (part: Buffer) => {
        parts.push(part);
        bytes += part.length;
        onProgress?.(bytes);
      });
      socket.on("end", () => resolve(Buffer.concat(parts)));
      socket.on("error", reject);
      socket.on("close", () => reject(new Error(`closed without an end, after ${bytes} bytes`)));
    }),
    "the end of a stream",
  );
}

/** Writes, and resolves when the socket has taken everything. */
export function writeAll(socket: Socket, bytes: Buffer): Promise<void> {
  return within(
    new Promise((resolve, reject) => {
      socket.write(bytes, (error) => (error ? reject(error) : resolve()));
    }),
    `writing ${bytes.length} bytes`,
  );
}

/** Resolves when the connection is over, by an end, a close or a reset. */
export function over(socket: Socket): Promise<void> {
  return within(
    new Promise((resolve) => {
      if (socket.destroyed || socket.readableEnded) resolve();
      for (const event of ["end", "close", "error"]) socket.once(event, () => resolve());
    }),
    "the end of a connection",
  );
}

/** What the guest's `talk` reports about one direction, computed here. */
export function summary(bytes: Buffer): string {
  return `${bytes.length} ${sha256(bytes)}`;
}
