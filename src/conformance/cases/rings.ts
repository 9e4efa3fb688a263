/** Cases about virtqueues as memory: framing, tables, indices, rings that are full or empty. */
import { HEADER_BYTES, Op } from "../../vsock/header.js";
import type { ConformanceCase, Needs } from "../case.js";
import type { CaseContext } from "../context.js";
import { assertWorks, exchange, join, noise } from "../exchange.js";
import type { RawGuestOptions } from "../raw-guest.js";
import { agreed, virtio } from "../rules.js";

const UDS: Needs = { endpoints: ["uds"] };
const FRAMING = virtio(
  "2.7.4.1 Device Requirements: Message Framing",
  "the device MUST NOT make assumptions about the particular arrangement of descriptors",
);
const TORN = [1, 10, 7, 26, 100, 1, 2000, 33];
const QUIET_MS = 50;

/** Moves data with a guest of that kind. */
const works =
  (options: RawGuestOptions, bytes?: number) =>
  async (context: CaseContext): Promise<void> =>
    assertWorks(context, await context.guest(options), bytes);

/** Sends data in buffers of these sizes, of which the last takes what is left. */
async function sendsAs(
  context: CaseContext,
  sizes: readonly number[],
  options: RawGuestOptions = {},
): Promise<void> {
  const guest = await context.guest(options);
  const { guest: connection, host } = await join(context, guest);
  const sent = noise(5 * 3000);
  for (let at = 0; at < sent.length; at += 3000) {
    await guest.room(sizes.length + 1);
    const piece = sent.subarray(at, at + 3000);
    const left = HEADER_BYTES + piece.length - sizes.reduce((sum, size) => sum + size, 0);
    connection.send(Op.RW, {}, piece, [...sizes, left]);
  }
  context.expect.sameBytes(await host.read(sent.length), sent, "the host gets what the guest sent");
}

