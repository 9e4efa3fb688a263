import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { PACKET_OVERHEAD_BYTES, ReceiveCredit, SendCredit } from "./credit.js";

const MASK = 0xffff_ffffn;
const PACKET_BYTES = 3732;
/** What some Linux kernels add to each packet: SKB_TRUESIZE(0) on x86-64. */
const LINUX_OVERHEAD_BYTES = 576;

function afterSending(bytes: number): SendCredit {
  const credit = new SendCredit();
  credit.sent = bytes >>> 0;
  credit.update(0, bytes >>> 0);
  return credit;
}

describe("credit to send", () => {
  it("is none until the peer has told of its buffer", () => {
    assert.equal(new SendCredit().available(PACKET_BYTES), 0);
  });

  it("never exceeds peer_buf_alloc - (tx_cnt - peer_fwd_cnt), also across the wrap of its counters", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 0xffff_ffff }),
        fc.integer({ min: 0, max: 2 ** 20 }),
        fc.array(
          fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true })),
        ),
        (start, bufAlloc, steps) => {
          const credit = afterSending(start);
          let sent = BigInt(start);
          let consumed = sent;
          credit.update(bufAlloc, start);
          for (const [sendShare, consumeShare] of steps) {
            const free = BigInt(bufAlloc) - (sent - consumed);
            const available = credit.available(PACKET_BYTES);
            assert.ok(available >= 0 && BigInt(available) <= free);
            const bytes = Math.min(PACKET_BYTES, Math.ceil(available * sendShare));
            if (bytes > 0) credit.spend(bytes);
            sent += BigInt(bytes);
            consumed += BigInt(Math.floor(Number(sent - consumed) * consumeShare));
            credit.update(bufAlloc, Number(consumed & MASK));
            assert.equal(BigInt(credit.unconsumed), sent - consumed);
          }
        },
      ),
    );
  });

  it("is all there again once everything is consumed", () => {
    const credit = afterSending(0xffff_fff0);
    credit.update(262_144, 0xffff_fff0);
    const whole = credit.available(PACKET_BYTES);
    for (let index = 0; index < 30; index++) credit.spend(1000);
    assert.ok(credit.available(PACKET_BYTES) < whole);
    credit.update(262_144, (0xffff_fff0 + 30_000) >>> 0);
    assert.equal(credit.available(PACKET_BYTES), whole);
  });

  it("stops, and comes back, when the peer lies about what it consumed", () => {
    const credit = new SendCredit();
    credit.update(1000, 1);
    assert.equal(credit.available(PACKET_BYTES), 0);
    credit.update(0xffff_ffff, 0x8000_0000);
    assert.ok(credit.available(PACKET_BYTES) <= 0x8000_0000);
    credit.update(1000, 0);
    assert.ok(credit.available(PACKET_BYTES) > 0);
  });

  it("stops when the peer shrinks its buffer below what is outstanding", () => {
    const credit = new SendCredit();
    credit.update(262_144, 0);
    credit.spend(100_000);
    credit.update(50_000, 0);
    assert.equal(credit.available(PACKET_BYTES), 0);
  });

  it("lets one packet through to a buffer smaller than its overhead", () => {
    const credit = new SendCredit();
    credit.update(PACKET_OVERHEAD_BYTES / 2, 0);
    assert.equal(credit.available(100), 100);
    credit.spend(100);
    assert.equal(credit.available(100), 0);
    credit.update(PACKET_OVERHEAD_BYTES / 2, 100);
    assert.equal(credit.available(100), 100);
  });
});

/** How a Linux receiver counts and when it tells (virtio_transport_common.c). */
class LinuxReceiver {
  readonly queue: number[] = [];
  unread = 0;
  forwarded = 0;
  #lastTold = 0;
  constructor(
    readonly bufAlloc: number,
    /** Linux from 6.8 tells when its queue runs empty; before, only what `asked` makes it say. */
    readonly tellsWhenEmpty: boolean,
  ) {}

  receive(bytes: number): void {
    this.queue.push(bytes);
    this.unread += bytes;
    const weight = this.unread + this.queue.length * LINUX_OVERHEAD_BYTES;
    assert.ok(
      weight <= this.bufAlloc,
      `${this.queue.length} packets of ${this.unread} bytes: reset with ENOBUFS`,
    );
  }

