import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createEventfd, drainEventfd, signalEventfd } from "../linux/eventfd.js";
import { F, maskOf, STATUS } from "../virtio/index.js";
import { GPA_BASE, QUEUE_SIZE, type Rig, VERSION_1_AND_30, WITH_BIT_33, withRig } from "./session-rig.js";

function started(rig: Rig): void {
  rig.connect();
  rig.start(VERSION_1_AND_30, "user-rings");
}

test("a disabled ring is left untouched and goes on once it is enabled", () => {
  withRig({}, (rig) => {
    started(rig);
    rig.fe.setVringEnable(1, false);
    rig.settle();
    rig.send(1, "held");
    assert.deepEqual(rig.received(1), []);
    rig.fe.setVringEnable(1, true);
    rig.settle();
    assert.deepEqual(rig.received(1), ["held"]);
  });
});

test("without PROTOCOL_FEATURES all rings are enabled at once", () => {
  withRig({}, (rig) => {
    rig.fe.setOwner();
    rig.fe.setFeatures(maskOf(F.VERSION_1, F.EVENT_IDX));
    rig.fe.setMemTable([rig.ram.region]);
    rig.drivers[1] = rig.ram.driver(1);
    rig.fe.setUpRing({
      index: 1,
      size: QUEUE_SIZE,
      addresses: rig.ram.addresses(1, "user-rings"),
      kickFd: rig.kicks[1],
    });
    rig.settle();
    rig.send(1, "old front-end");
    assert.deepEqual(rig.received(1), ["old front-end"]);
  });
});

test("addresses that were set before bit 33 changed are void: the log and the error eventfd say so, new ones mend it", () => {
  withRig({}, (rig) => {
    rig.connect({ channel: false });
    rig.fe.addMemReg(rig.ram.region);
    rig.drivers[1] = rig.ram.driver(1);
    const errorFd = createEventfd();
    const addresses = rig.ram.addresses(1, "user-rings");
    rig.fe.setUpRing({ index: 1, size: QUEUE_SIZE, addresses, kickFd: rig.kicks[1], errorFd });
    rig.fe.setFeatures(WITH_BIT_33);
    rig.fe.setVringEnable(1, true);
    rig.settle();
    assert.match(rig.log("ring-held")[0].message, /bit 33 changed after its addresses had been set/);
    assert.ok(drainEventfd(errorFd) > 0);
    rig.fe.setVringAddr(1, addresses);
    rig.settle();
    rig.send(1, "again");
    assert.deepEqual(rig.received(1), ["again"]);
    closeSync(errorFd);
  });
});

test("a ring is not run before it has everything, in whatever order it comes", () => {
  const steps: readonly ((rig: Rig) => void)[] = [
    (rig) => rig.fe.setVringNum(1, QUEUE_SIZE),
    (rig) => rig.fe.setVringAddr(1, rig.ram.addresses(1, "user-rings")),
    (rig) => rig.fe.setVringKick(1, rig.kicks[1]),
    (rig) => rig.fe.setVringEnable(1, true),
    (rig) => rig.fe.addMemReg(rig.ram.region),
  ];
  for (let first = 0; first < steps.length; first++) {
    withRig({}, (rig) => {
      rig.connect();
      rig.fe.setFeatures(VERSION_1_AND_30);
      rig.drivers[1] = rig.ram.driver(1);
      for (let step = 0; step < steps.length; step++) {
        assert.equal(rig.device.running.size, 0);
        steps[(first + step) % steps.length](rig);
        rig.settle();
      }
      rig.send(1, "complete");
      assert.deepEqual(rig.received(1), ["complete"]);
    });
  }
});

test("a ring without a kick eventfd is handed to the device to poll", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(VERSION_1_AND_30, "user-rings", { enable: false });
    rig.fe.setVringKick(1);
    rig.fe.setVringEnable(1, true);
    rig.settle();
    assert.equal(rig.device.running.get(1)?.kickFd, -1);
  });
});

test("a kick eventfd can be replaced while the ring runs", () => {
  withRig({}, (rig) => {
    started(rig);
    rig.send(1, "one");
    const kick = createEventfd();
    rig.fe.setVringKick(1, kick);
    rig.settle();
    rig.drivers[1].add([{ address: GPA_BASE + BigInt(rig.ram.write("two")), length: 3 }], []);
    rig.drivers[1].publish();
    signalEventfd(kick);
    rig.settle();
    assert.deepEqual(rig.received(1), ["one", "two"]);
    closeSync(kick);
  });
});

