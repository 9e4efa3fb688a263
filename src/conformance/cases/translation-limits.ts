/** Cases about translation at its edges: misses that wait, addresses that lead nowhere, the ends of the space, many pages. */
import { IOTLB_PERM } from "../../vhost/wire/index.js";
import { HEADER_BYTES, Op } from "../../vsock/header.js";
import type { ConformanceCase } from "../case.js";
import { exchange, join, noise } from "../exchange.js";
import { PAGE_BYTES } from "../io-domain.js";
import { agreed, vhostUser } from "../rules.js";
import { QUIET_MS, translatedGuest } from "../translated.js";
import { TRANSLATION_NEEDS } from "./translation.js";

const NEVER_WAITS = agreed(
  "a back-end does not wait for a MISS: the front-end answers it with an UPDATE on the main socket, which has to be served",
  "QEMU hw/virtio/vhost-backend.c vhost_backend_handle_iotlb_msg",
  "Linux drivers/vhost/vhost.c vhost_iotlb_miss",
  "DPDK lib/vhost/vhost.c __vhost_iova_to_vva",
);
const NOT_MAPPED = vhostUser(
  "Memory access",
  "guest addresses are I/O virtual addresses, translated via the IOTLB",
);
const APART = 0x77_0000_0000n;
/** More than any back-end that is known holds: DPDK's cache and ours have 2048 entries. */
const MANY_PAGES = 2500;

