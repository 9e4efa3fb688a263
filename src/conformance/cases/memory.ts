/** Cases about guest memory: tables, slots, regions that come and go, and buffers that lie across them. */
import type { ConformanceCase, Needs } from "../case.js";
import { assertWorks, exchange, join, noise } from "../exchange.js";
import { vhostUser } from "../rules.js";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const PAGE = 4096;
const UDS: Needs = { endpoints: ["uds"] };
const SLOTS: Needs = { protocolFeatures: ["CONFIGURE_MEM_SLOTS", "REPLY_ACK"], endpoints: ["uds"] };

const REGIONS = "Memory regions description";
const ACCESS = vhostUser(
  "Memory access",
  "guest addresses map to the vhost memory region containing that address",
);
const ADD_MEM_REG = "Front-end message types, VHOST_USER_ADD_MEM_REG";
const REM_MEM_REG = "Front-end message types, VHOST_USER_REM_MEM_REG";

/** Rings and buffers come from the last slot; the one before is what comes later. */
const HOT_PLUG = [
  { gpa: 4 * GIB, bytes: MIB },
  { gpa: 0, bytes: 32 * MIB },
];

export const MEMORY_CASES: readonly ConformanceCase[] = [
  {
    id: "memory.two-regions",
    title: "memory of two regions with a gap between them is used on both sides of the gap",
    rule: vhostUser(
      REGIONS,
      "each region has a guest address, a size, a user address and an offset into its file",
    ),
    needs: UDS,
    async run(context) {
      const slots = [
        { gpa: 0, bytes: MIB },
        { gpa: 4 * GIB, bytes: 32 * MIB },
      ];
      const guest = await context.guest({ slots });
      const joined = await join(context, guest);
      await exchange(context, joined);
      // What the guest has on the other side of the gap, sent from there.
      const data = noise(5000);
      await guest.sendFrom(guest.memory.at(8 * PAGE, 44 + data.length), joined.guest, data);
      context.expect.sameBytes(await joined.host.read(data.length), data, "the host gets it");
    },
  },
  {
    id: "memory.eight-regions",
    title: "a memory table of eight regions is taken, and all of them are used",
    rule: vhostUser(REGIONS, "region0 … region7"),
    needs: UDS,
    async run(context) {
      const slots = Array.from({ length: 8 }, (_, i) => ({
        gpa: i * GIB,
        bytes: i === 7 ? 32 * MIB : 4 * MIB,
      }));
      const guest = await context.guest({ slots });
      const joined = await join(context, guest);
      for (const { gpa } of slots) {
        const data = noise(300);
        await guest.sendFrom(guest.memory.at(gpa + 2 * MIB, 44 + data.length), joined.guest, data);
        context.expect.sameBytes(
          await joined.host.read(data.length),
          data,
          `memory at ${gpa / GIB} GiB is used`,
        );
      }
    },
  },
  {
    id: "memory.buffer-over-two-regions",
    title: "a transmit buffer that begins in one region and ends in the next is read as a whole",
    rule: ACCESS,
    needs: UDS,
    async run(context) {
      const slots = [
        { gpa: 0, bytes: MIB },
        { gpa: MIB, bytes: 32 * MIB },
      ];
      const guest = await context.guest({ slots });
      const joined = await join(context, guest);
      const data = noise(6000);
      await guest.sendFrom(guest.memory.at(MIB - 3000, 44 + data.length), joined.guest, data);
      context.expect.sameBytes(await joined.host.read(data.length), data, "the host gets all of it");
    },
  },
  {
    id: "memory.receive-over-two-regions",
    title: "a receive buffer that begins in one region and ends in the next is written as a whole",
    rule: ACCESS,
    needs: UDS,
    async run(context) {
      const slots = [
        { gpa: 0, bytes: MIB },
        { gpa: MIB, bytes: 32 * MIB },
      ];
      const guest = await context.guest({ slots, receiveChains: 0 });
      guest.repostsBuffers = false;
      const spare = (): void => guest.postAt(guest.memory.at(PAGE + guest.rx.ring.inFlight * PAGE, PAGE));
      spare();
      const { guest: connection, host } = await join(context, guest);
      guest.postAt(guest.memory.at(MIB - 2000, PAGE));
      const data = noise(3900);
      host.write(data);
      context.expect.sameBytes(await connection.read(data.length), data, "the guest gets all of it");
    },
  },
  {
    id: "memory.large-region",
    title: "a region of several gigabytes is used at its far end",
    rule: vhostUser(REGIONS, "size: a 64-bit size; guest address: a 64-bit guest address"),
    needs: UDS,
    async run(context) {
      const bytes = 6 * GIB;
      const base = 256 * GIB;
      const slots = [
        { gpa: 0, bytes: 32 * MIB },
        { gpa: base, bytes },
      ];
      const guest = await context.guest({ slots });
      const joined = await join(context, guest);
      const data = noise(5000);
      await guest.sendFrom(guest.memory.at(base + bytes - 2 * PAGE, 44 + data.length), joined.guest, data);
      context.expect.sameBytes(await joined.host.read(data.length), data, "the host gets it");
      const last = noise(100);
      await guest.sendFrom(guest.memory.at(base + bytes - 144, 144), joined.guest, last);
      context.expect.sameBytes(await joined.host.read(last.length), last, "up to the very last byte");
    },
  },
  {
    id: "memory.table-replaced",
    title: "a memory table that replaces another while rings run is in force from then on",
    rule: vhostUser(
      "Ring states",
      "while processing the rings, the back-end must support changing some configuration aspects on the fly",
    ),
    needs: UDS,
    async run(context) {
      const guest = await context.guest({ slots: HOT_PLUG, isStopped: true });
      const [hot, cold] = guest.memory.regions();
      guest.startWith(() => guest.session.setMemTable([cold]));
      const joined = await join(context, guest);
      await exchange(context, joined);
      await guest.sent();
      guest.session.setMemTable([cold, hot]);
      // GET_FEATURES is answered behind it.
      guest.session.getFeatures();
      const data = noise(3000);
      await guest.sendFrom(guest.memory.at(HOT_PLUG[0].gpa, 44 + data.length), joined.guest, data);
      context.expect.sameBytes(
        await joined.host.read(data.length),
        data,
        "what is in the new region is sent",
      );
      await exchange(context, joined);
    },
  },
  {
    id: "memory.slots",
    title: "memory that comes region by region works like a table of them",
    rule: vhostUser(ADD_MEM_REG, "used to set and update the memory tables of the back-end device"),
    needs: SLOTS,
    async run(context) {
      const slots = [
        { gpa: 0, bytes: MIB },
        { gpa: 4 * GIB, bytes: 32 * MIB },
      ];
      await assertWorks(context, await context.guest({ slots, memoryBy: "slots" }));
    },
  },
  {
    id: "memory.slots-count",
    title: "as many regions as GET_MAX_MEM_SLOTS says can be added",
    rule: vhostUser(
      "Front-end message types, VHOST_USER_GET_MAX_MEM_SLOTS",
      "the reply holds the maximum number of memory slots for QEMU to expose to the guest",
    ),
    needs: SLOTS,
    async run(context) {
      const guest = await context.guest({ memoryBy: "slots", isStopped: true });
      const slots = guest.session.getMaxMemSlots();
      context.expect.that(slots >= 1, "there is a slot", `${slots}`);
      const [region] = guest.memory.regions();
      guest.session.needReply = true;
      const tried = Math.min(slots, 600);
      for (let i = 1; i < tried; i++) {
        const apart = BigInt(i) * BigInt(GIB);
        guest.session.addMemReg({
          ...region,
          guestAddress: region.guestAddress + apart,
          userAddress: region.userAddress + apart,
          size: BigInt(PAGE),
        });
      }
      guest.start();
      await assertWorks(context, guest);
    },
  },
  {
    id: "memory.hot-plug",
    title: "a region that is added while rings run is used",
    rule: vhostUser(ADD_MEM_REG, "a region of guest memory which the back-end device must map in"),
    needs: SLOTS,
    async run(context) {
      const guest = await context.guest({ slots: HOT_PLUG, memoryBy: "slots", isStopped: true });
      const [hot, cold] = guest.memory.regions();
      guest.startWith(() => guest.session.addMemReg(cold));
      const joined = await join(context, guest);
      await exchange(context, joined);
      guest.session.needReply = true;
      guest.session.addMemReg(hot);
      const data = noise(3000);
      await guest.sendFrom(guest.memory.at(HOT_PLUG[0].gpa, 44 + data.length), joined.guest, data);
      context.expect.sameBytes(
        await joined.host.read(data.length),
        data,
        "what is in the new region is sent",
      );
    },
  },
  {
    id: "memory.hot-unplug",
    title: "when a region is removed, the rest goes on, connections and all",
    rule: vhostUser(REM_MEM_REG, "a region of guest memory which the back-end device must unmap"),
    needs: SLOTS,
    async run(context) {
      const guest = await context.guest({ slots: HOT_PLUG, memoryBy: "slots" });
      const joined = await join(context, guest);
      await exchange(context, joined);
      await guest.sent();
      guest.session.needReply = true;
      guest.session.remMemReg(guest.memory.regions()[0]);
      await exchange(context, joined);
    },
  },
  {
    id: "memory.region-changed",
    title: "a region that is removed and added with other memory behind it leads to that memory",
    rule: vhostUser(
      REM_MEM_REG,
      "identified by its guest address, user address and size; the mmap offset is ignored",
    ),
    needs: SLOTS,
    async run(context) {
      const guest = await context.guest({
        slots: [HOT_PLUG[0], { gpa: 8 * GIB, bytes: MIB }, HOT_PLUG[1]],
        memoryBy: "slots",
      });
      const joined = await join(context, guest);
      const [hot, other] = guest.memory.regions();
      const { session, memory } = guest;
      const before = noise(2000);
      await guest.sendFrom(memory.at(HOT_PLUG[0].gpa, 44 + before.length), joined.guest, before);
      context.expect.sameBytes(await joined.host.read(before.length), before, "the first memory is read");
      await guest.sent();
      session.needReply = true;
      session.remMemReg(hot);
      session.remMemReg(other);
      session.addMemReg({ ...hot, mmapOffset: other.mmapOffset });
      // The same guest-physical place, whose memory we see at another.
      const after = noise(2000);
      const behind = memory.at(8 * GIB, 44 + after.length);
      await guest.sendFrom({ ...behind, bus: BigInt(HOT_PLUG[0].gpa) }, joined.guest, after);
      context.expect.sameBytes(
        await joined.host.read(after.length),
        after,
        "the new memory is read, not the old",
      );
    },
  },
  {
    id: "memory.remove-unknown",
    title: "removing a region that is not there is refused",
    rule: vhostUser(REM_MEM_REG, "identified by its guest address, user address and size"),
    needs: SLOTS,
    async run(context) {
      const guest = await context.guest({ memoryBy: "slots", isStopped: true });
      guest.shareMemory();
      const [region] = guest.memory.regions();
      const { session } = guest;
      session.needReply = true;
      const other = { ...region, guestAddress: region.guestAddress + 64n * BigInt(GIB) };
      context.expect.refused(
        () => session.remMemReg(other),
        "REM_MEM_REG of a region that was never added is refused",
      );
      await context.assertNextWorks(session);
    },
  },
];