export const RING_CASES: readonly ConformanceCase[] = [
  {
    id: "rings.header-and-payload-apart",
    title: "a packet may come as a header and a payload apart",
    rule: FRAMING,
    needs: UDS,
    run: (context) => sendsAs(context, [HEADER_BYTES]),
  },
  {
    id: "rings.one-buffer",
    title: "a packet may come in one buffer, header and payload together",
    rule: FRAMING,
    needs: UDS,
    run: (context) => sendsAs(context, []),
  },
  {
    id: "rings.header-runs-over",
    title: "a header's buffer may hold the beginning of the payload",
    rule: FRAMING,
    needs: UDS,
    run: (context) => sendsAs(context, [HEADER_BYTES + 100]),
  },
  {
    id: "rings.payload-in-pages",
    title: "a payload may come in several buffers behind its header, as Linux sends it with MSG_ZEROCOPY",
    rule: FRAMING,
    needs: UDS,
    run: (context) => sendsAs(context, [HEADER_BYTES, 1000, 500, 1]),
  },
  {
    id: "rings.torn-transmit",
    title: "a packet may come in many buffers, the header torn apart",
    rule: FRAMING,
    needs: UDS,
    run: (context) => sendsAs(context, TORN),
  },
  {
    id: "rings.torn-receive",
    title: "a receive buffer may be a chain of many pieces, the first smaller than a header",
    rule: FRAMING,
    needs: UDS,
    run: works({ receiveSizes: TORN, queueSize: 256 }),
  },
  {
    id: "rings.header-and-page-receive",
    title: "a receive buffer may be a header and a page apart, as Linux before 6.3 posts them",
    rule: FRAMING,
    needs: UDS,
    run: works({ receiveSizes: [HEADER_BYTES, 4096] }),
  },
  {
    id: "rings.small-receive-buffers",
    title: "data that is larger than a receive buffer is spread over several",
    rule: virtio(
      "5.10.6.4 Device Operation: Buffer Flow",
      "a packet fits into the buffer that it is put into",
    ),
    needs: UDS,
    run: works({ receiveSizes: [HEADER_BYTES + 16] }, 5000),
  },
  {
    id: "rings.nothing-beyond",
    title: "what lies before and behind a receive buffer stays as it is",
    rule: virtio(
      "2.7.5 The Virtqueue Descriptor Table",
      "a descriptor refers to a buffer of len bytes, and no more",
    ),
    needs: UDS,
    async run(context) {
      const guest = await context.guest({ receiveChains: 0 });
      guest.repostsBuffers = false;
      const blocks = Array.from({ length: 16 }, () => guest.memory.allocate(8192));
      for (const { view, gpa } of blocks) {
        view.fill(0x5a);
        guest.postAt(guest.memory.at(gpa + 1001, 3003));
      }
      const { guest: connection, host } = await join(context, guest);
      const data = noise(20_000);
      host.write(data);
      context.expect.sameBytes(await connection.read(data.length), data, "the data arrives");
      for (const { view } of blocks) {
        const around = [...view.subarray(0, 1001), ...view.subarray(1001 + 3003)];
        context.expect.that(
          around.every((byte) => byte === 0x5a),
          "the memory around the buffer is untouched",
        );
      }
    },
  },
  {
    id: "rings.used-length-of-transmit",
    title: "a transmit buffer comes back with length 0: nothing was written to it",
    rule: virtio(
      "2.7.8 The Virtqueue Used Ring",
      "len: the number of bytes written into the device-writable portion of the buffer",
    ),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      await assertWorks(context, guest);
      await guest.sent();
      const wrong = guest.transmitted.find((length) => length !== 0);
      context.expect.that(wrong === undefined, "each used length of the transmit ring is 0", `${wrong}`);
    },
  },
  {
    id: "rings.used-length-of-receive",
    title: "a receive buffer comes back with the length of its packet",
    rule: agreed(
      "len is what was written: the header and the payload",
      "Linux drivers/vhost/vsock.c vhost_transport_do_send_pkt",
      "Firecracker src/vmm/src/devices/virtio/vsock/device.rs process_rx",
    ),
    needs: UDS,
    async run(context) {
      const guest = await context.guest();
      const port = context.hostPort();
      const listener = await context.host.listen(port);
      const ports = { srcPort: guest.port(), dstPort: port };
      guest.send({ op: Op.REQUEST, ...ports });
      const answer = await guest.receive("a RESPONSE comes", ({ op }) => op === Op.RESPONSE);
      context.expect.equal(answer.usedLength, HEADER_BYTES, "the used length of a RESPONSE");
      (await listener.accept()).write(noise(100));
      const data = await guest.receive("data comes", ({ op }) => op === Op.RW);
      context.expect.equal(data.usedLength, HEADER_BYTES + data.header.len, "the used length of data");
    },
  },
  {
    id: "rings.index-wrap",
    title: "ring indices wrap at 65536",
    rule: virtio("2.7.6 The Virtqueue Available Ring", "idx always increments, and wraps naturally at 65536"),
    needs: UDS,
    async run(context) {
      const guest = await context.guest({ firstIndex: 65_500 });
      const joined = await join(context, guest);
      await exchange(context, joined, 200_000);
      for (let i = 0; i < 40; i++) {
        await guest.room();
        joined.guest.send(Op.CREDIT_UPDATE);
      }
      await guest.sent();
      context.expect.that(
        guest.tx.split.rings.usedIndex < 65_500,
        "the transmit ring's used index has wrapped",
      );
      context.expect.that(
        guest.rx.split.rings.usedIndex < 65_500,
        "the receive ring's used index has wrapped",
      );
      await exchange(context, joined);
    },
  },
  {
    id: "rings.index-wrap-event-idx",
    title: "ring indices wrap at 65536 with EVENT_IDX, too",
    rule: virtio("2.7.6 The Virtqueue Available Ring", "idx always increments, and wraps naturally at 65536"),
    needs: { features: ["EVENT_IDX"], endpoints: ["uds"] },
    async run(context) {
      const guest = await context.guest({ firstIndex: 65_500, features: ["EVENT_IDX"] });
      const joined = await join(context, guest);
      await exchange(context, joined, 400_000);
      context.expect.that(
        guest.rx.split.rings.usedIndex < 65_500,
        "the receive ring's used index has wrapped",
      );
      await exchange(context, joined);
    },
  },
  {
    id: "rings.small",
    title: "rings of eight descriptors move as much as large ones, in more turns",
    rule: virtio(
      "2.7 Split Virtqueues",
      "the Queue Size is always a power of 2, of which the smallest are legal",
    ),
    needs: UDS,
    run: works({ queueSize: 8 }, 100_000),
  },
  {
    id: "rings.transmit-full",
    title: "a transmit ring that is full when it is kicked is taken as a whole",
    rule: virtio(
      "2.7.13 Supplying Buffers to The Device",
      "one index update may show the device any number of buffers",
    ),
    needs: UDS,
    async run(context) {
      const guest = await context.guest({ queueSize: 64 });
      const { guest: connection, host } = await join(context, guest);
      await guest.sent();
      const data = noise(64 * 100);
      for (let i = 0; i < 64; i++)
        guest.putPacket(connection, data.subarray(i * 100, i * 100 + 100), undefined, true);
      context.expect.equal(guest.tx.ring.freeDescriptors, 0, "the case fills the ring");
      guest.tx.flush();
      context.expect.sameBytes(await host.read(data.length), data, "the host gets all of it, in order");
      await guest.sent();
    },
  },
  {
    id: "rings.receive-empty",
    title: "a device without receive buffers goes on sending, and delivers everything once it has some",
    rule: virtio(
      "Socket Device, Virtqueue Flow Control",
      "the tx virtqueue MUST be processed even when the rx virtqueue is full so long as there are additional resources",
    ),
    needs: UDS,
    async run(context) {
      const guest = await context.guest({ receiveChains: 0 });
      guest.repostsBuffers = false;
      guest.post(1);
      const { guest: connection, host } = await join(context, guest);
      const toGuest = noise(10_000);
      host.write(toGuest);
      // Long enough for the device to find that there is no buffer for it.
      await context.pass(QUIET_MS);
      const toHost = noise(10_000);
      connection.send(Op.RW, {}, toHost);
      context.expect.sameBytes(
        await host.read(toHost.length),
        toHost,
        "the host gets what the guest sends meanwhile",
      );
      guest.post(20);
      context.expect.sameBytes(
        await connection.read(toGuest.length),
        toGuest,
        "then the guest gets everything",
      );
    },
  },
  {
    id: "rings.receive-one-by-one",
    title: "receive buffers that come one at a time are used one at a time, and nothing is lost",
    rule: agreed(
      "a packet that finds no receive buffer waits",
      "Linux drivers/vhost/vsock.c vhost_transport_do_send_pkt",
      "Firecracker src/vmm/src/devices/virtio/vsock/device.rs process_rx",
    ),
    needs: UDS,
    async run(context) {
      const guest = await context.guest({ receiveChains: 0 });
      guest.repostsBuffers = false;
      guest.post(1);
      const { guest: connection, host } = await join(context, guest);
      const data = noise(20_000);
      host.write(data);
      for (let arrived = 0; arrived < data.length; arrived = connection.waitingBytes) {
        guest.post(1);
        await context.until(
          () => connection.waitingBytes > arrived || guest.rx.ring.inFlight === 0,
          `the buffer behind ${arrived} bytes is used`,
        );
      }
      context.expect.sameBytes(
        await connection.read(data.length),
        data,
        "the guest gets everything, in order",
      );
    },
  },
  {
    id: "rings.in-order",
    title: "with IN_ORDER buffers come back in the order in which they were given",
    rule: virtio(
      "2.7.9 In-order use of descriptors",
      "VIRTIO_F_IN_ORDER: the device uses buffers in that order",
    ),
    needs: { features: ["IN_ORDER"], endpoints: ["uds"] },
    // A used element that is out of order is a failure of the driver's ring, and fails the case.
    run: works({ features: ["IN_ORDER"] }, 300_000),
  },
];