  /** The application takes a packet; whether an update follows by itself. */
  consume(): boolean {
    const bytes = this.queue.shift() ?? 0;
    this.unread -= bytes;
    this.forwarded = (this.forwarded + bytes) >>> 0;
    const untold = (this.forwarded - this.#lastTold) >>> 0;
    return untold > 0 && (this.bufAlloc - untold < 65_536 || (this.tellsWhenEmpty && this.unread === 0));
  }

  tell(credit: SendCredit): void {
    this.#lastTold = this.forwarded;
    credit.update(this.bufAlloc, this.forwarded);
  }
}

describe("credit to send towards a Linux guest", () => {
  for (const tellsWhenEmpty of [true, false]) {
    it(`never overruns it and never waits for ever if it ${tellsWhenEmpty ? "tells" : "must be asked"} when its queue is empty`, () => {
      fc.assert(
        fc.property(
          fc.integer({ min: 4096, max: 262_144 }),
          fc.array(fc.tuple(fc.integer({ min: 1, max: 300_000 }), fc.integer({ min: 0, max: 80 })), {
            minLength: 1,
            maxLength: 60,
          }),
          (bufAlloc, steps) => {
            const credit = new SendCredit();
            const guest = new LinuxReceiver(bufAlloc, tellsWhenEmpty);
            guest.tell(credit);
            const send = (wanted: number): void => {
              // One read of the host socket, cut into packets.
              let left = Math.min(wanted, credit.available(PACKET_BYTES));
              while (left > 0) {
                const bytes = Math.min(left, PACKET_BYTES);
                credit.spend(bytes);
                guest.receive(bytes);
                left -= bytes;
              }
            };
            for (const [wanted, consumed] of steps) {
              send(wanted);
              for (let index = 0; index < consumed && guest.queue.length > 0; index++) {
                if (guest.consume()) guest.tell(credit);
              }
            }
            while (guest.queue.length > 0) if (guest.consume()) guest.tell(credit);
            if (!tellsWhenEmpty && credit.available(PACKET_BYTES) === 0) guest.tell(credit);
            assert.ok(credit.available(PACKET_BYTES) > 0, "nothing is unread, and nothing may be sent");
          },
        ),
      );
    });
  }

  it("needs no asking for a stream of full packets to a guest that tells only when most of its buffer is used", () => {
    const credit = new SendCredit();
    const guest = new LinuxReceiver(262_144, false);
    guest.tell(credit);
    for (let round = 0; round < 1000; round++) {
      let told = false;
      for (let left = credit.available(PACKET_BYTES); left > 0; left -= PACKET_BYTES) {
        const bytes = Math.min(left, PACKET_BYTES);
        credit.spend(bytes);
        guest.receive(bytes);
      }
      while (guest.queue.length > 0) {
        if (!guest.consume()) continue;
        guest.tell(credit);
        told = true;
      }
      assert.ok(told, `round ${round}: the guest has read everything, and says nothing`);
    }
  });
});

describe("credit to receive", () => {
  it("takes what fits into the buffer and refuses one byte more, also across the wrap of its counters", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2 ** 20 }),
        fc.array(fc.tuple(fc.integer({ min: 0, max: 2 ** 20 }), fc.double({ min: 0, max: 1, noNaN: true }))),
        (bufAlloc, steps) => {
          const credit = new ReceiveCredit(bufAlloc);
          let received = 0n;
          let forwarded = 0n;
          // To just before the wrap: the counters of a connection that has lived long.
          for (let left = 2 ** 32 - 2 ** 19; left > 0; ) {
            const bytes = Math.min(left, bufAlloc, 2 ** 20);
            if (bytes < 2 ** 16) break;
            assert.ok(credit.receive(bytes));
            credit.forward(bytes);
            received += BigInt(bytes);
            forwarded += BigInt(bytes);
            left -= bytes;
          }
          for (const [bytes, share] of steps) {
            const fits = received - forwarded + BigInt(bytes) <= BigInt(bufAlloc);
            assert.equal(credit.receive(bytes), fits);
            if (fits) received += BigInt(bytes);
            const freed = Math.floor(Number(received - forwarded) * share);
            credit.forward(freed);
            forwarded += BigInt(freed);
            assert.equal(credit.forwarded, Number(forwarded & MASK));
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  it("is worth telling when there is news and the peer believes less than half of its window to be free", () => {
    const credit = new ReceiveCredit(1000);
    credit.receive(501);
    assert.equal(credit.shouldTell(1000), false, "nothing was freed");
    credit.forward(1);
    assert.equal(credit.shouldTell(1000), true);
    credit.told();
    assert.equal(credit.shouldTell(1000), false);
    credit.forward(400);
    assert.equal(credit.shouldTell(1000), false, "500 of what it was told are free");
    assert.equal(credit.shouldTell(600), true, "but it sends no more than 600 ahead");
  });

  it("that has grown is worth telling once the peer has less than half of what there is", () => {
    const credit = new ReceiveCredit(1000);
    credit.receive(100);
    credit.forward(100);
    credit.grow(1900);
    assert.equal(credit.shouldTell(2000), true, "900 of 1900");
    credit.told();
    assert.equal(credit.shouldTell(2000), false);
    assert.ok(credit.receive(1900));
    assert.ok(!credit.receive(1));
    credit.grow(1000);
    assert.equal(credit.bufAlloc, 1900, "what the peer may have relied on stays");
  });

  it("is whole again when what is held is forgiven", () => {
    const credit = new ReceiveCredit(1000);
    credit.receive(1000);
    credit.forgive();
    assert.equal(credit.forwarded, 1000);
    assert.ok(credit.receive(1000));
  });
});
