/**
 * What happens to a whole guest while the device serves it: stop and continue, driver unbind and bind, reboot, memory
 * that appears while it runs. Each is a check of its own; kinds.ts says which guest gets which.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { builtinGuest } from "../../src/profiles/builtin.js";
import type { GuestProfile } from "../../src/profiles/guest-profile.js";
import { describeFeatures, F, maskOf } from "../../src/virtio/index.js";
import {
  type Check,
  echoFromGuest,
  echoFromHost,
  guestSpeaksFirst,
  hostSpeaksFirst,
  mebibyte,
  talk,
} from "./checks.js";
import { over } from "./host.js";
import { type GuestKind, slot } from "./kinds.js";
import type { Lab } from "./lab.js";
import { until, within } from "./waiting.js";

const driver = "/sys/bus/virtio/drivers/vmw_vsock_virtio_transport";
const pageBytes = 4096;

/** The name of the vsock device on the guest's virtio bus. */
export async function virtioDevice(lab: Lab): Promise<string> {
  for (const name of await lab.guest.lines("list", "/sys/bus/virtio/devices")) {
    const [id] = await lab.guest.lines("cat", `/sys/bus/virtio/devices/${name}/device`);
    // Virtio specification, 5: device ID 19 is the socket device.
    if (Number(id) === 19) return name;
  }
  throw new Error("the guest has no vsock device");
}

/** Stops the machine each time a quarter of the transfer is through, and lets it run again. */
async function interrupted(
  lab: Lab,
  transfer: (halfway: (bytes: number) => void) => Promise<void>,
  totalBytes: number,
): Promise<void> {
  let stops = 0;
  let pauses = Promise.resolve();
  const pause = async (): Promise<void> => {
    await lab.qmp.run("stop");
    // So long that what is in flight has arrived somewhere, and the host's socket has filled up or run dry.
    await sleep(200);
    await lab.qmp.run("cont");
  };
  await transfer((bytes) => {
    const due = stops < 3 && bytes >= ((stops + 1) * totalBytes) / 4;
    if (!due) return;
    stops++;
    pauses = pauses.then(pause);
  });
  await pauses;
  assert.equal(stops, 3, "the machine was stopped in mid-transfer");
}

const transferBytes = 16 * mebibyte;
const pauses = 30;

/**
 * Each byte that comes back took a kick in one direction and a notification in the other: asked for by indices, or by
 * the rings' flags where the guest has no VIRTIO_F_EVENT_IDX.
 */
async function keepsKicks(lab: Lab): Promise<void> {
  const device = await virtioDevice(lab);
  const [features] = await lab.guest.lines("cat", `/sys/bus/virtio/devices/${device}/features`);
  const isWithheld = lab.kind.withheld?.includes(F.EVENT_IDX) === true;
  assert.equal(features?.[F.EVENT_IDX], isWithheld ? "0" : "1", "VIRTIO_F_EVENT_IDX");
  const port = lab.freshPort();
  const server = await lab.guest.serve("echo-server", port);
  const socket = await lab.host.connect(port);
  for (let round = 0; round < pauses; round++) {
    const sent = Buffer.from([round]);
    const answer = once(socket, "data");
    const paused = lab.qmp.run("stop");
    socket.write(sent);
    await paused;
    await lab.qmp.run("cont");
    const [received] = (await within(answer, `the answer of round ${round}`)) as [Buffer];
    assert.deepEqual(received, sent);
  }
  socket.destroy();
  await lab.guest.kill(server);
}

/** How often threads of the device have been switched to and from, in the order of their numbers. */
function switches(lab: Lab): number[] {
  const tasks = `/proc/${lab.device.program.child.pid}/task`;
  return readdirSync(tasks).map((task) => {
    const counts = readFileSync(`${tasks}/${task}/status`, "utf8").match(/ctxt_switches:\s+\d+/g) ?? [];
    return counts.reduce((sum, line) => sum + Number(line.split(":")[1]), 0);
  });
}

/** A thread that spins is switched to again and again, and one that is woken as well. */
async function rests(lab: Lab): Promise<void> {
  const { socket, job } = await talk(lab, "host", lab.freshPort(), "last", 0);
  const part = Buffer.alloc(65536);
  const more = (error?: Error | null): void => {
    if (!error && !socket.destroyed) socket.write(part, more);
  };
  more();
  await until("data flows", () => (socket.bytesWritten > mebibyte ? true : undefined));
  await lab.qmp.run("stop");
  // Until the host's socket is full and nothing more comes: then for so many looks in a row, two seconds, or never.
  const looks = 40;
  let before = switches(lab);
  let still = 0;
  try {
    await until("the device rests", () => {
      const now = switches(lab);
      still = now.every((count, index) => count === before[index]) ? still + 1 : 0;
      before = now;
      return still === looks ? true : undefined;
    });
  } finally {
    await lab.qmp.run("cont");
  }
  const written = socket.bytesWritten;
  await until("data flows again", () => (socket.bytesWritten > written + mebibyte ? true : undefined));
  socket.destroy();
  await lab.guest.kill(job);
}

