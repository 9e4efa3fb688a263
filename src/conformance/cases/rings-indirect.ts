/** Cases about indirect tables of split rings. */
import { DescFlag } from "../../virtqueue/layout.js";
import { high32, low32 } from "../../virtqueue/split-driver-rings.js";
import { HEADER_BYTES, Op } from "../../vsock/header.js";
import type { ConformanceCase, Needs } from "../case.js";
import { assertWorks, join, noise } from "../exchange.js";
import type { RawConnection } from "../raw-connection.js";
import type { RawGuest } from "../raw-guest.js";
import { virtio } from "../rules.js";
import type { Block } from "../test-memory.js";

const INDIRECT: Needs = { features: ["INDIRECT_DESC"], endpoints: ["uds"] };
const INDIRECT_RULE = "2.7.5.3.2 Device Requirements: Indirect Descriptors";

/** The parts of a packet of data in memory: the header, and what follows it. */
function packetParts(guest: RawGuest, connection: RawConnection, payload: Uint8Array) {
  const header = guest.memory.allocate(HEADER_BYTES);
  connection
    .headerFor(Op.RW, payload.length)
    .write(new DataView(header.view.buffer, header.view.byteOffset), 0);
  const data = guest.memory.allocate(payload.length);
  data.view.set(payload);
  return { header, data };
}

interface Entry {
  readonly address: bigint;
  readonly length: number;
  /** The entry that follows; none behind the last. */
  readonly next?: number;
}

/** A table of readable descriptors. */
function tableOf(guest: RawGuest, entries: readonly Entry[]): Block {
  const table = guest.memory.allocate(16 * entries.length);
  const data = new DataView(table.view.buffer, table.view.byteOffset);
  for (const [index, { address, length, next }] of entries.entries()) {
    data.setBigUint64(16 * index, address, true);
    data.setUint32(16 * index + 8, length, true);
    data.setUint16(16 * index + 12, next === undefined ? 0 : DescFlag.NEXT, true);
    data.setUint16(16 * index + 14, next ?? 0, true);
  }
  return table;
}

export const RING_INDIRECT_CASES: readonly ConformanceCase[] = [
  {
    id: "rings.indirect",
    title: "chains in indirect tables are taken in both directions",
    rule: virtio(INDIRECT_RULE, "VIRTIO_F_INDIRECT_DESC: a descriptor may refer to a table of descriptors"),
    needs: INDIRECT,
    async run(context) {
      const receiveSizes = [HEADER_BYTES, 2000];
      await assertWorks(
        context,
        await context.guest({ features: ["INDIRECT_DESC"], tableEntries: 4, receiveSizes }),
      );
    },
  },
  {
    id: "rings.indirect-write-flag",
    title: "the write flag of a descriptor that refers to an indirect table means nothing",
    rule: virtio(
      INDIRECT_RULE,
      "the device MUST ignore the write-only flag in the descriptor that refers to a table",
    ),
    needs: INDIRECT,
    async run(context) {
      const guest = await context.guest({ features: ["INDIRECT_DESC"], tableEntries: 4 });
      const { guest: connection, host } = await join(context, guest);
      await guest.sent();
      const data = noise(500);
      guest.putPacket(connection, data, (head) => {
        const { rings } = guest.tx.split;
        const address = rings.tableAddress(head);
        rings.writeDescriptor(head, { address, length: 32, flags: DescFlag.INDIRECT | DescFlag.WRITE });
      });
      guest.tx.flush();
      context.expect.sameBytes(await host.read(data.length), data, "the host gets it");
    },
  },
  {
    id: "rings.indirect-chained",
    title: "the entries of an indirect table are taken in the order of their next fields",
    rule: virtio("2.7.5.3 Indirect Descriptors", "additional indirect descriptors are chained by next"),
    needs: INDIRECT,
    async run(context) {
      const guest = await context.guest({ features: ["INDIRECT_DESC"] });
      const { guest: connection, host } = await join(context, guest);
      await guest.sent();
      const sent = noise(500);
      const { header, data } = packetParts(guest, connection, sent);
      const table = tableOf(guest, [
        { address: header.bus, length: HEADER_BYTES, next: 2 },
        { address: data.bus + 200n, length: 300 },
        { address: data.bus, length: 200, next: 1 },
      ]);
      const { ring } = guest.tx;
      ring.begin();
      ring.putTable(low32(table.bus), high32(table.bus), table.bytes, 0);
      ring.commit();
      guest.tx.flush();
      context.expect.sameBytes(await host.read(sent.length), sent, "the host gets it");
    },
  },
  {
    id: "rings.indirect-at-the-end",
    title: "a chain may begin with ordinary descriptors and end in an indirect table",
    rule: virtio(
      INDIRECT_RULE,
      "the device MUST handle zero or more normal chained descriptors followed by a single one with INDIRECT",
    ),
    needs: INDIRECT,
    async run(context) {
      const guest = await context.guest({ features: ["INDIRECT_DESC"] });
      const { guest: connection, host } = await join(context, guest);
      await guest.sent();
      const sent = noise(500);
      const { header, data } = packetParts(guest, connection, sent);
      const table = tableOf(guest, [{ address: data.bus, length: sent.length }]);
      const { ring } = guest.tx;
      ring.begin();
      ring.put(low32(header.bus), high32(header.bus), HEADER_BYTES, false);
      ring.putTable(low32(table.bus), high32(table.bus), table.bytes, 0);
      ring.commit();
      guest.tx.flush();
      context.expect.sameBytes(await host.read(sent.length), sent, "the host gets it");
    },
  },
];
