/**
 * The device of a cell, ready to be met by a VMM: this project's own, or somebody else's played by its profile. One
 * interface for all of them: how the VMM reaches it, how a host program calls the guest, what it takes bit 33 for.
 * Must not know guests.
 */
import { VM_DEFAULTS } from "../device/config/vm-config.js";
import { VsockBackend } from "../device/vsock-backend.js";
import type { EventLoop } from "../linux/event-loop.js";
import { socketPair } from "../linux/unix-socket.js";
import type { Logger } from "../log/logger.js";
import type { AccessWatcher } from "../memory/watched-space.js";
import { BackendModel } from "../peers/backend-model.js";
import { KernelModel } from "../peers/kernel-model.js";
import type { DeviceProfile, IotlbSwitch, ModelledDevice, OwnDevice } from "../profiles/device-profile.js";
import type { Transport } from "../profiles/head.js";
import { BackendSession } from "../vhost/backend-session.js";
import type { KernelVhost } from "../vhost/kernel/requests.js";
import type { Opener } from "../vsock/connection.js";
import { DEFAULT_LIMITS } from "../vsock/limits.js";
import { VsockSwitch } from "../vsock/switch.js";
import type { HostPrograms } from "./host-programs.js";

/** What the device makes of addresses just now. */
export interface DeviceView {
  readonly translation: "on" | "off" | "undecided" | "refused";
  /** Why, in one clause. */
  readonly because: string;
}

export interface DeviceEnd {
  /** Where the VMM finds it: a connected socket that is the VMM's from now on, or an open /dev/vhost-vsock. */
  readonly reach:
    | { readonly transport: "vhost-user"; readonly fd: number }
    | { readonly transport: "kernel"; readonly vhost: KernelVhost };
  readonly view: DeviceView;
  /** Why its process is gone, if it is. */
  readonly exited: string | undefined;
  /** Why it has closed the connection to its VMM, if it has. */
  readonly left: string | undefined;
  callGuest(guestPort: number, fd: number): void;
  /** Call it after the VMM has let go. */
  close(): void;
}

export interface DeviceEndParts {
  readonly profile: DeviceProfile;
  readonly transport: Transport;
  readonly loop: EventLoop;
  readonly host: HostPrograms;
  readonly watcher: AccessWatcher;
  readonly log: Logger;
}

export const GUEST_CID = 3;
/** The same in every run, so that records are. */
const FIRST_CALL_PORT = 2 ** 30;

/** A host program whose call comes to nothing sees its socket closed; that is all it needs. */
const NOBODY_WAITS: Opener = { connected() {}, failed() {} };

export function openDevice(parts: DeviceEndParts): DeviceEnd {
  const { behaviour } = parts.profile;
  if (behaviour.engine === "bit33") return new OwnDeviceEnd(parts, behaviour);
  return parts.transport === "kernel" ? kernelEnd(parts, behaviour) : backendEnd(parts, behaviour);
}

class OwnDeviceEnd implements DeviceEnd {
  readonly reach: DeviceEnd["reach"];
  readonly exited = undefined;
  left: string | undefined;
  readonly #switch: VsockSwitch;
  readonly #session: BackendSession;

  constructor({ loop, host, watcher, log }: DeviceEndParts, { iotlb, accessPlatform }: OwnDevice) {
    const [theirs, ours] = socketPair();
    this.reach = { transport: "vhost-user", fd: theirs };
    const limits = DEFAULT_LIMITS;
    const always = { guestCid: GUEST_CID, firstAssignedPort: FIRST_CALL_PORT };
    this.#switch = new VsockSwitch({ loop, log, endpoints: host, limits, ...always });
    const device = new VsockBackend(loop, this.#switch, GUEST_CID, log, () => {
      this.left ??= "it closed the session";
    });
    const { explicitBit, probationMs, queueSize } = VM_DEFAULTS;
    const policy = { iotlb, accessPlatform, explicitBit, probationMs, queueSizeMax: queueSize };
    this.#session = new BackendSession({ loop, fd: ours, device, policy, log, watcher });
  }

  get view(): DeviceView {
    const { state, explanation } = this.#session.translation;
    return { translation: state, because: explanation };
  }

  callGuest(guestPort: number, fd: number): void {
    this.#switch.connectGuest(guestPort, fd, NOBODY_WAITS);
  }

  close(): void {
    this.#session.end("the cell is over");
    this.#switch.close();
  }
}

function kernelEnd({ loop, host, watcher, log, profile }: DeviceEndParts, model: ModelledDevice): DeviceEnd {
  const kernel = new KernelModel({ loop, profile, endpoints: host, watcher, log });
  return {
    reach: { transport: "kernel", vhost: kernel },
    get view() {
      return viewOf(model.iotlb.enabledBy, kernel.translates);
    },
    exited: undefined,
    left: undefined,
    callGuest: (guestPort, fd) => kernel.connectGuest(guestPort, fd, NOBODY_WAITS),
    close: () => kernel.close(),
  };
}

function backendEnd({ loop, host, watcher, log, profile }: DeviceEndParts, model: ModelledDevice): DeviceEnd {
  const [theirs, ours] = socketPair();
  const backend = new BackendModel({
    loop,
    fd: ours,
    profile,
    endpoints: host,
    watcher,
    log,
    guestCid: GUEST_CID,
  });
  return {
    reach: { transport: "vhost-user", fd: theirs },
    get view() {
      return viewOf(model.iotlb.enabledBy, backend.translates);
    },
    get exited() {
      return backend.exited;
    },
    get left() {
      return backend.left;
    },
    callGuest: (guestPort, fd) => backend.connectGuest(guestPort, fd, NOBODY_WAITS),
    close: () => backend.close(),
  };
}

const SWITCHES: Readonly<Record<IotlbSwitch, { readonly on: string; readonly off: string }>> = {
  never: { on: "", off: "it implements none" },
  "bit-33": { on: "bit 33 was acknowledged to it", off: "bit 33 was not acknowledged to it" },
  "bit-33-and-msg-v2": {
    on: "bit 33 and IOTLB_MSG_V2 were acknowledged to it",
    off: "it was not told both bit 33 and IOTLB_MSG_V2",
  },
  "own-bit": {
    on: "the bit of the IOTLB's own was acknowledged to it",
    off: "the bit of the IOTLB's own was not acknowledged to it",
  },
  "first-message": {
    on: "bit 33 was acknowledged to it and an IOTLB message came",
    off: "no IOTLB message came together with bit 33",
  },
};

function viewOf(enabledBy: IotlbSwitch, translates: boolean): DeviceView {
  const words = SWITCHES[enabledBy];
  return translates ? { translation: "on", because: words.on } : { translation: "off", because: words.off };
}
