/** Cases that move so much through one connection that its counters, which have 32 bits, go around. */
import { Op } from "../../vsock/header.js";
import type { ConformanceCase } from "../case.js";
import { join, noise } from "../exchange.js";
import { virtio } from "../rules.js";

/** Around, and on from there. */
const BYTES = 2 ** 32 + 2 ** 24;
/** What is sent again and again: no multiple of any packet's or buffer's size. */
const PIECE_BYTES = 1_000_003;
const PACKET_BYTES = 65_536;
const HEADER_BYTES = 44;
/** A guest with room for more than one piece. */
const ROOM_BYTES = 2 ** 22;
/** Even for a back-end that gives credit by the 64 KiB. */
const LIMIT_MS = 300_000;
const RULE = virtio(
  "Socket Device, Buffer Space Management",
  "fwd_cnt and tx_cnt are free-running counters of 32 bits; free space is computed modulo 2^32",
);

export const VOLUME_CASES: readonly ConformanceCase[] = [
  {
    id: "vsock.four-gib-from-guest",
    title: "more than 4 GiB of the guest's go through one connection, beyond the end of its counters",
    rule: RULE,
    needs: { endpoints: ["uds"] },
    limitMs: LIMIT_MS,
    async run(context) {
      const { guest, host } = await join(context, await context.guest());
      const piece = noise(PIECE_BYTES);
      for (let moved = 0; moved < BYTES; moved += piece.length) {
        const writing = guest.write(piece, PACKET_BYTES);
        const received = await host.read(piece.length);
        await writing;
        context.expect.sameBytes(received, piece, `the bytes from ${moved} on arrive as they were sent`);
      }
      // Once more, as the counters are small again.
      context.expect.that(guest.txCnt < 2 ** 26, "the counter has gone around", `${guest.txCnt}`);
    },
  },
  {
    id: "vsock.four-gib-from-host",
    title: "more than 4 GiB of the host's go through one connection, beyond the end of its counters",
    rule: RULE,
    needs: { endpoints: ["uds"] },
    limitMs: LIMIT_MS,
    async run(context) {
      const rawGuest = await context.guest({ receiveSizes: [HEADER_BYTES + PACKET_BYTES] });
      const { guest, host } = await join(context, rawGuest);
      guest.bufAlloc = ROOM_BYTES;
      guest.send(Op.CREDIT_UPDATE);
      const piece = noise(PIECE_BYTES);
      for (let moved = 0; moved < BYTES; moved += piece.length) {
        host.write(piece);
        const received = await guest.read(piece.length);
        context.expect.sameBytes(received, piece, `the bytes from ${moved} on arrive as they were sent`);
      }
      context.expect.that(guest.rxCnt < 2 ** 26, "the counter has gone around", `${guest.rxCnt}`);
    },
  },
];
