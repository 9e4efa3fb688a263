/**
 * The kinds of guest that the whole list of checks runs in: data only. Each says how QEMU and the guest kernel are
 * started, and what must have been negotiated. What QEMU then sends is described in docs/testing.md.
 */
import { F, VSOCK_F } from "../../src/virtio/index.js";
import type { TranslationMode } from "./device.js";
import type { KernelSeries } from "./paths.js";

export interface GuestKind {
  name: string;
  kernel: KernelSeries;
  /** Each of these is appended to the option or list of the same purpose. */
  machine?: string;
  devices?: string[];
  vsockOptions?: string;
  append?: string;
  memoryMiB?: number;
  memorySlots?: string;
  /** The guest restarts; in every other kind a restart is a kernel panic and ends QEMU. */
  reboots?: boolean;
  /** What the guest's driver acknowledged, and what the device made of it: two things. */
  accessPlatform: boolean;
  translation: TranslationMode;
  /** The guest's rings are packed ones. */
  packed?: boolean;
  /** The features that QEMU is told not to hand on to the guest. */
  withheld?: readonly number[];
  /** `bit33 inspect` stands between QEMU and the device. */
  inspected?: boolean;
  /** It follows the rings too. */
  ringsFollowed?: boolean;
  /** The built-in guest profile that describes it. */
  profile?: string;
  /** The type of the IOMMU group of the device in the guest, if it is in one. */
  iommuDomain?: "DMA" | "DMA-FQ" | "identity";
  /** What is done to the guest, on top of the list of checks. */
  events?: ("stop-cont" | "unbind-bind" | "reboot" | "hot-plug" | "unplug" | "bounce")[];
}

/** Where a vsock device is that comes and goes with its slot. */
export const slot = { bus: "port1", id: "plugged" } as const;

const direct = { kernel: "6.12", accessPlatform: false, translation: "off" } as const;
const platform = { kernel: "6.12", accessPlatform: true, vsockOptions: ",iommu_platform=on" } as const;
const virtioIommu = { ...platform, devices: ["-device", "virtio-iommu-pci"], translation: "on" } as const;
const intelIommu = {
  ...platform,
  machine: ",kernel-irqchip=split",
  devices: ["-device", "intel-iommu,intremap=on,device-iotlb=on"],
  vsockOptions: ",iommu_platform=on,ats=on",
  translation: "on",
} as const;

/** `devices` of a constant is read-only; here it becomes an ordinary list. */
function kind(
  name: string,
  base: Omit<GuestKind, "name" | "devices"> & { devices?: readonly string[] },
  more: Partial<GuestKind> = {},
): GuestKind {
  const { devices, ...rest } = base;
  return { name, ...rest, ...(devices ? { devices: [...devices] } : {}), ...more };
}

export const guestKinds: GuestKind[] = [
  kind("plain", direct, { profile: "plain" }),
  kind("plain, Linux 6.1", direct, { kernel: "6.1" }),
  kind("plain, Linux 5.10", direct, { kernel: "5.10" }),
  kind("iommu_platform without vIOMMU", { ...platform, translation: "off" }, { profile: "plain" }),
  kind(
    "iommu_platform without vIOMMU, swiotlb=force",
    { ...platform, translation: "off" },
    { append: "swiotlb=force", events: ["bounce"] },
  ),
  kind("virtio-iommu", virtioIommu, {
    profile: "viommu-strict",
    iommuDomain: "DMA",
    append: "iommu.strict=1",
    events: ["stop-cont", "unbind-bind"],
  }),
  kind("virtio-iommu, iommu=pt", virtioIommu, {
    profile: "passthrough",
    append: "iommu=pt",
    iommuDomain: "identity",
  }),
  kind("intel-iommu, iommu.strict=1", intelIommu, {
    profile: "viommu-strict",
    append: "iommu.strict=1",
    iommuDomain: "DMA",
    reboots: true,
    events: ["reboot"],
  }),
  kind("intel-iommu, iommu=pt", intelIommu, {
    profile: "passthrough",
    append: "iommu=pt",
    iommuDomain: "identity",
  }),
  // QEMU hands packed=on to the guest, and RING_PACKED to the back-end, whatever that one offers.
  kind("packed rings", direct, {
    packed: true,
    vsockOptions: ",packed=on",
    profile: "plain",
    events: ["stop-cont", "unbind-bind"],
  }),
  kind("packed rings, virtio-iommu", virtioIommu, {
    packed: true,
    vsockOptions: ",iommu_platform=on,packed=on",
    profile: "viommu-strict",
    iommuDomain: "DMA",
    append: "iommu.strict=1",
    events: ["stop-cont"],
  }),
  kind("packed rings, intel-iommu, iommu.strict=1", intelIommu, {
    packed: true,
    vsockOptions: ",iommu_platform=on,ats=on,packed=on",
    profile: "viommu-strict",
    iommuDomain: "DMA",
    append: "iommu.strict=1",
    reboots: true,
    events: ["reboot"],
  }),
  kind("no event index, no indirect descriptors", direct, {
    vsockOptions: ",event_idx=off,indirect_desc=off",
    withheld: [F.EVENT_IDX, F.INDIRECT_DESC],
    profile: "plain",
    events: ["stop-cont"],
  }),
  kind("packed rings, no event index, no indirect descriptors", direct, {
    packed: true,
    vsockOptions: ",packed=on,event_idx=off,indirect_desc=off",
    withheld: [F.EVENT_IDX, F.INDIRECT_DESC],
    profile: "plain",
    events: ["stop-cont"],
  }),
  kind("no seqpacket", direct, {
    vsockOptions: ",seqpacket=off",
    withheld: [VSOCK_F.VSOCK_SEQPACKET],
    profile: "plain",
  }),
  kind("device unplugged and plugged in", direct, {
    devices: ["-device", `pcie-root-port,id=${slot.bus},chassis=1`],
    vsockOptions: `,bus=${slot.bus},id=${slot.id}`,
    events: ["unplug"],
  }),
  kind("5 GiB", direct, { memoryMiB: 5120 }),
  kind("memory hot-plug", direct, {
    memorySlots: ",slots=2,maxmem=1G",
    append: "memhp_default_state=online_kernel",
    events: ["hot-plug"],
  }),
  kind("stop and cont", direct, { events: ["stop-cont"] }),
  kind("driver unbind and bind", direct, { events: ["unbind-bind"] }),
  kind("reboot", direct, { reboots: true, events: ["reboot"] }),
  kind("plain, inspected", direct, { profile: "plain", inspected: true, events: ["stop-cont"] }),
  kind("plain, inspected with its rings", direct, {
    profile: "plain",
    inspected: true,
    ringsFollowed: true,
    events: ["stop-cont", "unbind-bind"],
  }),
  kind("virtio-iommu, inspected with its rings", virtioIommu, {
    profile: "viommu-strict",
    iommuDomain: "DMA",
    append: "iommu.strict=1",
    inspected: true,
    ringsFollowed: true,
    events: ["stop-cont", "unbind-bind"],
  }),
  kind("intel-iommu, iommu.strict=1, inspected", intelIommu, {
    profile: "viommu-strict",
    append: "iommu.strict=1",
    iommuDomain: "DMA",
    reboots: true,
    inspected: true,
    events: ["reboot"],
  }),
  kind("packed rings, inspected with them", direct, {
    packed: true,
    vsockOptions: ",packed=on",
    profile: "plain",
    inspected: true,
    ringsFollowed: true,
    events: ["unbind-bind"],
  }),
];
