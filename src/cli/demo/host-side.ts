/**
 * The host's programs of the demo: one that listens for the guest, one that connects to it by Firecracker's hybrid
 * scheme. Ordinary Unix sockets, as any program would use them.
 */

import { once } from "node:events";
import { createConnection, createServer, type Socket } from "node:net";
import { Gathered, sumOf } from "./payload.js";

export interface Moved {
  readonly bytes: number;
  readonly sum: string;
  readonly seconds: number;
}

/** Listens at `<udsPath>_<port>`, takes what one connection sends, and closes it. */
export async function receiveFromGuest(
  udsPath: string,
  port: number,
  expectedBytes: number,
): Promise<{ readonly received: Promise<Moved>; close(): void }> {
  const server = createServer({ allowHalfOpen: true });
  const received = new Promise<Moved>((resolve, reject) => {
    server.once("connection", (socket) => takeAll(socket, new Gathered(expectedBytes)).then(resolve, reject));
  });
  received.catch(() => {});
  server.listen(`${udsPath}_${port}`);
  await once(server, "listening");
  return { received, close: () => server.close() };
}

async function takeAll(socket: Socket, gathered: Gathered): Promise<Moved> {
  const start = performance.now();
  socket.on("data", (chunk) => gathered.add(chunk));
  await once(socket, "end");
  const seconds = (performance.now() - start) / 1000;
  socket.end();
  return { bytes: gathered.bytes, sum: gathered.sum(), seconds };
}

/** Connects to a port of the guest and sends; resolves once the guest has closed its side. */
export async function sendToGuest(udsPath: string, port: number, data: Buffer): Promise<Moved> {
  const socket = createConnection({ path: udsPath, allowHalfOpen: true });
  await once(socket, "connect");
  socket.write(`CONNECT ${port}\n`);
  await expectOk(socket, port);
  const start = performance.now();
  const ended = once(socket, "end");
  socket.resume();
  socket.end(data);
  await ended;
  const seconds = (performance.now() - start) / 1000;
  return { bytes: data.length, sum: sumOf(data), seconds };
}

/** The device answers `OK <host port>`; the guest of the demo says nothing, so no byte of its own can follow. */
async function expectOk(socket: Socket, port: number): Promise<void> {
  let answer = "";
  while (!answer.endsWith("\n")) {
    const chunk: unknown = await new Promise((resolve) => {
      socket.once("data", resolve);
      socket.once("end", () => resolve(undefined));
      socket.once("error", () => resolve(undefined));
    });
    if (chunk === undefined) throw new Error(`the device closed the connection to guest port ${port}`);
    answer += String(chunk);
  }
  if (!/^OK \d+\n$/.test(answer)) throw new Error(`expected "OK <port>", got ${JSON.stringify(answer)}`);
}
