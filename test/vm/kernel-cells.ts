/**
 * What the cells of the matrix ask a kernel device, as scripts: each cell is played, and its VMM's requests up to the
 * start of the rings are written down. So the real kernel can be asked what the model was asked. Must not know the
 * results of either.
 */
import { CellRun } from "../../src/compat/cell-run.js";
import { openDevice } from "../../src/compat/device-end.js";
import { TwoLoops } from "../../src/compat/two-loops.js";
import { builtinProfiles } from "../../src/profiles/builtin.js";
import type { DeviceProfile } from "../../src/profiles/device-profile.js";
import type { GuestProfile } from "../../src/profiles/guest-profile.js";
import type { VmmProfile } from "../../src/profiles/vmm-profile.js";
import type { KernelRequest, KernelResult, KernelVhost } from "../../src/vhost/kernel/requests.js";
import type { IotlbMessage } from "../../src/vhost/wire/index.js";
import type { KernelScript, KernelStep, ScriptMemory, ScriptRequest } from "./kernel-script.js";

/** One script for each cell of the device's column that a VMM of the kernel's makes; named as the cell. */
export async function cellScripts(device: DeviceProfile): Promise<KernelScript[]> {
  const { guests, vmms } = builtinProfiles();
  const scripts: KernelScript[] = [];
  for (const guest of guests) {
    for (const vmm of vmms) {
      if (vmm.transport === "kernel" && suits(guest, vmm)) scripts.push(await cellScript(guest, vmm, device));
    }
  }
  return scripts;
}

function suits({ machine }: GuestProfile, vmm: VmmProfile): boolean {
  if (machine.viommu && !vmm.machine.viommu) return false;
  return !machine.protectedMemory || vmm.machine.protectedMemory;
}

async function cellScript(
  guest: GuestProfile,
  vmm: VmmProfile,
  device: DeviceProfile,
): Promise<KernelScript> {
  const note = new Note();
  const run = new CellRun(guest, vmm, device, {
    makeLoops: () => new TwoLoops(),
    openDevice: (parts) => {
      const end = openDevice(parts);
      if (end.reach.transport !== "kernel") return end;
      return { ...end, reach: { transport: "kernel", vhost: new NotedVhost(end.reach.vhost, note) } };
    },
  });
  try {
    await run.play();
  } finally {
    run.close();
  }
  const steps: KernelStep[] = [
    { step: "open", device: 0 },
    ...note.steps,
    { step: "settle", device: 0 },
    { step: "questions", device: 0 },
  ];
  return { name: `${guest.name}/${vmm.name}/${device.name}`, memory: note.memory, steps };
}

/** The requests up to the start of the rings. */
class Note {
  readonly steps: KernelStep[] = [];
  memory: readonly ScriptMemory[] = [];
  #isOver = false;

  ioctl(request: KernelRequest): void {
    if (this.#isOver) return;
    this.steps.push({ step: "ioctl", device: 0, request: withoutDescriptors(request) });
    if (request.name === "VHOST_SET_MEM_TABLE")
      this.memory = request.regions.map(({ userAddress, size }) => ({ address: userAddress, bytes: size }));
    this.#isOver = request.name === "VHOST_VSOCK_SET_RUNNING";
  }

  write(message: IotlbMessage): void {
    if (!this.#isOver) this.steps.push({ step: "write", device: 0, message });
  }
}

function withoutDescriptors(request: KernelRequest): ScriptRequest {
  switch (request.name) {
    case "VHOST_SET_VRING_KICK":
    case "VHOST_SET_VRING_CALL":
    case "VHOST_SET_VRING_ERR":
      return { name: request.name, index: request.index, fd: request.fd < 0 ? "none" : "eventfd" };
    case "VHOST_SET_MEM_TABLE":
      return {
        name: request.name,
        regions: request.regions.map(({ guestAddress, size, userAddress }) => ({
          guestAddress,
          size,
          userAddress,
        })),
      };
    default:
      return request;
  }
}

class NotedVhost implements KernelVhost {
  constructor(
    private readonly inner: KernelVhost,
    private readonly note: Note,
  ) {}

  ioctl(request: KernelRequest): KernelResult {
    this.note.ioctl(request);
    return this.inner.ioctl(request);
  }

  write(message: IotlbMessage): KernelResult {
    this.note.write(message);
    return this.inner.write(message);
  }

  read(): IotlbMessage | undefined {
    return this.inner.read();
  }

  close(): void {
    this.inner.close();
  }
}
