/**
 * Toggling bit 33 once ring addresses are set: what they mean changes under them. Asked of VMM profiles whose order is
 * changed, and of the kernel's device alone.
 */
import { createPlatform } from "../../guest/platform.js";
import { EventLoop } from "../../linux/event-loop.js";
import { silentLogger } from "../../log/logger.js";
import { builtinDevice } from "../../profiles/builtin.js";
import type { DeviceProfile } from "../../profiles/device-profile.js";
import type { OrderEntry, VmmProfile } from "../../profiles/vmm-profile.js";
import type { KernelRequest } from "../../vhost/kernel/requests.js";
import { F, has, mask, maskOf } from "../../virtio/index.js";
import { UserAddresses } from "../../vmm/user-addresses.js";
import { GUEST_CID, openDevice } from "../device-end.js";
import { HostPrograms } from "../host-programs.js";
import { Witness } from "../witness.js";
import type { Disagreement } from "./disagreement.js";
import { type Line, lineOf, type Play, play, vmmWith } from "./play.js";

/** Ring addresses first, and only then the features that say what they mean. */
function addressesFirst(order: readonly OrderEntry[]): readonly OrderEntry[] {
  const rings = order.findIndex((entry) => typeof entry !== "string" && entry.includes("addr"));
  const isEarly = (entry: OrderEntry): boolean => entry === "memory" || entry === "backend-features";
  const rest = order.filter((entry, index) => index !== rings && !isEarly(entry));
  return [...order.filter(isEarly), order[rings], ...rest];
}

const late = (vmm: VmmProfile): VmmProfile =>
  vmmWith(vmm, "addresses-first", { order: addressesFirst(vmm.order) });

export const TOGGLING_33_AFTER_ADDRESSES: Disagreement = {
  id: "toggling-33-after-addresses",
  title: "SET_FEATURES that toggles bit 33 after SET_VRING_ADDR makes a newer kernel forget the addresses",
  question:
    "Turning the IOTLB on changes what ring addresses mean. Older kernels keep the addresses that they were given before; newer ones clear them. Who starts if a VMM that translates sends addresses first?",
  sources: [
    "Linux 6.12.117, drivers/vhost/vhost.c, vhost_vq_invalidate_access",
    "Linux 5.15, drivers/vhost/vhost.c, vhost_init_device_iotlb",
  ],
  reading: "5.15 starts; 6.12 has no ring addresses any more and does not.",
  expected: "only-the-older-kernel-starts",
  lesson:
    "A VMM sends SET_FEATURES before ring addresses, or sends the addresses again. Keeping the old ones is worse than not starting: they would be read in another address space. Turning the bit off again helps on neither kernel: 5.15 keeps its IOTLB, 6.12 has forgotten the rings.",
  async run() {
    const plays: Play[] = [];
    const add = async (line: Line): Promise<boolean> => {
      const played = await play(line);
      plays.push(played);
      return played.cell.verdict === "works";
    };
    const kernel = (device: string): Line => lineOf(`viommu-strict/qemu-10.0-kernel/${device}`);
    const older = kernel("linux-5.15");
    const newer = kernel("linux-6.12");
    const ours = lineOf("viommu-strict/qemu-10.0/bit33-auto");
    const inOrder = (await add(older)) && (await add(newer));
    const olderStarts = await add({ ...older, vmm: late(older.vmm) });
    const newerStarts = await add({ ...newer, vmm: late(newer.vmm) });
    const oursStarts = await add({ ...ours, vmm: late(ours.vmm) });
    const toggles = plays.every(({ words }) => has(words.sentToBackend, F.ACCESS_PLATFORM));
    const off = ["linux-5.15", "linux-6.12"].map(
      (name) => `${name}: ${startAfterTurningOff(builtinDevice(name))}`,
    );
    const [, , onOlder, onNewer, onOurs] = plays.map(({ cell }) => `${cell.verdict}, ${cell.reason}`);
    return {
      outcome: outcomeOf(olderStarts, newerStarts),
      facts: [
        `Features before ring addresses, as QEMU has it: ${inOrder ? "both kernels start" : "not both kernels start"}. Bit 33 is ${toggles ? "" : "not always "}passed on in all plays.`,
        `Ring addresses first, Linux 5.15: ${onOlder}.`,
        `Ring addresses first, Linux 6.12: ${onNewer}.`,
        `This project's device clears addresses whose meaning changes, as Linux 6.12 does; it ${oursStarts ? "starts all the same" : "does not start its rings either"}: ${onOurs}.`,
        `The other way round, bit 33 acknowledged, ring addresses set, and then SET_FEATURES without the bit: ${off.join("; ")}.`,
      ],
      cells: plays.map(({ cell }) => cell),
    };
  },
};

function outcomeOf(older: boolean, newer: boolean): string {
  if (older && newer) return "both-start";
  if (older) return "only-the-older-kernel-starts";
  return newer ? "only-the-newer-kernel-starts" : "neither-starts";
}

const RING_SIZE = 16;
const AREA_BYTES = 4096;

/** What comes of a start on a kernel's device that was told of bit 33, then of rings, then of no bit 33. */
function startAfterTurningOff(profile: DeviceProfile): string {
  const loop = new EventLoop();
  const host = new HostPrograms(loop);
  const { ram } = createPlatform({ kind: "direct" });
  const users = new UserAddresses(ram.slots);
  const watcher = new Witness({ kind: "everything" }, () => {});
  const end = openDevice({ profile, transport: "kernel", loop, host, watcher, log: silentLogger });
  const area = (): bigint => BigInt(users.ofGpa(ram.allocate(AREA_BYTES).gpa));
  const ring = (index: number): readonly KernelRequest[] => [
    { name: "VHOST_SET_VRING_NUM", index, num: RING_SIZE },
    { name: "VHOST_SET_VRING_BASE", index, num: 0 },
    {
      name: "VHOST_SET_VRING_ADDR",
      index,
      addresses: { desc: area(), avail: area(), used: area() },
      log: 0n,
    },
  ];
  const regions = users
    .regions(ram.fd)
    .map(({ mmapOffset, ...region }) => ({ ...region, fileOffset: mmapOffset }));
  const requests: readonly KernelRequest[] = [
    { name: "VHOST_SET_OWNER" },
    { name: "VHOST_SET_FEATURES", features: maskOf(F.VERSION_1, F.ACCESS_PLATFORM) },
    { name: "VHOST_SET_MEM_TABLE", regions },
    ...ring(0),
    ...ring(1),
    { name: "VHOST_SET_FEATURES", features: mask(F.VERSION_1) },
    { name: "VHOST_VSOCK_SET_GUEST_CID", cid: BigInt(GUEST_CID) },
    { name: "VHOST_VSOCK_SET_RUNNING", running: true },
  ];
  try {
    const { reach } = end;
    if (reach.transport !== "kernel") throw new TypeError(`${profile.name} is no kernel's device`);
    for (const request of requests) {
      const result = reach.vhost.ioctl(request);
      if (!result.ok) return `${request.name} gives -${result.errno}`;
    }
    return "it starts";
  } finally {
    end.close();
    host.close();
    loop.close();
    ram.close();
  }
}
