/** Cases about seqpacket connections: whole messages, whatever packets they come in. */
import { MessageEnd, Op, Shutdown, SocketType } from "../../vsock/header.js";
import type { ConformanceCase, Needs } from "../case.js";
import type { CaseContext } from "../context.js";
import { join, noise } from "../exchange.js";
import type { MessageSocket } from "../message-socket.js";
import type { RawConnection } from "../raw-connection.js";
import type { RawGuest } from "../raw-guest.js";
import { virtio } from "../rules.js";

const NEEDS: Needs = { features: ["VSOCK_SEQPACKET"], endpoints: ["uds"] };
const MESSAGES = "Socket Device, Seqpacket Sockets";
const BOUNDARIES = virtio(
  MESSAGES,
  "message boundaries are kept: VIRTIO_VSOCK_SEQ_EOM is set in the last packet of a message, and in no other",
);
const TYPE = { type: SocketType.SEQPACKET };
/** Around what a page and a usual receive buffer hold. */
const LENGTHS = [1, 4000, 4097, 70_000, 2, 200_000, 3];
/** For what must not happen. */
const QUIET_MS = 150;

interface JoinedMessages {
  readonly guest: RawConnection;
  readonly host: MessageSocket;
}

function guestWithMessages(context: CaseContext): Promise<RawGuest> {
  return context.guest({ features: ["VSOCK_SEQPACKET"] });
}

async function joinMessages(context: CaseContext, guest: RawGuest): Promise<JoinedMessages> {
  const port = context.hostPort();
  const listener = context.host.listenForMessages(port);
  const connection = await guest.connect(port, TYPE);
  return { guest: connection, host: await listener.accept() };
}

/** One message, in packets of at most so many bytes. */
async function sendMessage(
  context: CaseContext,
  guest: RawGuest,
  connection: RawConnection,
  message: Uint8Array,
  mostAtOnce: number,
  end: number = MessageEnd.EOM,
): Promise<void> {
  for (let at = 0; at < message.length; ) {
    const bytes = Math.min(mostAtOnce, message.length - at);
    await context.until(() => connection.credit >= bytes, "the device gives credit for the next packet");
    await guest.room();
    const flags = at + bytes === message.length ? end : 0;
    connection.send(Op.RW, { flags }, message.subarray(at, at + bytes));
    at += bytes;
  }
}

async function assertHostGets(
  context: CaseContext,
  host: MessageSocket,
  messages: readonly Buffer[],
): Promise<void> {
  for (const message of messages) {
    const what = `a message of ${message.length} bytes arrives as it was sent`;
    context.expect.sameBytes(context.expect.present(await host.receive(), what), message, what);
  }
}

