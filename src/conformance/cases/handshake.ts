/** Cases about the hybrid socket: the line with which the host's programs ask for a port of the guest. */
import { Op } from "../../vsock/header.js";
import type { ConformanceCase, Needs, Rule } from "../case.js";
import type { CaseContext } from "../context.js";
import { assertWorks, call, exchange, noise } from "../exchange.js";

const UDS: Needs = { endpoints: ["uds"] };

/** The scheme is Firecracker's, whose document describes it. */
function firecracker(says: string): Rule {
  return { document: "Firecracker, docs/vsock.md", section: "Host-Initiated Connections", says };
}

const GARBAGE = firecracker(
  'the client sends "CONNECT <port>\\n"; anything else is no request, and ends the connection',
);

/** What is no request ends its own connection, and no more. */
async function ends(context: CaseContext, text: string | Uint8Array): Promise<void> {
  const guest = await context.guest();
  const socket = await context.host.open();
  socket.write(text);
  await context.until(() => socket.hasEnded || socket.isClosed, "the connection is ended");
  context.expect.equal(socket.receivedBytes, 0, "without an answer");
  context.expect.equal(guest.inbox.length, 0, "and the guest hears nothing of it");
  await exchange(context, await call(context, guest), 1000);
}

export const HANDSHAKE_CASES: readonly ConformanceCase[] = [
  {
    id: "handshake.ok",
    title: "CONNECT and a port are answered with OK and a port, once the guest has accepted",
    rule: firecracker('on success the client gets "OK <port>\\n", and the stream follows'),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const port = guest.port();
      const host = await context.host.request(port);
      const connection = await guest.accept(port);
      const line = await host.readLine();
      context.expect.that(/^OK \d+\n$/.test(line), "the line is OK and a port", JSON.stringify(line));
      await exchange(context, { guest: connection, host });
    },
  },
  {
    id: "handshake.byte-by-byte",
    title: "the line may come byte by byte",
    rule: firecracker("it is a stream socket: what counts is the line"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const port = guest.port();
      const host = await context.host.open();
      for (const byte of `CONNECT ${port}\n`) {
        host.write(byte);
        await context.pass(2);
      }
      const connection = await guest.accept(port);
      await host.readLine();
      await exchange(context, { guest: connection, host }, 1000);
    },
  },
  {
    id: "handshake.early-data",
    title: "what is sent behind the line without waiting for OK is the beginning of the stream",
    rule: firecracker("it is a stream socket: what follows the line is data"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const port = guest.port();
      const host = await context.host.open();
      const data = noise(3000);
      host.write(Buffer.concat([Buffer.from(`CONNECT ${port}\n`), data]));
      const connection = await guest.accept(port);
      context.expect.sameBytes(await connection.read(data.length), data, "the guest gets all of it");
    },
  },
  {
    id: "handshake.refused",
    title: "a guest that refuses ends the host's connection without OK",
    rule: firecracker("if nobody listens in the guest, the connection is closed"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const port = guest.port();
      const host = await context.host.request(port);
      const { header } = await guest.receive("a REQUEST comes", ({ dstPort }) => dstPort === port);
      guest.send({ op: Op.RST, srcPort: port, dstPort: header.srcPort });
      await context.until(() => host.hasEnded || host.isClosed, "the host's connection is ended");
      context.expect.equal(host.receivedBytes, 0, "without an answer");
      await assertWorks(context, guest);
    },
  },
  {
    id: "handshake.other-word",
    title: "a line that begins with another word ends its connection, and others go on",
    rule: GARBAGE,
    needs: UDS,
    run: (context) => ends(context, "HELLO 1024\n"),
  },
  {
    id: "handshake.no-number",
    title: "a line without a number ends its connection, and others go on",
    rule: GARBAGE,
    needs: UDS,
    run: (context) => ends(context, "CONNECT somewhere\n"),
  },
  {
    id: "handshake.number-too-large",
    title: "a port of more than 32 bits ends its connection, and others go on",
    rule: GARBAGE,
    needs: UDS,
    run: (context) => ends(context, "CONNECT 4294967296\n"),
  },
  {
    id: "handshake.endless-line",
    title: "a line that does not end, ends its connection, and others go on",
    rule: GARBAGE,
    needs: UDS,
    run: (context) => ends(context, new Uint8Array(16_384).fill(0x41)),
  },
  {
    id: "handshake.says-nothing",
    title: "programs that connect and say nothing, or leave, cost nobody else anything",
    rule: firecracker("connections are independent of one another"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      for (let i = 0; i < 20; i++) {
        const silent = await context.host.open();
        if (i % 2 === 0) silent.destroy();
        if (i % 3 === 0) (await context.host.open()).write("CONN");
      }
      await exchange(context, await call(context, guest), 1000);
    },
  },
  {
    id: "handshake.leaves-before-the-answer",
    title: "a program that leaves before the guest has answered costs nobody else anything",
    rule: firecracker("connections are independent of one another"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const port = guest.port();
      const host = await context.host.request(port);
      const { header } = await guest.receive("a REQUEST comes", ({ dstPort }) => dstPort === port);
      host.destroy();
      await context.pass(20);
      guest.send({ op: Op.RESPONSE, srcPort: port, dstPort: header.srcPort });
      await context.pass(20);
      await exchange(context, await call(context, guest), 1000);
    },
  },
];