/** So the dirty log of a real VMM cannot be looked at: docs/testing.md. A QEMU that does migrate it fails this check. */
async function staysHere(lab: Lab): Promise<void> {
  await assert.rejects(lab.qmp.run("migrate", { uri: "exec:cat > /dev/null" }), /non-migratable device/);
  await echoFromHost(lab);
}

const stopCont: Check[] = [
  { name: "thirty times stop and cont around one byte lose no kick", run: keepsKicks },
  { name: "a stopped machine leaves the device at rest, however much waits for it", run: rests },
  { name: "QEMU refuses to migrate the device, and the guest goes on", run: staysHere },
  {
    name: "stop and cont while the guest sends 16 MiB lose nothing",
    run: (lab) =>
      interrupted(
        lab,
        (halfway) => guestSpeaksFirst(lab, "guest", transferBytes, 1000, halfway),
        transferBytes,
      ),
  },
  {
    name: "stop and cont while the host sends 16 MiB lose nothing",
    run: (lab) =>
      interrupted(
        lab,
        (halfway) => hostSpeaksFirst(lab, "host", transferBytes, 1000, halfway),
        transferBytes,
      ),
  },
];

async function unbindAndBind(lab: Lab): Promise<void> {
  const device = await virtioDevice(lab);
  for (let round = 0; round < 2; round++) {
    await echoFromHost(lab);
    await lab.guest.run("write", `${driver}/unbind`, device);
    await lab.guest.run("write", `${driver}/bind`, device);
    await echoFromGuest(lab);
  }
}

/** A connection that the guest no longer knows must end, at the latest when the host uses it. */
async function staleConnectionEnds(lab: Lab, restart: () => Promise<void>): Promise<void> {
  const port = lab.freshPort();
  await lab.guest.serve("echo-server", port);
  const socket = await lab.host.connect(port);
  const end = over(socket);
  socket.resume();
  await restart();
  if (!socket.destroyed) socket.write("is anybody there?");
  await end;
}

async function resetFromOutside(lab: Lab): Promise<void> {
  await staleConnectionEnds(lab, async () => {
    await lab.qmp.run("system_reset");
    await lab.alive(lab.guest.booted(2));
  });
  await echoFromHost(lab);
  await echoFromGuest(lab);
}

async function rebootFromInside(lab: Lab): Promise<void> {
  const before = lab.guest.boots;
  await staleConnectionEnds(lab, async () => {
    lab.guest.start("reboot");
    await lab.alive(lab.guest.booted(before + 1));
  });
  await echoFromHost(lab);
  await echoFromGuest(lab);
}

async function numberFrom(lab: Lab, file: string, name: string): Promise<number> {
  const line = (await lab.guest.lines("cat", file)).find((each) => each.split(/[ :]+/)[0] === name);
  return Number(line?.split(/[ :]+/)[1]);
}

/** The new memory is above 4 GiB, in the guest's Normal zone, where it takes its buffers from first. */
async function hotPlug(lab: Lab): Promise<void> {
  await echoFromHost(lab);
  const before = await numberFrom(lab, "/proc/meminfo", "MemTotal");
  const size = 256 * mebibyte;
  await lab.qmp.run("object-add", { "qom-type": "memory-backend-memfd", id: "more", size, share: true });
  await lab.qmp.run("device_add", { driver: "pc-dimm", id: "dimm", memdev: "more" });
  await until("the guest uses its new memory", async () => {
    const now = await numberFrom(lab, "/proc/meminfo", "MemTotal");
    return now * 1024 >= before * 1024 + size ? true : undefined;
  });
  const allocated = await numberFrom(lab, "/proc/vmstat", "pgalloc_normal");
  const bytes = 4 * mebibyte;
  await hostSpeaksFirst(lab, "host", bytes, bytes);
  const pages = (await numberFrom(lab, "/proc/vmstat", "pgalloc_normal")) - allocated;
  assert.ok(pages > bytes / pageBytes, `only ${pages} pages came from the new memory`);
}

async function pluggedIn(lab: Lab): Promise<true | undefined> {
  try {
    await lab.qmp.run("device_add", { driver: "vhost-user-vsock-pci", chardev: "vsock", ...slot });
    return true;
  } catch (error) {
    if (/'vsock' is in use/.test((error as Error).message)) return undefined;
    throw error;
  }
}

