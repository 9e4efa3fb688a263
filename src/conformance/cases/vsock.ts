/** Cases about the socket protocol: credit, resets, shutdown, many connections. */
import { Op, Shutdown, SocketType } from "../../vsock/header.js";
import type { ConformanceCase, Needs } from "../case.js";
import { call, exchange, join, noise } from "../exchange.js";
import { agreed, virtio } from "../rules.js";

const UDS: Needs = { endpoints: ["uds"] };
const CREDIT = "Socket Device, Buffer Space Management";
const CONNECTION = "Socket Device, Stream Sockets";
const RESETS = agreed(
  "a packet that belongs to no connection is answered with RST",
  "Linux net/vmw_vsock/virtio_transport_common.c virtio_transport_recv_pkt",
  "Firecracker src/vmm/src/devices/virtio/vsock/unix/muxer.rs send_pkt",
);
/** For what must not happen. */
const QUIET_MS = 150;

export const VSOCK_CASES: readonly ConformanceCase[] = [
  {
    id: "vsock.host-connects",
    title: "a connection of the host's through the hybrid socket moves data both ways",
    rule: virtio(CONNECTION, "a connection is established by REQUEST and RESPONSE"),
    needs: UDS,
    async run(context) {
      await exchange(context, await call(context, await context.guest()), 100_000);
    },
  },
  {
    id: "vsock.credit-in-every-packet",
    title: "the answer to a REQUEST says how much may be sent",
    rule: virtio(
      CREDIT,
      "all packets associated with a stream flow contain valid information in buf_alloc and fwd_cnt",
    ),
    needs: UDS,
    async run(context) {
      const { guest } = await join(context, await context.guest());
      context.expect.that(guest.peerBufAlloc > 0, "buf_alloc is given", `${guest.peerBufAlloc}`);
      context.expect.equal(guest.peerFwdCnt, 0, "nothing was forwarded yet");
    },
  },
  {
    id: "vsock.credit-kept",
    title: "the device never sends more than the guest has room for",
    rule: virtio(CREDIT, "the sender MUST only transmit when the peer has sufficient free buffer space"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const port = context.hostPort();
      const listener = await context.host.listen(port);
      const connection = guest.open(guest.port(), port);
      connection.bufAlloc = 10_000;
      connection.consumes = false;
      connection.send(Op.REQUEST);
      const host = await listener.accept();
      const data = noise(30_000);
      host.write(data);
      await context.until(() => connection.waitingBytes > 0, "data arrives");
      await context.pass(2 * QUIET_MS);
      // A device need not use the last byte of it.
      const { waitingBytes } = connection;
      context.expect.that(
        waitingBytes <= 10_000,
        "no more than there is room for arrives",
        `${waitingBytes} bytes`,
      );
      connection.consumes = true;
      connection.fwdCnt = connection.rxCnt;
      connection.bufAlloc = 100_000;
      connection.send(Op.CREDIT_UPDATE);
      context.expect.sameBytes(
        await connection.read(data.length),
        data,
        "the rest arrives once there is room",
      );
    },
  },
  {
    id: "vsock.credit-small",
    title: "a guest with room for a hundred bytes gets a hundred at a time, and everything in the end",
    rule: virtio(CREDIT, "the sender MUST only transmit when the peer has sufficient free buffer space"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const port = context.hostPort();
      const listener = await context.host.listen(port);
      const connection = guest.open(guest.port(), port);
      connection.bufAlloc = 100;
      connection.consumes = false;
      connection.send(Op.REQUEST);
      const host = await listener.accept();
      const data = noise(450);
      host.write(data);
      for (let taken = 0; taken < data.length; ) {
        await context.until(() => connection.waitingBytes > taken, `more than ${taken} bytes arrive`);
        await context.pass(20);
        const { waitingBytes } = connection;
        const got = waitingBytes - taken;
        context.expect.that(got <= 100, "no more than there is room for arrives", `${got} bytes`);
        taken = waitingBytes;
        connection.fwdCnt = connection.rxCnt;
        connection.send(Op.CREDIT_UPDATE);
      }
      context.expect.sameBytes(await connection.read(data.length), data, "the guest gets everything");
    },
  },
  {
    id: "vsock.credit-given-back",
    title: "a guest that sends megabytes gets credit for them as the host takes them",
    rule: virtio(CREDIT, "fwd_cnt counts the bytes that have left the receiver's buffer"),
    needs: UDS,
    async run(context) {
      const { guest, host } = await join(context, await context.guest());
      const data = noise(4_000_000);
      const arriving = host.read(data.length);
      arriving.catch(() => {});
      await guest.write(data);
      context.expect.sameBytes(await arriving, data, "the host gets everything");
    },
  },
  {
    id: "vsock.credit-request",
    title: "a CREDIT_REQUEST is answered with CREDIT_UPDATE",
    rule: virtio(CREDIT, "VIRTIO_VSOCK_OP_CREDIT_REQUEST is answered by VIRTIO_VSOCK_OP_CREDIT_UPDATE"),
    needs: UDS,
    async run(context) {
      const { guest } = await join(context, await context.guest());
      const before = guest.count(Op.CREDIT_UPDATE);
      guest.send(Op.CREDIT_REQUEST);
      await context.until(() => guest.count(Op.CREDIT_UPDATE) > before, "a CREDIT_UPDATE comes");
    },
  },
  {
    id: "vsock.slow-reader",
    title: "a host program that does not read loses nothing and stops nobody else",
    rule: virtio(CREDIT, "the receiver's free space bounds what is on its way; flows are independent"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const slow = await join(context, guest);
      slow.host.pause();
      const data = noise(1_000_000);
      const writing = slow.guest.write(data);
      writing.catch(() => {});
      await context.pass(QUIET_MS);
      const other = await join(context, guest);
      await exchange(context, other, 200_000);
      slow.host.resume();
      await writing;
      context.expect.sameBytes(await slow.host.read(data.length), data, "the slow one gets everything");
    },
  },
  {
    id: "vsock.nobody-listens",
    title: "a REQUEST to a port where nobody listens is answered with RST",
    rule: virtio(CONNECTION, "RST if no socket listens on the destination, or there are no resources"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const connection = guest.open(guest.port(), context.hostPort());
      connection.send(Op.REQUEST);
      await context.until(() => connection.wasReset, "a RST comes");
    },
  },
  {
    id: "vsock.unknown-connection",
    title: "data of a connection that there is not is answered with RST",
    rule: RESETS,
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const connection = guest.open(guest.port(), context.hostPort());
      connection.send(Op.RW, {}, noise(10));
      await context.until(() => connection.wasReset, "a RST comes");
    },
  },
  {
    id: "vsock.reset-unanswered",
    title: "a RST of a connection that there is not is answered with nothing",
    rule: RESETS,
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const connection = guest.open(guest.port(), context.hostPort());
      connection.send(Op.RST);
      // What the device answers after that it would have answered before.
      await join(context, guest);
      await context.pass(QUIET_MS);
      context.expect.that(!connection.wasReset, "no RST comes");
    },
  },
  {
    id: "vsock.unknown-type",
    title: "a packet of an unknown type is answered with RST",
    rule: virtio("Socket Device, Receive and Transmit", "RST MUST be sent for a packet of unknown type"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const port = context.hostPort();
      const listener = await context.host.listen(port);
      const connection = guest.open(guest.port(), port);
      connection.send(Op.REQUEST, { type: 77 });
      await context.until(() => connection.wasReset, "a RST comes");
      context.expect.equal(listener.waiting, 0, "nobody is connected to the host's listener");
    },
  },
  {
    id: "vsock.other-cid",
    title: "a guest that says it is another gets no connection",
    rule: agreed(
      "a packet whose source is not the guest's own context id is dropped",
      "Linux drivers/vhost/vsock.c vhost_vsock_handle_tx_kick",
      "Firecracker src/vmm/src/devices/virtio/vsock/unix/muxer.rs send_pkt",
    ),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const port = context.hostPort();
      const listener = await context.host.listen(port);
      guest.open(guest.port(), port).send(Op.REQUEST, { srcCid: guest.cid + 1 });
      await join(context, guest);
      await context.pass(QUIET_MS);
      context.expect.equal(listener.waiting, 0, "nobody is connected to the host's listener");
    },
  },
  {
    id: "vsock.guest-shutdown",
    title: "a SHUTDOWN of both directions ends the connection with RST, and the host sees the end",
    rule: virtio(CONNECTION, "a clean disconnect is a SHUTDOWN with both bits, answered with RST"),
    needs: UDS,
    async run(context) {
      const { guest, host } = await join(context, await context.guest());
      const data = noise(1000);
      await guest.write(data);
      guest.send(Op.SHUTDOWN, { flags: Shutdown.BOTH });
      context.expect.sameBytes(await host.readToEnd(), data, "the host gets what was sent before");
      await context.until(() => guest.wasReset, "a RST comes");
    },
  },
  {
    id: "vsock.guest-half-close",
    title: "a guest that sends no more still receives",
    rule: virtio(
      CONNECTION,
      "SHUTDOWN bit 1 says that the peer will not send any more data, and nothing of receiving",
    ),
    needs: UDS,
    async run(context) {
      const { guest, host } = await join(context, await context.guest());
      guest.send(Op.SHUTDOWN, { flags: Shutdown.SEND });
      await context.until(() => host.hasEnded, "the host sees the end of the guest's direction");
      const data = noise(10_000);
      host.write(data);
      context.expect.sameBytes(
        await guest.read(data.length),
        data,
        "the guest gets what the host sends then",
      );
    },
  },
  {
    id: "vsock.host-half-close",
    title: "a host program that sends no more still receives",
    rule: virtio(
      CONNECTION,
      "SHUTDOWN bit 1 says that the peer will not send any more data, and nothing of receiving",
    ),
    needs: UDS,
    async run(context) {
      const { guest, host } = await join(context, await context.guest());
      host.end();
      await context.until(() => guest.hasEnded, "the guest sees the end of the host's direction");
      context.expect.equal(guest.peerShutdown, Shutdown.SEND, "it is told of that direction only");
      const data = noise(10_000);
      await guest.write(data);
      context.expect.sameBytes(await host.read(data.length), data, "the host gets what the guest sends then");
    },
  },
  {
    id: "vsock.guest-reset",
    title: "a RST of the guest's closes the host's socket",
    rule: virtio(CONNECTION, "a RST ends a connection at once"),
    needs: UDS,
    async run(context) {
      const { guest, host } = await join(context, await context.guest());
      guest.send(Op.RST);
      await context.until(() => host.hasEnded || host.isClosed, "the host's socket ends");
    },
  },
  {
    id: "vsock.host-closes",
    title: "a host program that is gone ends the connection for the guest",
    rule: virtio(CONNECTION, "a connection that is closed ends by SHUTDOWN and RST, or by RST"),
    needs: UDS,
    async run(context) {
      const { guest, host } = await join(context, await context.guest());
      host.destroy();
      await context.until(() => guest.hasEnded, "the guest is told of the end");
    },
  },
  {
    id: "vsock.many-connections",
    title: "fifty connections at a time each get their own data",
    rule: virtio("Socket Device, Addressing", "a flow is known by its two addresses and ports"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest({ queueSize: 128 });
      const all = [];
      for (let i = 0; i < 50; i++) all.push(await join(context, guest));
      for (const joined of all) await exchange(context, joined, 500);
    },
  },
  {
    id: "vsock.connect-storm",
    title: "a hundred connections, each ended at once, leave a device that works",
    rule: virtio(CONNECTION, "a connection is established by REQUEST and RESPONSE, and ended by RST"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const port = context.hostPort();
      await context.host.listen(port);
      for (let i = 0; i < 100; i++) {
        const connection = await guest.connect(port);
        connection.send(Op.RST);
        guest.forget(connection);
        await guest.sent();
      }
      await exchange(context, await join(context, guest));
    },
  },
  {
    id: "vsock.same-ports-again",
    title: "the ports of a connection that has ended can be used again",
    rule: virtio(CONNECTION, "a connection that has ended leaves its ports free"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const [hostPort, guestPort] = [context.hostPort(), guest.port()];
      const listener = await context.host.listen(hostPort);
      for (let round = 0; round < 5; round++) {
        const connection = guest.open(guestPort, hostPort);
        connection.send(Op.REQUEST);
        await context.until(() => connection.isOpen, "the connection is established");
        const host = await listener.accept();
        await exchange(context, { guest: connection, host }, 500);
        connection.send(Op.RST);
        await context.until(() => host.hasEnded || host.isClosed, "the host's end is over");
        guest.forget(connection);
      }
    },
  },
  {
    id: "vsock.type-kept",
    title: "a stream connection is answered as one",
    rule: virtio(
      "Socket Device, Addressing",
      "src_cid and dst_cid are of 64 bits, of which the upper 32 are reserved and zeroed; type 1 is STREAM",
    ),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const port = context.hostPort();
      await context.host.listen(port);
      guest.send({ op: Op.REQUEST, srcPort: guest.port(), dstPort: port });
      const { header } = await guest.receive("a RESPONSE comes", ({ op }) => op === Op.RESPONSE);
      context.expect.equal(header.type, SocketType.STREAM, "its type is STREAM");
      context.expect.equal(header.srcCid, 2, "it comes from the host");
      context.expect.equal(header.dstCid, guest.cid, "it goes to the guest");
      context.expect.equal(header.srcCidHigh + header.dstCidHigh, 0, "the upper halves of both are 0");
    },
  },
];
