/** Cases about the IOTLB: what is asked for, what an UPDATE and an INVALIDATE do, permissions, limits. */
import { IOTLB_PERM } from "../../vhost/wire/index.js";
import { HEADER_BYTES, Op } from "../../vsock/header.js";
import type { ConformanceCase, Needs } from "../case.js";
import { assertWorks, exchange, join, noise } from "../exchange.js";
import { PAGE_BYTES } from "../io-domain.js";
import { vhostUser } from "../rules.js";
import { QUIET_MS, translatedGuest } from "../translated.js";

export const TRANSLATION_NEEDS: Needs = {
  features: ["ACCESS_PLATFORM"],
  protocolFeatures: ["REPLY_ACK", "BACKEND_REQ"],
  endpoints: ["uds"],
};
const IOMMU = "IOMMU support";
const MISS = vhostUser(
  IOMMU,
  "the back-end sends IOTLB miss messages for the memory areas it needs to access",
);
const UPDATE = vhostUser(
  IOMMU,
  "an update has the I/O virtual address, the size, the user address and the permissions",
);
const INVALIDATE = vhostUser(
  IOMMU,
  "the front-end sends IOTLB entries' invalidation; the back-end replies once it is done",
);
const PERMISSIONS = vhostUser("An IOTLB message", "permissions: 1 read access, 2 write access, 3 both");
const APART = 0x77_0000_0000n;