test("a new call eventfd of a ring that ran is signalled once, so that no notification is lost", () => {
  withRig({}, (rig) => {
    started(rig);
    rig.fe.setVringCall(1);
    rig.send(1, "nobody is told");
    const call = createEventfd();
    rig.fe.setVringCall(1, call);
    rig.settle();
    assert.equal(drainEventfd(call), 8);
    while (rig.drivers[1].pollUsed() >= 0);
    rig.drivers[1].enableNotifications();
    rig.send(1, "this is told");
    assert.equal(drainEventfd(call), 8);
    closeSync(call);
  });
});

test("a call eventfd of a ring that never ran is left alone", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.settle();
    assert.ok(drainEventfd(rig.calls[1]) < 0);
  });
});

test("SET_VRING_ADDR of a running ring: it goes on at its position, at the new place", () => {
  withRig({}, (rig) => {
    started(rig);
    rig.send(1, "here");
    const from = rig.ram.offsetOf(1);
    const to = rig.ram.offsetOf(5);
    rig.ram.bytes.copyWithin(to, from, from + 0x10000);
    const moved = rig.ram.addresses(5, "user-rings");
    rig.fe.setVringAddr(1, moved);
    rig.settle();
    assert.deepEqual(rig.device.events.slice(-2), ["stop 1", "start 1"]);
    assert.equal(rig.fe.getVringBase(1), 1);
  });
});

test("the size and position of a running ring cannot change", () => {
  withRig({}, (rig) => {
    started(rig);
    rig.fe.needReply = true;
    assert.throws(() => rig.fe.setVringNum(1, 16), { code: "refused" });
    assert.throws(() => rig.fe.setVringBase(1, 5), { code: "refused" });
    rig.send(1, "undisturbed");
    assert.deepEqual(rig.received(1), ["undisturbed"]);
  });
});

test("sizes that are none, or larger than the option allows, are refused", () => {
  withRig({ queueSizeMax: 256 }, (rig) => {
    rig.connect();
    rig.fe.needReply = true;
    for (const size of [0, 3, 512, 65536, 0xffffffff]) {
      assert.throws(() => rig.fe.setVringNum(0, size), { code: "refused" });
    }
    rig.fe.setVringNum(0, 256);
  });
});

test("a queue that does not exist is refused, whatever the message", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.setFeatures(VERSION_1_AND_30);
    rig.fe.needReply = true;
    assert.throws(() => rig.fe.setVringNum(3, 8), { code: "refused" });
    assert.throws(() => rig.fe.setVringEnable(0xffffffff, true), { code: "refused" });
    assert.throws(() => rig.fe.setVringKick(3, rig.kicks[0]), { code: "refused" });
    assert.throws(() => rig.fe.getVringBase(3), { code: "unexpected-reply" });
    assert.equal(rig.log("message-refused").length, 4);
    assert.match(rig.log("message-refused")[0].message, /SET_VRING_NUM.*there is no queue 3/);
  });
});

test("a descriptor that is no eventfd is refused and closed", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.needReply = true;
    const file = openSync("/dev/null", "r");
    assert.throws(() => rig.fe.setVringKick(0, file), { code: "refused" });
    assert.throws(() => rig.fe.setVringCall(0, rig.ram.fd), { code: "refused" });
    closeSync(file);
  });
});

/** This process's descriptors of one kind. */
function descriptorsOf(kind: string): number[] {
  return readdirSync("/proc/self/fd")
    .map(Number)
    .filter((fd) => linkOf(fd) === kind);
}

function linkOf(fd: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    // The descriptor of the directory that was read.
    return "";
  }
}

/** The reading and the writing end. */
function openPipe(): [number, number] {
  const directory = mkdtempSync(join(tmpdir(), "bit33-pipe-"));
  const path = join(directory, "pipe");
  execFileSync("mkfifo", [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(path, constants.O_WRONLY);
  rmSync(directory, { recursive: true });
  return [reader, writer];
}

test("an anonymous inode that is no eventfd is refused: a kick through it would wake the loop without end", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.needReply = true;
    const epoll = descriptorsOf("anon_inode:[eventpoll]")[0];
    assert.throws(() => rig.fe.setVringKick(1, epoll), { code: "refused" });
    assert.throws(() => rig.fe.setVringCall(1, epoll), { code: "refused" });
    assert.match(rig.log("message-refused")[0].message, /SET_VRING_KICK.*no eventfd/);
    assert.match(rig.log("message-refused")[1].message, /SET_VRING_CALL.*neither an eventfd nor a pipe/);
  });
});

test("notifications go through a pipe as well, as User-mode Linux passes it; kicks do not", () => {
  withRig({}, (rig) => {
    started(rig);
    const [reader, writer] = openPipe();
    rig.fe.needReply = true;
    rig.fe.setVringCall(1, writer);
    assert.throws(() => rig.fe.setVringKick(1, writer), { code: "refused" });
    rig.send(1, "told through a pipe");
    const told = Buffer.alloc(64);
    assert.equal(readSync(reader, told), 16, "one for the new descriptor, one for the buffer");
    closeSync(reader);
    rig.send(1, "nobody listens");
    assert.equal(rig.received(1).length, 2);
    closeSync(writer);
  });
});

