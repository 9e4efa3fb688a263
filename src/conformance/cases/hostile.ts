/** Cases about guests that break the rules of the rings on purpose: it costs them their device, and nobody else. */
import { DescFlag } from "../../virtqueue/layout.js";
import type { RawDescriptor } from "../../virtqueue/split-driver-rings.js";
import { HEADER_BYTES, Op } from "../../vsock/header.js";
import type { ConformanceCase, FeatureName } from "../case.js";
import type { CaseContext } from "../context.js";
import type { RawGuest } from "../raw-guest.js";
import { agreed } from "../rules.js";

const RULE = agreed(
  "a malformed ring is an error of that ring: nothing outside of the guest's memory is touched, and the program goes on",
  "Linux drivers/vhost/vhost.c vhost_get_vq_desc",
  "rust-vmm virtio-queue src/chain.rs",
);
const NO_MEMORY = 0x5000_0000_0000n;
/** What a guest is given to do harm. */
const QUIET_MS = 100;

/** Lets the guest do its worst; afterwards the back-end still answers, or has ended the session, and the next one works. */
function hostile(
  name: string,
  title: string,
  act: (guest: RawGuest, context: CaseContext) => void,
  features: readonly FeatureName[] = [],
): ConformanceCase {
  return {
    id: `hostile.${name}`,
    title: `${title} harms nobody but its guest`,
    rule: RULE,
    needs: { features, endpoints: ["uds"] },
    async run(context) {
      const guest = await context.guest({ features, receiveChains: 8 });
      guest.session.mayEnd = true;
      for (const queue of guest.queues) queue.isLeftAlone = true;
      act(guest, context);
      guest.kickAll();
      await context.pass(QUIET_MS);
      if (!(await context.hasLeft(guest.session, 0))) guest.session.getFeatures();
      await context.assertNextWorks(guest.session);
    },
  };
}

/** Puts descriptors into the transmit ring and offers the first. */
function offer(guest: RawGuest, ...descriptors: readonly RawDescriptor[]): void {
  const { split } = guest.tx;
  for (const [index, descriptor] of descriptors.entries()) split.rings.writeDescriptor(index, descriptor);
  split.offer(0);
  split.publish();
}

/** A packet of data in memory, of a length that may be a lie. */
function packet(guest: RawGuest, len = 0): bigint {
  const block = guest.memory.allocate(4096);
  const header = guest.header({ op: Op.RW, srcPort: guest.port(), dstPort: 9, len });
  header.write(new DataView(block.view.buffer, block.view.byteOffset), 0);
  return block.bus;
}

export const HOSTILE_CASES: readonly ConformanceCase[] = [
  hostile("loop", "a chain that leads back to itself", (guest) => {
    const address = packet(guest);
    offer(
      guest,
      { address, length: 64, flags: DescFlag.NEXT, next: 1 },
      { address, length: 64, flags: DescFlag.NEXT, next: 0 },
    );
  }),
  hostile("loop-of-nothing", "a chain of empty buffers that leads back to itself", (guest) => {
    const address = packet(guest);
    offer(
      guest,
      { address, length: 0, flags: DescFlag.NEXT, next: 1 },
      { address, length: 0, flags: DescFlag.NEXT, next: 0 },
    );
  }),
  hostile("head-out-of-range", "an avail entry beyond the table", (guest) => {
    guest.tx.split.offer(0xfffe);
    guest.tx.split.publish();
  }),
  hostile("next-out-of-range", "a chain that leads beyond the table", (guest) => {
    offer(guest, { address: packet(guest), length: 64, flags: DescFlag.NEXT, next: 5000 });
  }),
  hostile("index-jump", "an avail index that runs ahead of the ring", (guest) => {
    const { rings } = guest.tx.split;
    rings.availIndex = (rings.availIndex + 5000) & 0xffff;
  }),
  hostile("transmit-outside-memory", "a transmit buffer outside of memory", (guest) => {
    offer(guest, { address: NO_MEMORY, length: 64 });
  }),
  hostile("payload-outside-memory", "a payload outside of memory", (guest) => {
    offer(
      guest,
      { address: packet(guest, 1000), length: HEADER_BYTES, flags: DescFlag.NEXT, next: 1 },
      { address: NO_MEMORY, length: 1000 },
    );
  }),
  hostile("receive-outside-memory", "a receive buffer outside of memory", (guest, context) => {
    const { split } = guest.rx;
    for (let index = 0; index < guest.rx.size; index++)
      split.rings.writeDescriptor(index, { address: NO_MEMORY, length: 4096, flags: DescFlag.WRITE });
    guest.send({ op: Op.REQUEST, srcPort: guest.port(), dstPort: context.hostPort() });
  }),
  hostile("wrapping-buffer", "a buffer whose end wraps around", (guest) => {
    offer(guest, { address: 0xffff_ffff_ffff_ff00n, length: 0xffff_ffff });
  }),
  hostile("short-header", "a packet shorter than a header", (guest) => {
    offer(guest, { address: packet(guest), length: 10 });
  }),
  hostile("length-lies", "a header that promises more than its buffers hold", (guest) => {
    offer(guest, { address: packet(guest, 0xffff_ffff), length: 64 });
  }),
  hostile("writable-transmit", "a transmit buffer for writing", (guest) => {
    offer(guest, { address: packet(guest), length: HEADER_BYTES, flags: DescFlag.WRITE });
  }),
  hostile("readable-receive", "a receive buffer for reading only", (guest, context) => {
    const { split } = guest.rx;
    for (let index = 0; index < guest.rx.size; index++)
      split.rings.writeDescriptor(index, { address: packet(guest), length: 4096 });
    guest.send({ op: Op.REQUEST, srcPort: guest.port(), dstPort: context.hostPort() });
  }),
  hostile("unknown-operation", "a packet with an operation that nobody has defined", (guest) => {
    guest.send({ op: 4711, srcPort: guest.port(), dstPort: 9 });
  }),
  hostile(
    "indirect-in-indirect",
    "a table within a table",
    (guest) => {
      const table = guest.memory.allocate(4096);
      const entry = new DataView(table.view.buffer, table.view.byteOffset);
      entry.setBigUint64(0, table.bus, true);
      entry.setUint32(8, 16, true);
      entry.setUint16(12, DescFlag.INDIRECT, true);
      offer(guest, { address: table.bus, length: 16, flags: DescFlag.INDIRECT });
    },
    ["INDIRECT_DESC"],
  ),
  hostile(
    "indirect-size",
    "a table of a size that no table has",
    (guest) => offer(guest, { address: packet(guest), length: 17, flags: DescFlag.INDIRECT }),
    ["INDIRECT_DESC"],
  ),
  hostile(
    "indirect-outside-memory",
    "a table outside of memory",
    (guest) => offer(guest, { address: NO_MEMORY, length: 32, flags: DescFlag.INDIRECT }),
    ["INDIRECT_DESC"],
  ),
];
