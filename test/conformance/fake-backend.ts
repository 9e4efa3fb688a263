/**
 * A back-end that misbehaves as its first argument says, for tests of the conformance kit: it knows frames and no
 * vhost-user. `node fake-backend.js MODE SOCKET`; a mode with a number takes that many requests before it begins.
 */
import { appendFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { decodeHeader, encodeFrame, FLAG, HEADER_BYTES, type Header } from "../../src/vhost/wire/index.js";
import { F, maskOf } from "../../src/virtio/index.js";

const [, , mode, path, record] = process.argv;
const [how, after = "0"] = mode.split("-after-");
let requests = 0;

/** Every start leaves a line, for a test that counts them. */
if (record !== undefined) appendFileSync(record, `${process.pid}\n`);

function reply({ request }: Header, value: bigint): Uint8Array {
  return encodeFrame(request, FLAG.reply, { kind: "u64", value });
}

function answer(socket: Socket, header: Header): void {
  if (requests++ < Number(after)) {
    // A back-end that offers nothing but what each one has to.
    if (header.request === 1) socket.write(reply(header, maskOf(F.VERSION_1)));
    return;
  }
  switch (how) {
    case "hang":
      return;
    case "die":
      process.stderr.write("a bad thing has happened\n");
      process.exit(3);
      break;
    case "abort":
      process.kill(process.pid, "SIGABRT");
      break;
    case "leave":
      socket.destroy();
      return;
    case "garbage":
      socket.write(new Uint8Array(64).fill(0xee));
      return;
    case "other-request":
      socket.write(reply({ ...header, request: header.request + 1 }, 0n));
      return;
    case "cut":
      socket.write(reply(header, 0n).subarray(0, HEADER_BYTES + 3));
      return;
  }
}

const server = createServer((socket) => {
  let bytes = Buffer.alloc(0);
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
    while (bytes.length >= HEADER_BYTES) {
      const header = decodeHeader(bytes);
      if (bytes.length < HEADER_BYTES + header.size) return;
      bytes = bytes.subarray(HEADER_BYTES + header.size);
      answer(socket, header);
    }
  });
});
server.listen(path);