export const TRANSLATION_CASES: readonly ConformanceCase[] = [
  {
    id: "translation.miss",
    title: "what is not in the IOTLB is asked for with MISS, and used once it is mapped",
    rule: MISS,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain } = await translatedGuest(context);
      await assertWorks(context, guest, 100_000);
      context.expect.that(domain.misses.length > 0, "the back-end asks for mappings", "no MISS at all");
    },
  },
  {
    id: "translation.event-idx",
    title: "rings with EVENT_IDX and indirect tables work behind an IOTLB",
    rule: MISS,
    needs: { ...TRANSLATION_NEEDS, features: ["ACCESS_PLATFORM", "EVENT_IDX", "INDIRECT_DESC"] },
    async run(context) {
      const options = {
        features: ["EVENT_IDX", "INDIRECT_DESC"],
        tableEntries: 4,
        receiveSizes: [44, 2000],
      } as const;
      const { guest } = await translatedGuest(context, options);
      await assertWorks(context, guest, 100_000);
    },
  },
  {
    id: "translation.packed",
    title: "packed rings work behind an IOTLB",
    rule: MISS,
    needs: { ...TRANSLATION_NEEDS, features: ["ACCESS_PLATFORM", "RING_PACKED"] },
    async run(context) {
      const { guest } = await translatedGuest(context, { features: ["RING_PACKED"] });
      await assertWorks(context, guest, 100_000);
    },
  },
  {
    id: "translation.update-unasked",
    title: "what has been mapped beforehand is not asked for",
    rule: UPDATE,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain } = await translatedGuest(context, { isStopped: true });
      guest.startWith(() => {
        guest.shareMemory();
        const [{ bytes }] = guest.memory.ram.slots;
        domain.updatePages = bytes / PAGE_BYTES;
        domain.push(domain.map(0, bytes));
      });
      await assertWorks(context, guest, 100_000);
      context.expect.equal(domain.misses.length, 0, "no MISS comes");
    },
  },
  {
    id: "translation.reply",
    title: "an IOTLB message is answered, also without need_reply",
    rule: vhostUser(
      "Front-end message types, VHOST_USER_IOTLB_MSG",
      "the back-end has to acknowledge the request with sending zero as u64 payload for success",
    ),
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest } = await translatedGuest(context);
      const iotlb = {
        iova: 0x5000n,
        size: 4096n,
        userAddress: guest.memory.userOf(0x1000),
        perm: 3,
        type: 2,
      };
      guest.session.sendRequest("IOTLB_MSG", { kind: "iotlb", ...iotlb });
      const { payload, record } = guest.session.receive();
      context.expect.equal(record.name, "IOTLB_MSG", "the UPDATE is answered");
      context.expect.that(payload.kind === "u64" && payload.value === 0n, "with success");
      context.expect.equal(
        guest.session.iotlbInvalidate(0x5000n, 4096n),
        0n,
        "an INVALIDATE is answered with 0",
      );
      context.expect.equal(guest.session.iotlbInvalidate(0x9000n, 4096n), 0n, "also of what is not mapped");
    },
  },
  {
    id: "translation.update-outside-memory",
    title: "an UPDATE that leads outside of the memory table is answered with failure",
    rule: vhostUser(IOMMU, "addresses and size must be within vhost memory regions; non-zero otherwise"),
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest } = await translatedGuest(context);
      const { session, memory } = guest;
      const [{ bytes }] = memory.ram.slots;
      const wrong: readonly [string, bigint, bigint, bigint][] = [
        ["an unknown user address", 0x5000n, 4096n, 0x1000n],
        ["a size beyond the region's end", 0x5000n, 8192n, memory.userOf(bytes - PAGE_BYTES)],
        ["a range that wraps at 2^64", 0xffff_ffff_ffff_f000n, 8192n, memory.userOf(0)],
      ];
      for (const [what, iova, size, user] of wrong)
        context.expect.that(
          session.iotlbUpdate(iova, size, user) !== 0n,
          `${what} is refused`,
          "it was taken",
        );
      await assertWorks(context, guest);
    },
  },
  {
    id: "translation.scattered",
    title: "a buffer whose pages lie apart in memory is read page by page",
    rule: UPDATE,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain } = await translatedGuest(context);
      const joined = await join(context, guest);
      const data = noise(4 * PAGE_BYTES);
      const pages = Array.from({ length: 5 }, () => guest.memory.allocate(PAGE_BYTES));
      const whole = Buffer.alloc(5 * PAGE_BYTES);
      joined.guest.headerFor(Op.RW, data.length).write(new DataView(whole.buffer, whole.byteOffset), 0);
      whole.set(data, HEADER_BYTES);
      for (const [i, page] of [3, 0, 4, 1, 2].map((place) => pages[place]).entries()) {
        page.view.set(whole.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES));
        domain.map(page.gpa, PAGE_BYTES, IOTLB_PERM.read, APART + BigInt(i * PAGE_BYTES));
      }
      guest.offer([{ address: APART, length: HEADER_BYTES + data.length }]);
      context.expect.sameBytes(await joined.host.read(data.length), data, "the host gets them in order");
    },
  },
  {
    id: "translation.scattered-receive",
    title: "a receive buffer whose pages lie apart in memory is written page by page",
    rule: UPDATE,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain } = await translatedGuest(context, { receiveChains: 0 });
      guest.repostsBuffers = false;
      guest.post(1);
      const joined = await join(context, guest);
      const pages = [2, 0, 1].map((place) => ({ place, block: guest.memory.allocate(PAGE_BYTES) }));
      for (const { place, block } of pages)
        domain.map(block.gpa, PAGE_BYTES, IOTLB_PERM.write, APART + BigInt(place * PAGE_BYTES));
      const inOrder = [...pages].sort((a, b) => a.place - b.place).map(({ block }) => block);
      guest.postAs([{ address: APART, length: 3 * PAGE_BYTES }], inOrder);
      // Nothing makes a device fill a buffer: what it leaves over goes here.
      guest.post(8);
      const data = noise(3 * PAGE_BYTES - HEADER_BYTES);
      joined.host.write(data);
      context.expect.sameBytes(await joined.guest.read(data.length), data, "the guest finds them in order");
    },
  },
  {
    id: "translation.invalidate",
    title: "after an INVALIDATE the old mapping is used no more",
    rule: INVALIDATE,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain, send } = await translatedGuest(context);
      const joined = await join(context, guest);
      for (let round = 0; round < 3; round++) {
        const page = guest.memory.allocate(PAGE_BYTES);
        await send(joined, page, domain.map(page.gpa, PAGE_BYTES, IOTLB_PERM.read, APART));
        domain.unmap(APART, PAGE_BYTES);
      }
    },
  },
  {
    id: "translation.invalidate-receive",
    title: "after an INVALIDATE a receive buffer's old page is not written any more",
    rule: INVALIDATE,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain } = await translatedGuest(context, { receiveChains: 0 });
      guest.repostsBuffers = false;
      guest.post(1);
      const joined = await join(context, guest);
      const [old, fresh] = [guest.memory.allocate(PAGE_BYTES), guest.memory.allocate(PAGE_BYTES)];
      domain.map(old.gpa, PAGE_BYTES, IOTLB_PERM.readWrite, APART);
      guest.postAs([{ address: APART, length: PAGE_BYTES }], [old]);
      const first = noise(1000);
      joined.host.write(first);
      context.expect.sameBytes(
        await joined.guest.read(1000),
        first,
        "the first page is written while it is mapped",
      );
      old.view.fill(0x5a);
      domain.unmap(APART, PAGE_BYTES);
      domain.map(fresh.gpa, PAGE_BYTES, IOTLB_PERM.readWrite, APART);
      guest.postAs([{ address: APART, length: PAGE_BYTES }], [fresh]);
      const second = noise(1000);
      joined.host.write(second);
      context.expect.sameBytes(await joined.guest.read(1000), second, "then the other page is");
      context.expect.that(
        old.view.every((byte) => byte === 0x5a),
        "the old page stays as it is",
      );
    },
  },
  {
    id: "translation.invalidate-posted",
    title: "a receive buffer that is invalidated while the device has it is not written where it was",
    rule: INVALIDATE,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain } = await translatedGuest(context, { receiveChains: 0 });
      guest.repostsBuffers = false;
      guest.post(1);
      const joined = await join(context, guest);
      const [old, fresh] = [guest.memory.allocate(PAGE_BYTES), guest.memory.allocate(PAGE_BYTES)];
      domain.map(old.gpa, PAGE_BYTES, IOTLB_PERM.readWrite, APART);
      domain.push(APART);
      guest.postAs([{ address: APART, length: PAGE_BYTES }], [fresh]);
      await context.pass(20);
      old.view.fill(0x5a);
      domain.unmap(APART, PAGE_BYTES);
      domain.map(fresh.gpa, PAGE_BYTES, IOTLB_PERM.readWrite, APART);
      const data = noise(1000);
      joined.host.write(data);
      context.expect.sameBytes(
        await joined.guest.read(1000),
        data,
        "the page that it leads to now is written",
      );
      context.expect.that(
        old.view.every((byte) => byte === 0x5a),
        "the old page stays as it is",
      );
    },
  },
  {
    id: "translation.invalidate-a-part",
    title: "an INVALIDATE of one page ends what a larger UPDATE said of it",
    rule: INVALIDATE,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain, send } = await translatedGuest(context);
      const joined = await join(context, guest);
      const block = guest.memory.allocate(16 * PAGE_BYTES);
      domain.updatePages = 16;
      domain.map(block.gpa, 16 * PAGE_BYTES, IOTLB_PERM.readWrite, APART);
      domain.push(APART);
      domain.updatePages = 1;
      const at = APART + BigInt(5 * PAGE_BYTES);
      await send(joined, guest.memory.at(block.gpa + 5 * PAGE_BYTES, PAGE_BYTES), at);
      domain.unmap(at, PAGE_BYTES);
      const other = guest.memory.allocate(PAGE_BYTES);
      await send(joined, other, domain.map(other.gpa, PAGE_BYTES, IOTLB_PERM.read, at));
      await send(joined, guest.memory.at(block.gpa + 6 * PAGE_BYTES, PAGE_BYTES), at + BigInt(PAGE_BYTES));
    },
  },
  {
    id: "translation.invalidate-everything",
    title:
      "an INVALIDATE of the whole space empties the IOTLB, rings and all, and the device goes on by asking",
    rule: INVALIDATE,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain } = await translatedGuest(context);
      const joined = await join(context, guest);
      await exchange(context, joined);
      await guest.sent();
      const before = domain.misses.length;
      const result = guest.session.iotlbInvalidate(0n, 0xffff_ffff_ffff_ffffn);
      context.expect.equal(result, 0n, "it is taken");
      guest.kickAll();
      await exchange(context, joined);
      context.expect.that(domain.misses.length > before, "the device asks again");
    },
  },
  {
    id: "translation.invalidate-rings",
    title: "rings whose pages are invalidated and mapped anew go on",
    rule: INVALIDATE,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain } = await translatedGuest(context);
      const joined = await join(context, guest);
      for (let round = 0; round < 3; round++) {
        await exchange(context, joined);
        await guest.sent();
        for (const { block } of guest.queues) {
          domain.unmap(block.bus, block.bytes);
          domain.map(block.gpa, block.bytes, IOTLB_PERM.readWrite, block.bus);
        }
        guest.kickAll();
      }
      await exchange(context, joined);
    },
  },
  {
    id: "translation.invalidated-ring-untouched",
    title: "a ring whose pages are invalidated is not touched until they are mapped again",
    rule: INVALIDATE,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain } = await translatedGuest(context);
      const joined = await join(context, guest);
      await exchange(context, joined);
      await guest.sent();
      const { block, ring, split } = guest.tx;
      const { usedIndex } = split.rings;
      domain.holds = (iova) => iova >= block.bus && iova < block.bus + BigInt(block.bytes);
      domain.unmap(block.bus, block.bytes);
      const data = noise(500);
      guest.putPacket(joined.guest, data);
      ring.publish();
      guest.tx.kick();
      await context.pass(QUIET_MS);
      context.expect.equal(split.rings.usedIndex, usedIndex, "the used index stays while nothing is mapped");
      domain.map(block.gpa, block.bytes, IOTLB_PERM.readWrite, block.bus);
      domain.answerHeld();
      guest.tx.kick();
      context.expect.sameBytes(await joined.host.read(data.length), data, "then the host gets the packet");
    },
  },
  {
    id: "translation.read-only",
    title: "a receive buffer that is mapped for reading is not written",
    rule: PERMISSIONS,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain } = await translatedGuest(context, { receiveChains: 0 });
      guest.repostsBuffers = false;
      guest.post(1);
      const joined = await join(context, guest);
      const page = guest.memory.allocate(PAGE_BYTES);
      domain.map(page.gpa, PAGE_BYTES, IOTLB_PERM.read, APART);
      domain.push(APART);
      guest.postAs([{ address: APART, length: PAGE_BYTES }], [page]);
      page.view.fill(0x5a);
      joined.host.write(noise(1000));
      await context.pass(QUIET_MS);
      context.expect.that(
        page.view.every((byte) => byte === 0x5a),
        "the page stays as it is",
      );
    },
  },
  {
    id: "translation.write-only",
    title: "a transmit buffer that is mapped for writing is not read",
    rule: PERMISSIONS,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain, put } = await translatedGuest(context);
      const joined = await join(context, guest);
      const page = guest.memory.allocate(PAGE_BYTES);
      domain.map(page.gpa, PAGE_BYTES, IOTLB_PERM.write, APART);
      domain.push(APART);
      put(joined, page, APART, noise(1000));
      await context.pass(QUIET_MS);
      context.expect.equal(joined.host.receivedBytes, 0, "nothing of it arrives at the host");
    },
  },
];