test("a broken ring is logged, its error eventfd signalled, and it runs again once it is set up anew", () => {
  withRig({}, (rig) => {
    started(rig);
    rig.drivers[1].rings.writeDescriptor(0, { address: 0n, length: 16 });
    rig.drivers[1].offer(0);
    rig.drivers[1].publish();
    signalEventfd(rig.kicks[1]);
    rig.settle();
    assert.equal(rig.log("ring-broken").length, 1);
    assert.equal(drainEventfd(rig.errors[1]), 8);
    assert.deepEqual(rig.device.events.slice(-1), ["stop 1"]);
    assert.equal(rig.fe.getStatus() & STATUS.DEVICE_NEEDS_RESET, STATUS.DEVICE_NEEDS_RESET);
    rig.fe.setVringEnable(1, false);
    rig.fe.setVringEnable(1, true);
    rig.settle();
    assert.equal(rig.device.running.size, 1, "enabling it again is not enough");
    rig.stop();
    rig.start(VERSION_1_AND_30, "user-rings", { memory: false });
    rig.send(1, "repaired");
    assert.deepEqual(rig.received(1), ["repaired"]);
    assert.equal(rig.fe.getStatus() & STATUS.DEVICE_NEEDS_RESET, 0);
  });
});

test("a ring that is broken from its first look leaves the session and the other ring alone", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(VERSION_1_AND_30, "user-rings", { enable: false });
    rig.fe.setVringAddr(0, {
      ...rig.ram.addresses(0, "user-rings"),
      desc: rig.ram.addresses(0, "user-rings").desc + 1n,
    });
    rig.fe.setVringEnable(0, true);
    rig.fe.setVringEnable(1, true);
    rig.settle();
    assert.equal(rig.log("ring-broken").length, 1);
    rig.send(1, "unharmed");
    assert.deepEqual(rig.received(1), ["unharmed"]);
  });
});

test("status 0 resets the device and keeps memory, channel and error eventfds", () => {
  withRig({}, (rig) => {
    started(rig);
    rig.fe.setStatus(0);
    rig.settle();
    assert.equal(rig.fe.getStatus(), 0);
    assert.deepEqual(rig.device.events.slice(-3), ["stop 0", "stop 1", "reset"]);
    rig.start(VERSION_1_AND_30, "user-rings", { memory: false });
    rig.send(1, "again");
    assert.deepEqual(rig.received(1), ["again"]);
  });
});

test("RESET_OWNER disables all rings", () => {
  withRig({}, (rig) => {
    started(rig);
    rig.fe.resetOwner();
    rig.settle();
    assert.equal(rig.device.running.size, 0);
  });
});

for (const dma of ["user-rings", "iova"] as const) {
  test(`SET_OWNER that comes again begins anew, as QEMU does after an unplug, addresses ${dma}`, () => {
    withRig({ iotlb: "auto" }, (rig) => {
      const features = dma === "iova" ? WITH_BIT_33 : VERSION_1_AND_30;
      const round = (text: string) => {
        rig.connect();
        rig.start(features, dma);
        rig.send(1, text, dma);
        assert.equal(rig.received(1).at(-1), text);
      };
      round("first");
      rig.stop();
      rig.fe.closeBackendChannel();
      round("second");
      // Also if the one before has not stopped its rings.
      round("third");
      assert.equal(rig.device.events.filter((event) => event === "reset").length, 2);
      assert.equal(rig.log("session-restart").length, 2);
      assert.deepEqual(rig.log("message-refused"), []);
    });
  });
}

test("a SET_FEATURES that changes bit 33 voids ring addresses", () => {
  withRig({}, (rig) => {
    started(rig);
    rig.fe.setFeatures(VERSION_1_AND_30 | maskOf(F.ACCESS_PLATFORM));
    rig.settle();
    assert.equal(rig.device.running.size, 0);
    rig.fe.setFeatures(VERSION_1_AND_30);
    rig.settle();
    assert.equal(rig.device.running.size, 0);
    rig.fe.setVringAddr(0, rig.ram.addresses(0, "user-rings"));
    rig.settle();
    assert.deepEqual([...rig.device.running.keys()], [0]);
  });
});

test("a SET_FEATURES that changes nothing leaves running rings alone", () => {
  withRig({}, (rig) => {
    started(rig);
    rig.fe.setFeatures(VERSION_1_AND_30);
    rig.settle();
    assert.equal(rig.device.running.size, 2);
    assert.ok(!rig.device.events.includes("stop 0"));
  });
});
