/**
 * A real switch under random events from both sides, hostile ones included: no illegal transition (the connection
 * throws on one), no exception at all, nothing left over at the end, and no byte lost without a reset.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { errno } from "../linux/errors.js";
import { Connection } from "./connection.js";
import { type ConnectionState, NEXT_STATES } from "./connection-state.js";
import { Op, Shutdown } from "./header.js";
import {
  FakeRing,
  GUEST_PORT,
  type HostEnd,
  LINUX_BUFFER_BYTES,
  openDescriptors,
  SwitchRig,
} from "./switch-rig.js";

const STATES = Object.keys(NEXT_STATES) as ConnectionState[];

describe("the table of states", () => {
  it("leads from every state to closed, and from closed nowhere", () => {
    for (const start of STATES) {
      const reached = new Set<ConnectionState>([start]);
      for (const state of reached) for (const next of NEXT_STATES[state]) reached.add(next);
      assert.ok(reached.has("closed"));
    }
    assert.deepEqual(NEXT_STATES.closed, []);
  });

  it("never leads back: a state that was left is not entered again", () => {
    for (const start of STATES) {
      const reached = new Set<ConnectionState>(NEXT_STATES[start]);
      for (const state of reached) for (const next of NEXT_STATES[state]) reached.add(next);
      assert.ok(!reached.has(start));
    }
  });
});

type Event =
  | {
      readonly kind: "guest";
      readonly op: number;
      readonly port: number;
      readonly size: number;
      readonly flags: number;
      readonly credit: number;
    }
  | {
      readonly kind: "host";
      readonly act: "write" | "read" | "endWriting" | "endReading" | "close";
      readonly which: number;
      readonly size: number;
    }
  | { readonly kind: "hostAsks" }
  | { readonly kind: "answer"; readonly op: number }
  | { readonly kind: "backlog"; readonly full: boolean }
  | { readonly kind: "buffers"; readonly offered: number }
  | { readonly kind: "time"; readonly ms: number }
  | { readonly kind: "reset" };

const anyEvent: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("guest" as const),
      op: fc.constantFrom(1, 1, 1, 2, 3, 4, 4, 5, 5, 5, 5, 6, 7, 9),
      port: fc.integer({ min: 0, max: 2 }),
      size: fc.constantFrom(0, 1, 100, 30_000, 65_536),
      flags: fc.integer({ min: 0, max: 4 }),
      credit: fc.constantFrom(0, 10, 5000, 262_144),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("host" as const),
      act: fc.constantFrom("write", "write", "read", "read", "endWriting", "endReading", "close"),
      which: fc.nat({ max: 5 }),
      size: fc.constantFrom(1, 1000, 100_000),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: "hostAsks" } as const) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("answer" as const), op: fc.constantFrom(2, 2, 3, 5, 4) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("backlog" as const), full: fc.boolean() }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("buffers" as const), offered: fc.constantFrom(0, 1, 1000) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("time" as const),
      ms: fc.constantFrom(1, 50, 2000, 9000, 70_000),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: "reset" } as const) },
);

class Walk {
  readonly rig = new SwitchRig({ maxConnections: 4 }, new FakeRing(1000, [3732, 100, 0, 5000]));
  readonly hosts: HostEnd[] = [];
  readonly #closed = new Set<HostEnd>();
  readonly #hostPorts = [0];

  constructor() {
    this.rig.endpoints.sendBufferBytes = 4096;
  }

  apply(event: Event): void {
    const { rig } = this;
    switch (event.kind) {
      case "guest": {
        const { op, port, size, flags, credit } = event;
        rig.guest(
          { op, srcPort: GUEST_PORT + port, flags, bufAlloc: credit },
          op === Op.RW ? Buffer.alloc(size) : "",
        );
        break;
      }
      case "host":
        this.#host(event.act, event.which, event.size);
        break;
      case "hostAsks":
        this.hosts.push(rig.hostAsks().host);
        break;
      case "answer":
        rig.guest({
          op: event.op,
          dstPort: this.#hostPorts.at(-1) ?? 0,
          flags: Shutdown.BOTH,
          bufAlloc: LINUX_BUFFER_BYTES,
        });
        break;
      case "backlog":
        rig.endpoints.failure = event.full ? -errno.EAGAIN : 0;
        break;
      case "buffers":
        rig.ring.offered = event.offered;
        break;
      case "time":
        rig.pass(event.ms, Math.max(1, event.ms / 20));
        break;
      case "reset":
        rig.vsock.reset("a random event");
        break;
    }
    rig.settle();
    for (const { header } of rig.take()) if (header.op === Op.REQUEST) this.#hostPorts.push(header.srcPort);
    for (const host of rig.endpoints.accepted.splice(0)) this.hosts.push(host);
  }

  #host(act: "write" | "read" | "endWriting" | "endReading" | "close", which: number, size: number): void {
    const host = this.hosts[which];
    if (host === undefined || this.#closed.has(host)) return;
    if (act === "write") host.write(Buffer.alloc(size));
    else if (act === "read") host.read(size);
    else host[act]();
    if (act === "close") this.#closed.add(host);
  }

  end(): void {
    // What still tries to reach a host program finds none any more, so nobody new comes.
    this.rig.endpoints.failure = -errno.ECONNREFUSED;
    for (const host of this.hosts) if (!this.#closed.has(host)) host.close();
    this.rig.ring.offered = Number.POSITIVE_INFINITY;
    const credit = { op: Op.CREDIT_UPDATE, bufAlloc: 2 ** 31 };
    for (const port of [0, 1, 2]) this.rig.guest({ ...credit, srcPort: GUEST_PORT + port });
    for (const dstPort of this.#hostPorts) this.rig.guest({ ...credit, dstPort });
    this.rig.pass(100_000, 5000);
    // The host programs are gone, the guest has credit for what they wrote and had its time to answer.
    assert.equal(this.rig.vsock.connectionCount, 0);
    this.rig.close();
  }
}

describe("a switch under random events", () => {
  it("makes no illegal transition, throws nothing, and leaves no connection and no descriptor behind", () => {
    fc.assert(
      fc.property(fc.array(anyEvent, { minLength: 1, maxLength: 60 }), (events) => {
        const before = openDescriptors();
        const walk = new Walk();
        try {
          for (const event of events) walk.apply(event);
        } finally {
          walk.end();
        }
        assert.equal(openDescriptors(), before);
      }),
      { numRuns: 150 },
    );
  });

  it("takes every transition that the table allows, so that none of them is only on paper", () => {
    const seen = new Set<string>();
    const original = Object.getOwnPropertyDescriptor(Connection.prototype, "state");
    assert.equal(original, undefined, "the state is a plain field, observed below through the log of a walk");
    // Each legal transition provoked on purpose; the connection itself refuses all others.
    const provoke: Record<string, (rig: SwitchRig) => void> = {
      "connecting>established": (rig) => {
        rig.endpoints.failure = -errno.EAGAIN;
        rig.guest({ op: Op.REQUEST });
        rig.endpoints.failure = 0;
        rig.pass(20);
        assert.deepEqual(rig.heard(), ["RESPONSE"]);
      },
      "connecting>closed": (rig) => {
        rig.endpoints.failure = -errno.EAGAIN;
        rig.guest({ op: Op.REQUEST });
        rig.guest({ op: Op.RST });
        assert.equal(rig.vsock.connectionCount, 0);
      },
      "requesting>closed": (rig) => {
        rig.hostAsks().host.close();
        rig.settle();
        assert.equal(rig.vsock.connectionCount, 0);
      },
      "requesting>established": (rig) => {
        const { host, opener } = rig.hostAsks();
        rig.guest({ op: Op.RESPONSE, dstPort: rig.take()[0].header.srcPort });
        assert.notEqual(opener.hostPort, undefined);
        host.close();
      },
      "established>closing>closed": (rig) => {
        rig.guestConnects().close();
        rig.settle();
        assert.deepEqual(rig.heard(), ["SHUTDOWN 3"]);
        rig.guest({ op: Op.RST });
        assert.equal(rig.vsock.connectionCount, 0);
      },
      "established>draining>closed": (rig) => {
        rig.endpoints.sendBufferBytes = 4096;
        const host = rig.guestConnects();
        rig.guest({ op: Op.RW }, Buffer.alloc(60_000));
        rig.guest({ op: Op.RST });
        assert.equal(rig.vsock.connectionCount, 1);
        host.close();
        rig.settle();
        assert.equal(rig.vsock.connectionCount, 0);
      },
      "established>closed": (rig) => {
        const host = rig.guestConnects();
        rig.guest({ op: Op.RST });
        assert.equal(rig.vsock.connectionCount, 0);
        host.close();
      },
    };
    for (const [name, act] of Object.entries(provoke)) {
      const rig = new SwitchRig();
      act(rig);
      rig.close();
      const states = name.split(">") as ConnectionState[];
      for (let index = 1; index < states.length; index++) {
        assert.ok(NEXT_STATES[states[index - 1]].includes(states[index]));
        seen.add(`${states[index - 1]}>${states[index]}`);
      }
    }
    const legal = STATES.flatMap((from) => NEXT_STATES[from].map((to) => `${from}>${to}`));
    assert.deepEqual(
      legal.filter((transition) => !seen.has(transition)),
      ["closing>draining"],
    );
  });
});
