/**
 * Random transfers through a real switch and real sockets that are read and written in random amounts: what arrives
 * is what was sent, in both directions, and what was acknowledged arrived or the connection was reset.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Op, Shutdown } from "./header.js";
import { FakeRing, SwitchRig } from "./switch-rig.js";

const BUFFER_BYTES = 64 * 1024;

const pattern = Buffer.alloc(2 ** 20);
for (let index = 0; index < pattern.length; index++) pattern[index] = (index * 7 + (index >>> 8) * 13) & 0xff;

/** A guest's end that obeys credit as Linux does. */
class Guest {
  sent = 0;
  acknowledged = 0;
  peerBuffer = 0;
  received = Buffer.alloc(0);
  consumed = 0;
  ended = false;
  reset = false;

  constructor(readonly rig: SwitchRig) {}

  get fields() {
    return { bufAlloc: BUFFER_BYTES, fwdCnt: this.consumed };
  }

  send(wanted: number): void {
    const free = Math.min(BUFFER_BYTES, this.peerBuffer) - (this.sent - this.acknowledged);
    const bytes = Math.min(wanted, free, 65_536, pattern.length - this.sent);
    if (bytes <= 0) return;
    this.rig.guest({ op: Op.RW, ...this.fields }, pattern.subarray(this.sent, this.sent + bytes), [50, 3000]);
    this.sent += bytes;
    this.hear();
  }

  consume(share: number): void {
    const bytes = Math.floor((this.received.length - this.consumed) * share);
    if (bytes === 0) return;
    this.consumed += bytes;
    this.rig.guest({ op: Op.CREDIT_UPDATE, ...this.fields });
    this.hear();
  }

  hear(): void {
    for (const { header, payload } of this.rig.take()) {
      if (header.op === Op.RST) this.reset = true;
      else {
        this.peerBuffer = header.bufAlloc;
        this.acknowledged = header.fwdCnt;
      }
      this.received = Buffer.concat([this.received, payload]);
      assert.ok(this.received.length - this.consumed <= BUFFER_BYTES, "more than the guest's buffer");
      if (header.op === Op.SHUTDOWN && (header.flags & Shutdown.SEND) !== 0) this.ended = true;
    }
  }
}

const step = fc.record({
  guestSends: fc.constantFrom(0, 1, 44, 4000, 70_000),
  guestConsumes: fc.constantFrom(0, 0.3, 1),
  hostWrites: fc.constantFrom(0, 1, 3000, 100_000),
  hostReads: fc.constantFrom(0, 1, 5000, 200_000),
  offered: fc.constantFrom(0, 2, 500),
});

describe("a random transfer", () => {
  it("arrives whole in both directions, and then ends cleanly", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 40 }), (steps) => {
        const rig = new SwitchRig({ bufferBytes: BUFFER_BYTES }, new FakeRing(1000, [3732, 10, 1000]));
        rig.endpoints.sendBufferBytes = 8192;
        const guest = new Guest(rig);
        rig.guest({ op: Op.REQUEST, ...guest.fields });
        const [host] = rig.endpoints.accepted;
        guest.hear();
        let written = 0;
        let read = 0;
        const hostReads = (most: number) => {
          const got = most === 0 ? Buffer.alloc(0) : host.read(most);
          if (!(got instanceof Buffer)) return;
          assert.ok(got.equals(pattern.subarray(read, read + got.length)), "bytes from the guest differ");
          read += got.length;
        };
        const hostWrites = (most: number) => {
          const bytes = Math.min(most, pattern.length - written);
          if (bytes > 0) written += Math.max(0, host.write(pattern.subarray(written, written + bytes)));
        };
        for (const { guestSends, guestConsumes, hostWrites: toWrite, hostReads: toRead, offered } of steps) {
          rig.ring.offered = offered;
          hostWrites(toWrite);
          guest.send(guestSends);
          hostReads(toRead);
          rig.settle();
          guest.hear();
          guest.consume(guestConsumes);
        }
        rig.ring.offered = Number.POSITIVE_INFINITY;
        host.endWriting();
        for (let round = 0; round < 2000 && !(read === guest.sent && guest.ended); round++) {
          hostReads(200_000);
          rig.pass(1);
          guest.hear();
          guest.consume(1);
        }
        assert.equal(read, guest.sent);
        assert.ok(guest.received.equals(pattern.subarray(0, written)));
        assert.equal(guest.reset, false);
        rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.BOTH, ...guest.fields });
        guest.hear();
        assert.equal(guest.reset, true, "the clean close is answered");
        host.close();
        rig.close();
      }),
      { numRuns: 60 },
    );
  });

  it("that the guest cuts short has delivered every acknowledged byte, and what it had sent besides", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 30 }), fc.boolean(), (steps, withReset) => {
        const rig = new SwitchRig({ bufferBytes: BUFFER_BYTES });
        rig.endpoints.sendBufferBytes = 4096;
        const guest = new Guest(rig);
        rig.guest({ op: Op.REQUEST, ...guest.fields });
        const [host] = rig.endpoints.accepted;
        guest.hear();
        const got: Buffer[] = [];
        for (const { guestSends, hostReads } of steps) {
          guest.send(guestSends);
          const piece = hostReads === 0 ? 0 : host.read(hostReads);
          if (piece instanceof Buffer) got.push(piece);
          rig.settle();
          guest.hear();
        }
        if (withReset) rig.guest({ op: Op.RST });
        else rig.vsock.reset("the driver is gone");
        while (rig.vsock.connectionCount > 0) {
          got.push(host.readAll());
          rig.settle();
        }
        got.push(host.readAll());
        assert.ok(Buffer.concat(got).equals(pattern.subarray(0, guest.sent)));
        assert.ok(guest.acknowledged <= guest.sent);
        host.close();
        rig.close();
      }),
      { numRuns: 60 },
    );
  });

  it("whose host program dies ends in a reset unless it had read every byte", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 20 }), (steps) => {
        const rig = new SwitchRig({ bufferBytes: BUFFER_BYTES });
        rig.endpoints.sendBufferBytes = 4096;
        const guest = new Guest(rig);
        rig.guest({ op: Op.REQUEST, ...guest.fields });
        const [host] = rig.endpoints.accepted;
        guest.hear();
        let read = 0;
        for (const { guestSends, hostReads } of steps) {
          guest.send(guestSends);
          const piece = hostReads === 0 ? 0 : host.read(hostReads);
          if (piece instanceof Buffer) read += piece.length;
          rig.settle();
          guest.hear();
        }
        const lost = read < guest.sent;
        host.close();
        rig.settle();
        guest.hear();
        assert.equal(guest.reset, lost);
        assert.equal(rig.vsock.connectionCount, lost ? 0 : 1);
        rig.close();
      }),
      { numRuns: 60 },
    );
  });
});
