/** Every lint, provoked by a session, and silent in the same session done right. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { TABLE_SESSION, VIOMMU_SESSION } from "../../vhost/wire/qemu-session.fixture.js";
import { F, maskOf, PROTOCOL_F } from "../../virtio/index.js";
import { MS, START_NS } from "../frames.fixture.js";
import { InspectedSession } from "../session.js";
import { LINTS } from "./index.js";
import { isAtLeast } from "./lint.js";
import { config, queues, type Saying, SECOND, SESSIONS } from "./sessions.fixture.js";
import { DESC, PROTOCOL, REGION, TAKEN, TAKEN_33, Talk } from "./talk.fixture.js";

function foundIn(saying: Saying): string[] {
  const talk = new Talk();
  saying(talk);
  return talk.end().map(({ lint }) => lint);
}

describe("each lint", () => {
  for (const [id, { wrong, right }] of Object.entries(SESSIONS)) {
    it(`${id} is found where it is, and not where it is not`, () => {
      assert.ok(foundIn(wrong).includes(id), `not found in ${foundIn(wrong).join(", ") || "nothing"}`);
      assert.ok(!foundIn(right).includes(id), "found in the session that is right");
    });
  }

  it("has a rule, a reason and an advice, in sentences", () => {
    assert.ok(Object.keys(LINTS).length >= 30);
    for (const [id, { title, rule, why, todo }] of Object.entries(LINTS)) {
      assert.match(id, /^[a-z0-9]+(-[a-z0-9]+)+$/);
      assert.ok(!title.endsWith("."), id);
      assert.ok(rule.length > 5, id);
      for (const text of [why, todo]) assert.match(text, /^[A-Z`].*\.$/s, `${id}: ${text}`);
    }
  });
});

describe("sessions that are right", () => {
  const findings = (saying: Saying): string[] => {
    const talk = new Talk();
    saying(talk);
    return talk
      .end()
      .filter(({ severity }) => isAtLeast(severity, "warning"))
      .map(({ lint, text }) => `${lint}: ${text}`);
  };

  it("have no findings, with translation and without, restarted and resumed", () => {
    assert.deepEqual(
      findings((t) => t.run().stopRing(0, 5).ring(0, DESC, 5).wait(20)),
      [],
    );
    assert.deepEqual(
      findings((t) => {
        t.runTranslated().miss(0x5000n).update(0x5000n);
        t.say(t.make.answer("IOTLB_MSG"));
        t.invalidate(0x5000n, 0x1000n).wait(20);
      }),
      [],
    );
  });

  it("have no findings where a second owner gives its memory again", () => {
    const found = findings((t) => {
      t.begin().features().region("ADD_MEM_REG", REGION).ring().stopRing();
      t.begin().features().region("ADD_MEM_REG", REGION).ring().wait(20);
    });
    assert.deepEqual(found, []);
  });

  it("have no findings where the device is another one: its own messages and configuration go by", () => {
    const net = maskOf(
      0,
      5,
      15,
      16,
      17,
      22,
      F.EVENT_IDX,
      F.PROTOCOL_FEATURES,
      F.VERSION_1,
      F.ACCESS_PLATFORM,
    );
    const more = maskOf(PROTOCOL_F.MTU, PROTOCOL_F.RARP, PROTOCOL_F.CRYPTO_SESSION, PROTOCOL_F.SHMEM);
    assert.deepEqual(
      findings((t) => {
        t.begin(net, PROTOCOL | more)
          .features(net & ~maskOf(F.ACCESS_PLATFORM))
          .memory(REGION);
        queues(t, 2n);
        // Queue pairs are counted here: two of them and a control queue.
        for (let index = 0; index < 5; index++) t.ring(index);
        t.say(t.make.request("NET_SET_MTU", { kind: "u64", value: 9000n }));
        t.say(t.make.request("SEND_RARP", { kind: "u64", value: 0x525400123456n }));
        t.say(t.make.request("GET_CONFIG", config(256, 0)));
        t.say(t.make.reply("GET_CONFIG", config(256, 0)));
        const opaque = { kind: "opaque", bytes: new Uint8Array(1000) } as const;
        t.say(t.make.request("CREATE_CRYPTO_SESSION", opaque));
        t.say(t.make.reply("CREATE_CRYPTO_SESSION", opaque));
        t.say(t.make.request("GET_SHMEM_CONFIG"));
        t.say(t.make.reply("GET_SHMEM_CONFIG", { kind: "shmemConfig", regionCount: 1, sizes: [0x1000n] }));
        t.wait(20);
      }),
      [],
    );
  });

  for (const [name, recorded] of Object.entries({ VIOMMU_SESSION, TABLE_SESSION })) {
    it(`have no findings: QEMU 7.2 as recorded, ${name}`, () => {
      assert.deepEqual(
        findings((t) => {
          for (const message of recorded) t.say(t.make.recorded(message));
        }),
        [],
      );
    });
  }

  it("that are seen from their middle on are not judged by what was not seen", () => {
    assert.deepEqual(
      findings((t) => {
        t.say(
          t.make.request("SET_VRING_ENABLE", { kind: "vringState", index: 0, num: 1 }, { needReply: true }),
        );
        t.say(t.make.ack("SET_VRING_ENABLE"));
        t.bell("SET_VRING_KICK", 0).update();
        t.region("REM_MEM_REG", SECOND);
      }),
      [],
    );
  });

  it("are not judged by the time that passed while a part of them was missed", () => {
    const session = new InspectedSession({ session: 1, timeNs: START_NS, transport: "vhost-user" });
    const talk = new Talk();
    session.frame(talk.make.request("GET_FEATURES"));
    session.remark({ timeNs: START_NS + MS, text: "a part was lost", isGap: true });
    assert.deepEqual(session.passTime(START_NS + 60_000n * MS), []);
  });
});

describe("a finding", () => {
  it("is reported once for each thing, and counted", () => {
    const talk = new Talk();
    talk
      .begin()
      .features(TAKEN | maskOf(F.IN_ORDER, F.ORDER_PLATFORM))
      .features(TAKEN | maskOf(F.IN_ORDER));
    const found = talk.session.findings.filter(({ lint }) => lint === "feature-not-offered");
    assert.deepEqual(
      found.map(({ text, count }) => [text, count]),
      [
        ["SET_FEATURES acknowledges IN_ORDER (35), which GET_FEATURES did not offer", 2],
        ["SET_FEATURES acknowledges ORDER_PLATFORM (36), which GET_FEATURES did not offer", 1],
      ],
    );
  });

  it("is made of each sender's packets once, and the others counted", () => {
    const talk = new Talk();
    talk.run();
    for (const direction of ["to-device", "to-device", "to-guest"] as const)
      talk.packet(direction, { op: 9 });
    const found = talk.session.findings.filter(({ lint }) => lint === "vsock-packet-op");
    assert.deepEqual(
      found.map(({ text, count }) => [text, count]),
      [
        ["the guest sends 3:1024 -> 2:5000 STREAM op 9 len=0 buf_alloc=0 fwd_cnt=0: operation 9 is none", 2],
        ["the device sends 2:5000 -> 3:1024 STREAM op 9 len=0 buf_alloc=0 fwd_cnt=0: operation 9 is none", 1],
      ],
    );
  });

  it("is made of bit 33 without an IOTLB at once if the back-end leaves over it", () => {
    const left = (by: "back-end" | "front-end"): boolean => {
      const talk = new Talk();
      talk.begin().channel().features(TAKEN_33).memory(REGION).ring();
      return talk.end(by).some(({ lint }) => lint === "bit33-without-iotlb");
    };
    assert.equal(left("back-end"), true);
    assert.equal(left("front-end"), false);
  });

  it("names the message that shows it, or the time at which something was due", () => {
    const talk = new Talk();
    talk.begin().channel().features(TAKEN_33).memory(REGION).ring();
    const startedNs = talk.make.nowNs;
    talk.wait(5);
    const [silence] = talk.session.findings.filter(({ lint }) => lint === "bit33-without-iotlb");
    assert.equal(silence.shownBy, undefined);
    assert.equal(silence.timeNs, startedNs + 1000n * MS);
    assert.match(silence.text, /rings run at user addresses, and no IOTLB message came in 1000 ms/);
  });
});