export const TRANSLATION_LIMIT_CASES: readonly ConformanceCase[] = [
  {
    id: "translation.held-miss",
    title: "while a MISS of one ring waits, messages are answered and the other ring goes on",
    rule: NEVER_WAITS,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain, put } = await translatedGuest(context);
      const joined = await join(context, guest);
      await exchange(context, joined);
      await guest.sent();
      const page = guest.memory.allocate(PAGE_BYTES);
      domain.map(page.gpa, PAGE_BYTES, IOTLB_PERM.read, APART);
      domain.holds = (iova) => iova - (iova % BigInt(PAGE_BYTES)) === APART;
      const toHost = noise(1000);
      put(joined, page, APART, toHost);
      await context.until(() => domain.heldCount > 0, "the device asks for the page");
      guest.session.getFeatures();
      const toGuest = noise(20_000);
      joined.host.write(toGuest);
      context.expect.sameBytes(await joined.guest.read(toGuest.length), toGuest, "the receive ring goes on");
      domain.answerHeld();
      context.expect.sameBytes(await joined.host.read(toHost.length), toHost, "then the packet is sent");
    },
  },
  {
    id: "translation.invalidate-in-flight",
    title: "an INVALIDATE between a MISS and its answer is in force: what counts is the answer",
    rule: vhostUser(
      "IOMMU support",
      "the front-end sends updates and invalidations; the back-end goes by the latest",
    ),
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain, put } = await translatedGuest(context);
      const joined = await join(context, guest);
      const [old, fresh] = [guest.memory.allocate(PAGE_BYTES), guest.memory.allocate(PAGE_BYTES)];
      domain.map(old.gpa, PAGE_BYTES, IOTLB_PERM.read, APART);
      domain.holds = (iova) => iova - (iova % BigInt(PAGE_BYTES)) === APART;
      const data = noise(1000);
      guest.write(joined.guest.headerFor(Op.RW, data.length), data, fresh);
      // The page that the address led to at first holds another packet of the same length.
      joined.guest.txCnt -= data.length;
      put(joined, old, APART, noise(1000));
      await context.until(() => domain.heldCount > 0, "the device asks for the page");
      domain.unmap(APART, PAGE_BYTES);
      domain.map(fresh.gpa, PAGE_BYTES, IOTLB_PERM.read, APART);
      domain.answerHeld();
      context.expect.sameBytes(
        await joined.host.read(data.length),
        data,
        "the host gets what the new page holds",
      );
    },
  },
  {
    id: "translation.not-mapped",
    title: "memory that is mapped for nobody is reached by none of its other addresses",
    rule: NOT_MAPPED,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain, put } = await translatedGuest(context);
      const joined = await join(context, guest);
      const page = guest.memory.allocate(PAGE_BYTES);
      domain.forget(page.bus, PAGE_BYTES);
      put(joined, page, BigInt(page.gpa), noise(1000));
      await context.pass(QUIET_MS);
      context.expect.equal(joined.host.receivedBytes, 0, "nothing comes out by its guest-physical address");
    },
  },
  {
    id: "translation.not-mapped-user-address",
    title: "memory that is mapped for nobody is not reached by the front-end's address of it",
    rule: NOT_MAPPED,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain, put } = await translatedGuest(context);
      const joined = await join(context, guest);
      const page = guest.memory.allocate(PAGE_BYTES);
      domain.forget(page.bus, PAGE_BYTES);
      put(joined, page, guest.memory.userOf(page.gpa), noise(1000));
      await context.pass(QUIET_MS);
      context.expect.equal(joined.host.receivedBytes, 0, "nothing comes out by its user address");
    },
  },
  {
    id: "translation.unanswered-miss",
    title: "a MISS that is never answered costs its ring at most: the receive ring and the session go on",
    rule: vhostUser(
      "IOMMU support",
      "the front-end sends nothing if the IOTLB miss message is invalid (invalid IOVA or permission)",
    ),
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, put } = await translatedGuest(context);
      const joined = await join(context, guest);
      await exchange(context, joined);
      await guest.sent();
      put(joined, guest.memory.allocate(PAGE_BYTES), 0x66_0000_0000n, noise(100));
      await context.pass(QUIET_MS);
      guest.session.getFeatures();
      const toGuest = noise(20_000);
      joined.host.write(toGuest);
      context.expect.sameBytes(await joined.guest.read(toGuest.length), toGuest, "the receive ring goes on");
    },
  },
  {
    id: "translation.top-of-space",
    title: "a buffer in the last page of the 64-bit space, up to its last byte, is used",
    rule: vhostUser("An IOTLB message", "iova: a 64-bit I/O virtual address programmed by the guest"),
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain } = await translatedGuest(context);
      const joined = await join(context, guest);
      const page = guest.memory.allocate(PAGE_BYTES);
      const last = 0xffff_ffff_ffff_f000n;
      domain.map(page.gpa, PAGE_BYTES, IOTLB_PERM.read, last);
      const data = noise(PAGE_BYTES - HEADER_BYTES);
      guest.write(joined.guest.headerFor(Op.RW, data.length), data, page);
      guest.offer([{ address: last, length: PAGE_BYTES }]);
      context.expect.sameBytes(await joined.host.read(data.length), data, "the host gets it");
      context.expect.equal(guest.session.iotlbInvalidate(last, 4096n), 0n, "it can be invalidated");
    },
  },
  {
    id: "translation.wrapping-buffer",
    title: "a buffer that would wrap at 2^64 is not read from the beginning of the space",
    rule: NOT_MAPPED,
    needs: TRANSLATION_NEEDS,
    async run(context) {
      const { guest, domain } = await translatedGuest(context);
      const joined = await join(context, guest);
      const page = guest.memory.allocate(2 * PAGE_BYTES);
      const last = 0xffff_ffff_ffff_f000n;
      domain.map(page.gpa, PAGE_BYTES, IOTLB_PERM.read, last);
      domain.map(page.gpa + PAGE_BYTES, PAGE_BYTES, IOTLB_PERM.read, 0n);
      domain.push(last);
      domain.push(0n);
      const data = noise(PAGE_BYTES);
      guest.write(joined.guest.headerFor(Op.RW, data.length), data, page);
      guest.offer([{ address: last, length: HEADER_BYTES + data.length }]);
      await context.pass(QUIET_MS);
      context.expect.equal(joined.host.receivedBytes, 0, "nothing of it arrives at the host");
      guest.session.getFeatures();
    },
  },
  {
    id: "translation.many-pages",
    title: `${MANY_PAGES} pages are used one after the other, and once more: a full IOTLB forgets, and asks again`,
    rule: vhostUser(
      "IOMMU support",
      "the back-end sends IOTLB miss messages for the memory areas it needs to access",
    ),
    needs: TRANSLATION_NEEDS,
    limitMs: 60_000,
    async run(context) {
      const { guest, domain } = await translatedGuest(context);
      const joined = await join(context, guest);
      const pages = Array.from({ length: 32 }, () => guest.memory.allocate(PAGE_BYTES));
      const sent = noise(2 * MANY_PAGES * 4);
      for (let i = 0; i < 2 * MANY_PAGES; i++) {
        const page = pages[i % pages.length];
        const iova = APART + BigInt((i % MANY_PAGES) * PAGE_BYTES);
        domain.map(page.gpa, PAGE_BYTES, IOTLB_PERM.read, iova);
        await guest.room();
        if (i % pages.length === 0) await guest.sent();
        const data = sent.subarray(i * 4, i * 4 + 4);
        const length = guest.write(joined.guest.headerFor(Op.RW, 4), data, page);
        guest.offer([{ address: iova, length }]);
      }
      context.expect.sameBytes(
        await joined.host.read(sent.length),
        sent,
        "the host gets all of it, in order",
      );
      await exchange(context, joined);
    },
  },
];