export const SEQPACKET_CASES: readonly ConformanceCase[] = [
  {
    id: "seqpacket.guest-connects",
    title: "a seqpacket connection of the guest's is answered as one",
    rule: virtio(
      "Socket Device, Addressing",
      "type 2 is SEQPACKET, if VIRTIO_VSOCK_F_SEQPACKET was negotiated",
    ),
    needs: NEEDS,
    async run(context) {
      const guest = await guestWithMessages(context);
      const port = context.hostPort();
      context.host.listenForMessages(port);
      guest.send({ op: Op.REQUEST, srcPort: guest.port(), dstPort: port, ...TYPE });
      const { header } = await guest.receive("an answer comes", ({ dstCid }) => dstCid === guest.cid);
      context.expect.equal(header.op, Op.RESPONSE, "the answer is a RESPONSE");
      context.expect.equal(header.type, SocketType.SEQPACKET, "its type is SEQPACKET");
    },
  },
  {
    id: "seqpacket.from-guest",
    title: "messages of the guest's, a packet each, arrive one by one",
    rule: BOUNDARIES,
    needs: NEEDS,
    async run(context) {
      const guest = await guestWithMessages(context);
      const { guest: connection, host } = await joinMessages(context, guest);
      const messages = [1, 1, 500, 60_000, 2].map(noise);
      for (const message of messages) await sendMessage(context, guest, connection, message, 65_536);
      await assertHostGets(context, host, messages);
    },
  },
  {
    id: "seqpacket.from-guest-in-parts",
    title: "messages of the guest's in several packets arrive whole",
    rule: BOUNDARIES,
    needs: NEEDS,
    async run(context) {
      const guest = await guestWithMessages(context);
      const { guest: connection, host } = await joinMessages(context, guest);
      const messages = LENGTHS.map(noise);
      for (const message of messages) {
        await sendMessage(context, guest, connection, message, 4001);
        await assertHostGets(context, host, [message]);
      }
    },
  },
  {
    id: "seqpacket.end-of-record",
    title: "a message that ends a record as well arrives like any other",
    rule: virtio(MESSAGES, "VIRTIO_VSOCK_SEQ_EOR may be set beside VIRTIO_VSOCK_SEQ_EOM"),
    needs: NEEDS,
    async run(context) {
      const guest = await guestWithMessages(context);
      const { guest: connection, host } = await joinMessages(context, guest);
      const messages = [300, 9000].map(noise);
      const both = MessageEnd.EOM | MessageEnd.EOR;
      for (const message of messages) await sendMessage(context, guest, connection, message, 4000, both);
      await assertHostGets(context, host, messages);
    },
  },
  {
    id: "seqpacket.not-before-its-end",
    title: "nothing of a message arrives before its last packet",
    rule: BOUNDARIES,
    needs: NEEDS,
    async run(context) {
      const guest = await guestWithMessages(context);
      const { guest: connection, host } = await joinMessages(context, guest);
      const message = noise(5000);
      await sendMessage(context, guest, connection, message.subarray(0, 3000), 3000, 0);
      await context.pass(QUIET_MS);
      context.expect.that(!host.isReady, "nothing arrives yet");
      await sendMessage(context, guest, connection, message.subarray(3000), 3000);
      await assertHostGets(context, host, [message]);
    },
  },
  {
    id: "seqpacket.unfinished",
    title: "of a message whose sender ends its direction in the middle nothing arrives",
    rule: BOUNDARIES,
    needs: NEEDS,
    async run(context) {
      const guest = await guestWithMessages(context);
      const { guest: connection, host } = await joinMessages(context, guest);
      const whole = noise(100);
      await sendMessage(context, guest, connection, whole, 100);
      await sendMessage(context, guest, connection, noise(3000), 3000, 0);
      connection.send(Op.SHUTDOWN, { flags: Shutdown.SEND });
      await assertHostGets(context, host, [whole]);
      context.expect.equal(
        await host.receive(),
        undefined,
        "the end, or an error, follows the whole message",
      );
    },
  },
  {
    id: "seqpacket.from-host",
    title: "messages of the host's arrive with EOM in the last packet of each",
    rule: BOUNDARIES,
    needs: NEEDS,
    async run(context) {
      const { guest: connection, host } = await joinMessages(context, await guestWithMessages(context));
      const messages = LENGTHS.map(noise);
      for (const [index, message] of messages.entries()) {
        await host.send(message);
        await context.until(
          () => connection.messages.length > index,
          `a message of ${message.length} bytes arrives in the guest`,
        );
        context.expect.sameBytes(connection.messages[index], message, "the message arrives as it was sent");
      }
      context.expect.equal(connection.waitingBytes, 0, "nothing is left over behind the last EOM");
    },
  },
  {
    id: "seqpacket.credit-kept",
    title: "the device never sends more of a message than the guest has room for",
    rule: virtio(
      "Socket Device, Buffer Space Management",
      "the sender MUST only transmit when the peer has sufficient free buffer space",
    ),
    needs: NEEDS,
    async run(context) {
      const guest = await guestWithMessages(context);
      const port = context.hostPort();
      const listener = context.host.listenForMessages(port);
      const connection = guest.open(guest.port(), port, TYPE);
      connection.bufAlloc = 10_000;
      connection.consumes = false;
      connection.send(Op.REQUEST);
      const host = await listener.accept();
      const messages = [6000, 7000].map(noise);
      for (const message of messages) await host.send(message);
      await context.until(() => connection.messages.length === 1, "the first message, which fits, arrives");
      await context.pass(QUIET_MS);
      context.expect.that(
        connection.rxCnt <= 10_000,
        "no more than there is room for arrives",
        `${connection.rxCnt} bytes`,
      );
      connection.consumes = true;
      connection.fwdCnt = connection.rxCnt;
      connection.send(Op.CREDIT_UPDATE);
      await context.until(() => connection.messages.length === 2, "the other arrives once there is room");
      for (const [index, message] of messages.entries())
        context.expect.sameBytes(
          connection.messages[index],
          message,
          "the messages arrive as they were sent",
        );
    },
  },
  {
    id: "seqpacket.credit-comes-back",
    title: "a guest gets credit for messages that have been taken",
    rule: virtio(
      "Socket Device, Buffer Space Management",
      "fwd_cnt counts what was passed on; free space is buf_alloc less what was sent and is not passed on",
    ),
    needs: NEEDS,
    async run(context) {
      const guest = await guestWithMessages(context);
      const { guest: connection, host } = await joinMessages(context, guest);
      const message = noise(30_000);
      // Four times what the device said that it has room for.
      const count = Math.ceil((4 * connection.peerBufAlloc) / message.length);
      for (let sent = 0; sent < count; sent++) {
        await sendMessage(context, guest, connection, message, 65_536);
        await assertHostGets(context, host, [message]);
      }
    },
  },
  {
    id: "seqpacket.guest-half-close",
    title: "a guest that sends no more messages still receives",
    rule: virtio(
      "Socket Device, Stream Sockets",
      "SHUTDOWN bit 1 says that the peer will not send any more data, and nothing of receiving",
    ),
    needs: NEEDS,
    async run(context) {
      const { guest: connection, host } = await joinMessages(context, await guestWithMessages(context));
      connection.send(Op.SHUTDOWN, { flags: Shutdown.SEND });
      context.expect.equal(await host.receive(), undefined, "the host sees the end of the guest's direction");
      const message = noise(5000);
      await host.send(message);
      await context.until(() => connection.messages.length === 1, "the guest gets what the host sends then");
      context.expect.sameBytes(connection.messages[0], message, "the message arrives as it was sent");
    },
  },
  {
    id: "seqpacket.nobody-listens",
    title: "a seqpacket REQUEST to a port where nobody listens is answered with RST",
    rule: virtio("Socket Device, Stream Sockets", "RST if no socket listens on the destination"),
    needs: NEEDS,
    async run(context) {
      const guest = await guestWithMessages(context);
      const connection = guest.open(guest.port(), context.hostPort(), TYPE);
      connection.send(Op.REQUEST);
      await context.until(() => connection.wasReset, "a RST comes");
    },
  },
  {
    id: "seqpacket.not-negotiated",
    title: "a seqpacket REQUEST of a guest that did not take the feature is answered with RST",
    rule: virtio("Socket Device, Receive and Transmit", "RST MUST be sent for a packet of unknown type"),
    needs: NEEDS,
    async run(context) {
      const guest = await context.guest();
      const port = context.hostPort();
      context.host.listenForMessages(port);
      const connection = guest.open(guest.port(), port, TYPE);
      connection.send(Op.REQUEST);
      await context.until(() => connection.wasReset, "a RST comes");
    },
  },
  {
    id: "seqpacket.beside-streams",
    title: "messages and streams of one guest go on beside each other",
    rule: virtio("Socket Device, Addressing", "a flow is known by its two addresses and ports"),
    needs: NEEDS,
    async run(context) {
      const guest = await guestWithMessages(context);
      const messages = await joinMessages(context, guest);
      const stream = await join(context, guest);
      const [data, message] = [noise(50_000), noise(50_000)];
      await sendMessage(context, guest, messages.guest, message.subarray(0, 20_000), 4000, 0);
      await stream.guest.write(data);
      await sendMessage(context, guest, messages.guest, message.subarray(20_000), 4000);
      context.expect.sameBytes(await stream.host.read(data.length), data, "the stream arrives");
      await assertHostGets(context, messages.host, [message]);
    },
  },
  {
    id: "seqpacket.host-connects",
    title: "a connection of the host's for messages moves them both ways",
    rule: virtio("Socket Device, Stream Sockets", "a connection is established by REQUEST and RESPONSE"),
    needs: NEEDS,
    async run(context) {
      if (!context.host.hasMessages)
        context.skip("there is no seqpacket socket beside the hybrid one (_seqpacket)");
      const guest = await guestWithMessages(context);
      const port = guest.port();
      const host = await context.host.requestMessages(port);
      const connection = await guest.accept(port, TYPE);
      const answer = String(await host.receive());
      context.expect.that(/^OK \d+\n$/.test(answer), "the socket says OK and a port", JSON.stringify(answer));
      const [there, back] = [noise(10_000), noise(6000)];
      await host.send(there);
      await context.until(() => connection.messages.length === 1, "the message arrives in the guest");
      context.expect.sameBytes(connection.messages[0], there, "it arrives as it was sent");
      await sendMessage(context, guest, connection, back, 4096);
      await assertHostGets(context, host, [back]);
    },
  },
];