/** Twice: what the device kept for the first driver must be gone when the second one comes, over the same vhost-user socket. */
async function unplugAndPlug(lab: Lab): Promise<void> {
  for (let round = 0; round < 2; round++) {
    await staleConnectionEnds(lab, async () => {
      await lab.qmp.run("device_del", { id: slot.id });
      await until("the guest has let go of its device", async () => {
        const plugged = (await lab.qmp.run("qom-list", { path: "/machine/peripheral" })) as {
          name: string;
        }[];
        return plugged.some(({ name }) => name === slot.id) ? undefined : true;
      });
      // It lets go of its character device a moment later.
      await until("another device can be plugged in", () => pluggedIn(lab));
      await until("the guest's driver has the new device", async () => {
        const bound = await lab.guest.lines("list", driver);
        return bound.some((name) => /^virtio\d+$/.test(name)) || undefined;
      });
    });
    await echoFromHost(lab);
    await echoFromGuest(lab);
  }
}

/** That swiotlb=force had its effect: bounce buffers are in use while receive buffers wait in the ring. */
async function bounces(lab: Lab): Promise<void> {
  const [used] = await lab.guest.lines("cat", "/sys/kernel/debug/swiotlb/io_tlb_used");
  assert.ok(Number(used) > 0, `the guest uses ${used} bounce slots`);
}

/** Run before the list of checks, in this order. */
const eventChecks: Record<NonNullable<GuestKind["events"]>[number], Check[]> = {
  bounce: [{ name: "the guest bounces its buffers", run: bounces }],
  "hot-plug": [{ name: "memory that was plugged in while the guest runs is used for packets", run: hotPlug }],
  "unbind-bind": [{ name: "the driver is unbound and bound again, twice", run: unbindAndBind }],
  unplug: [{ name: "the device is unplugged and plugged in again, twice", run: unplugAndPlug }],
  reboot: [
    { name: "a reset of the machine ends its connections and nothing else", run: resetFromOutside },
    { name: "a reboot from inside ends its connections and nothing else", run: rebootFromInside },
  ],
  "stop-cont": stopCont,
};

export function eventsOf(kind: GuestKind): Check[] {
  return (kind.events ?? []).flatMap((event) => eventChecks[event]);
}

/** What this project's device offers and QEMU 7.2 hands on, bit 33 apart. */
const OFFERED = maskOf(F.VERSION_1, F.INDIRECT_DESC, F.EVENT_IDX);

function asText(word: bigint): string {
  return describeFeatures(word, "vsock");
}

/** A real guest acknowledged what its profile knows of the offer, and nothing else. */
function assertKnown(acknowledged: bigint, offered: bigint, { knows, requires }: GuestProfile): void {
  assert.equal(asText(acknowledged & ~knows), asText(0n), "the guest knows what its profile does not");
  assert.equal(
    asText(offered & knows & ~acknowledged),
    asText(0n),
    "the guest leaves what its profile knows",
  );
  assert.equal(
    asText(requires & ~acknowledged),
    asText(0n),
    "the guest goes without what its profile requires",
  );
}

/** The guest's acknowledged bit 33, the domain that its IOMMU group has, and the mode that the device chose. */
export async function negotiation(lab: Lab): Promise<void> {
  const { kind } = lab;
  const device = `/sys/bus/virtio/devices/${await virtioDevice(lab)}`;
  const [features] = await lab.guest.lines("cat", `${device}/features`);
  // One character a bit, bit 0 first.
  assert.equal(features?.[33], kind.accessPlatform ? "1" : "0", `VIRTIO_F_ACCESS_PLATFORM in ${features}`);
  assert.equal(features?.[34], kind.packed === true ? "1" : "0", `VIRTIO_F_RING_PACKED in ${features}`);
  const acknowledged = maskOf(...[...(features ?? "")].flatMap((digit, bit) => (digit === "1" ? [bit] : [])));
  const withheld = maskOf(...(kind.withheld ?? []));
  assert.equal(asText(acknowledged & withheld), asText(0n), "the guest has what was withheld from it");
  const isForeign = (lab.device.constructor as typeof import("./device.js").Device).isForeign;
  // What another device offers is not known.
  const offered = isForeign ? 0n : OFFERED & ~withheld;
  if (kind.profile !== undefined) assertKnown(acknowledged, offered, builtinGuest(kind.profile));
  if (kind.iommuDomain) {
    const [domain] = await lab.guest.lines("cat", `${device}/../iommu_group/type`);
    assert.equal(domain, kind.iommuDomain);
  }
  assert.ok(lab.guest.release.startsWith(`${kind.kernel}.`), `the guest runs ${lab.guest.release}`);
  if (isForeign) return;
  const mode = await until("the device logs its translation mode", () => lab.device.translationMode());
  assert.equal(mode, kind.translation);
}
