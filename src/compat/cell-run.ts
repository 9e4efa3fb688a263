/**
 * One cell, played: a guest's driver, a VMM and a device in one thread, over real rings in shared memory. Collects
 * facts and draws no conclusion from them (`judge.ts`, `story.ts` do).
 */

import { Canary, type CanaryOrder, type CanaryOutcome } from "../guest/canary.js";
import type { VsockDriver } from "../guest/vsock-driver.js";
import { createLogger } from "../log/logger.js";
import type { DeviceProfile } from "../profiles/device-profile.js";
import type { GuestProfile } from "../profiles/guest-profile.js";
import type { VmmProfile } from "../profiles/vmm-profile.js";
import { describeFeatures } from "../virtio/index.js";
import { FrontEnd } from "../vmm/front-end.js";
import { KernelFrontEnd } from "../vmm/kernel-front-end.js";
import { StartRefused, type VmmPlayer } from "../vmm/player.js";
import { Chronicle } from "./chronicle.js";
import { type DeviceEnd, type DeviceEndParts, GUEST_CID, openDevice } from "./device-end.js";
import type { CellFacts, Saying } from "./facts.js";
import { GuestSide, QUEUE_SIZE } from "./guest-side.js";
import { HOST_PORT, HostPrograms } from "./host-programs.js";
import { Places } from "./places.js";
import { Traffic } from "./traffic.js";
import { DeviceThrew, type Loops, type RunEnd, TwoLoops } from "./two-loops.js";
import { type Finding, Witness } from "./witness.js";

/** Longer than any timeout of the parties. */
const MOST_MS = 12_000;
/** How long a device has for the canaries. */
const CANARY_MS = 20;

/** What a cell runs in. A test puts a real program in the device's place, which needs real time. */
export interface Surroundings {
  readonly makeLoops: () => Loops;
  readonly openDevice: (parts: DeviceEndParts) => DeviceEnd;
  readonly canaryOrder?: CanaryOrder;
}

export const MODELLED: Surroundings = { makeLoops: () => new TwoLoops(), openDevice };

/** The three that meet in a cell. */
interface Profiles {
  readonly guest: GuestProfile;
  readonly vmm: VmmProfile;
  readonly device: DeviceProfile;
}

export class CellRun {
  readonly #profiles: Profiles;
  readonly #canaryOrder: CanaryOrder | undefined;
  readonly #loops: Loops;
  readonly #chronicle = new Chronicle();
  readonly #host: HostPrograms;
  readonly #guest: GuestSide;
  readonly #places: Places;
  readonly #witness: Witness;
  readonly #end: DeviceEnd;
  readonly #player: VmmPlayer;
  #driver: VsockDriver | undefined;
  #traffic: Traffic | undefined;
  #canary: Canary | undefined;

  #refusal: Saying | undefined;
  #startFailure: Saying | undefined;
  #death: Saying | undefined;
  #breakdown: Saying | undefined;
  #runEnd: RunEnd | undefined;
  #waitsFor: Finding | undefined;
  #canaryOutcome: CanaryOutcome | undefined;

  constructor(
    guest: GuestProfile,
    vmm: VmmProfile,
    device: DeviceProfile,
    { makeLoops, openDevice, canaryOrder }: Surroundings = MODELLED,
  ) {
    this.#profiles = { guest, vmm, device };
    this.#canaryOrder = canaryOrder;
    this.#loops = makeLoops();
    this.#guest = new GuestSide(guest, this.#loops.guest);
    const { ram, userAddressOf, confinement } = this.#guest;
    this.#places = new Places(ram, userAddressOf, guest.dma === "passthrough");
    this.#witness = new Witness(confinement, (finding) => this.#found(finding));
    this.#host = new HostPrograms(this.#loops.device);
    this.#end = openDevice({
      profile: device,
      transport: vmm.transport,
      loop: this.#loops.device,
      host: this.#host,
      watcher: this.#witness,
      log: createLogger({ level: "debug", sink: this.#chronicle.log, now: () => 0 }),
    });
    this.#player = this.#makePlayer();
  }

  #makePlayer(): VmmPlayer {
    const { guest, vmm } = this.#profiles;
    const loops = this.#loops;
    const chronicle = this.#chronicle;
    const parts = {
      profile: vmm,
      machine: guest.machine,
      ram: this.#guest.ram,
      viommu: this.#guest.viommu(chronicle),
      observer: chronicle.vmm,
    };
    const { reach } = this.#end;
    if (reach.transport === "kernel")
      return new KernelFrontEnd({ ...parts, vhost: reach.vhost, cid: GUEST_CID });
    return new FrontEnd({
      ...parts,
      socket: reach.fd,
      session: { pump: (timeoutMs) => loops.pumpDevice(timeoutMs), now: () => loops.nowMs },
    });
  }

  // ---- the play --------------------------------------------------------------------------------------------------

  async play(): Promise<void> {
    try {
      const offered = this.#player.initialize();
      if (!this.#choose(offered)) return;
      this.#boot();
    } catch (error) {
      this.#notStarted(error);
      return;
    }
    await this.#talk();
    await this.#tryCanary();
  }

  /** False if the guest refuses the device. */
  #choose(offered: bigint): boolean {
    const problem = this.#guest.choose(offered);
    if (problem === undefined) {
      const word = describeFeatures(this.#guest.acknowledged, "vsock");
      const which = this.#guest.has33 ? "bit 33 among it" : "not bit 33";
      this.#chronicle.add("guest", "negotiation", `acknowledges ${word}, ${which}`, "acknowledged");
      return true;
    }
    this.#refusal = { by: "guest", text: problem };
    this.#chronicle.add("guest", "end", `refuses the device: ${problem}`, "failed");
    return false;
  }

  #boot(): void {
    const driver = this.#guest.boot(this.#player.readCid());
    this.#driver = driver;
    this.#places.learn(driver.queues);
    this.#player.start(this.#guest.acknowledged, driver.queues);
  }

  #notStarted(error: unknown): void {
    if (error instanceof DeviceThrew) throw error;
    if (!(error instanceof StartRefused)) {
      this.#death = { by: "guest", text: told(error) };
      this.#chronicle.add("guest", "end", told(error), "failed");
      return;
    }
    const { message } = error;
    if (this.#player.died) this.#death = { by: "vmm", text: message };
    else if (error.by === "back-end" && this.#end.exited !== undefined)
      this.#death = { by: "device", text: this.#end.exited };
    else if (error.by === "back-end") {
      const { left } = this.#end;
      this.#startFailure = {
        by: "device",
        text: left === undefined ? message : `the device hangs up: ${left}`,
      };
    } else this.#refusal = { by: error.by === "guest" ? "guest" : "vmm", text: message };
    if (error.by === "back-end") this.#chronicle.add("vmm", "end", `gives up: ${message}`, "failed");
  }

  async #talk(): Promise<void> {
    const driver = this.#driver;
    if (driver === undefined) return;
    const callGuest = (port: number, fd: number): void => this.#end.callGuest(port, fd);
    const traffic = new Traffic(driver, this.#host, callGuest);
    this.#traffic = traffic;
    this.#guest.talks = true;
    await this.#guarded(async () => {
      driver.start();
      void traffic.run();
      const isOver = (): boolean =>
        this.#isBroken || traffic.state === "failed" || (traffic.state === "done" && traffic.hostIsSatisfied);
      this.#runEnd = await this.#loops.run(() => this.#player.serve(), isOver, MOST_MS);
    });
    this.#waitsFor = this.#witness.missing.values().next().value;
    this.#noteTraffic(traffic);
  }

  get #isBroken(): boolean {
    const { exited, left } = this.#end;
    return (this.#player.failure ?? exited ?? left ?? this.#death) !== undefined;
  }

  /** Behind a vIOMMU: descriptors that point at memory that is mapped for nobody. */
  async #tryCanary(): Promise<void> {
    const driver = this.#driver;
    const { machine, dma } = this.#profiles.guest;
    if (driver === undefined || !machine.viommu || dma === "passthrough" || this.#isBroken) return;
    const { ram, userAddressOf } = this.#guest;
    const canary = new Canary(ram, driver, userAddressOf, this.#canaryOrder);
    this.#canary = canary;
    this.#witness.canary = canary.range;
    const serve = (): number => this.#player.serve();
    this.#chronicle.add(
      "guest",
      "message",
      "points descriptors at a page that is mapped for nobody: the canary",
    );
    await this.#guarded(async () => {
      await this.#makeRoom(driver);
      const connection = this.#traffic?.connection;
      canary.postOnTransmit(connection?.localPort ?? 1, HOST_PORT, connection?.credit.forwarded ?? 0);
      canary.postOnReceive();
      // As much as the receive ring holds, so that the canaries' turn comes.
      this.#host.served[0]?.send(Buffer.alloc(QUEUE_SIZE * 4096));
      await this.#loops.run(serve, () => false, CANARY_MS);
    });
    this.#canaryOutcome = canary.outcome(this.#host.served[0]?.received ?? Buffer.alloc(0));
    this.#noteCanary(this.#canaryOutcome);
  }

  /** A full receive ring gets room by packets of one byte each. */
  async #makeRoom(driver: VsockDriver): Promise<void> {
    const program = this.#host.served[0];
    const receive = driver.queues[0];
    for (let tries = 0; tries < 4 && program !== undefined; tries++) {
      if (receive.ring.freeDescriptors >= Canary.RECEIVE_BUFFERS) return;
      program.send(Buffer.alloc(1));
      await this.#loops.run(
        () => this.#player.serve(),
        () => false,
        1,
      );
    }
  }

  /** What the guest throws is the end of the guest; what the VMM or the device throw, they keep themselves. */
  async #guarded(action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      if (error instanceof DeviceThrew) throw error;
      this.#death ??= { by: "guest", text: told(error) };
      this.#chronicle.add("guest", "end", `dies: ${told(error)}`, "failed");
    }
    const { failure, died } = this.#player;
    const { exited, left } = this.#end;
    if (died) this.#death ??= { by: "vmm", text: failure?.message ?? "it is gone" };
    else if (exited !== undefined) this.#death ??= { by: "device", text: exited };
    else if (left !== undefined) this.#breakdown ??= { by: "device", text: left };
    else if (failure !== undefined) this.#breakdown ??= { by: "vmm", text: failure.message };
  }

  // ---- notes -----------------------------------------------------------------------------------------------------

  #found(finding: Finding): void {
    this.#chronicle.add("device", "access", this.#places.tell(finding), `found-${finding.kind}`);
  }

  #noteTraffic(traffic: Traffic): void {
    for (const { what, expectedBytes, receivedBytes, differsAt } of traffic.compared()) {
      if (differsAt !== undefined) {
        this.#chronicle.add("guest", "data", `${what}: wrong from byte ${differsAt} on`);
      } else if (receivedBytes > 0) {
        const all = receivedBytes === expectedBytes ? "all" : `${receivedBytes} of`;
        this.#chronicle.add("guest", "data", `${what}: ${all} ${expectedBytes} bytes as they were sent`);
      }
    }
    if (traffic.problem !== undefined)
      this.#chronicle.add("guest", "data", `the guest's program gives up: ${traffic.problem}`);
    else if (traffic.state !== "done")
      this.#chronicle.add("guest", "data", "the guest's program waits for ever");
  }

  #noteCanary({ cameOut, changed }: CanaryOutcome): void {
    if (cameOut) this.#chronicle.add("device", "data", "the canary's bytes arrive at the host");
    if (changed) this.#chronicle.add("device", "data", "the canary in the receive ring is overwritten");
    if (!cameOut && !changed) this.#chronicle.add("device", "data", "the canary is as it was");
  }

  // ---- afterwards ------------------------------------------------------------------------------------------------

  facts(): CellFacts {
    return {
      ...this.#profiles,
      chronicle: this.#chronicle,
      witness: this.#witness,
      places: this.#places,
      negotiation: this.#player.negotiation,
      guestHas33: this.#guest.has33,
      passedOn: this.#chronicle.has("passed-on"),
      deviceView: this.#end.view,
      refusal: this.#refusal,
      startFailure: this.#startFailure,
      death: this.#death,
      breakdown: this.#breakdown,
      traffic: this.#traffic,
      end: this.#runEnd,
      waitsFor: this.#waitsFor,
      canary: this.#canaryOutcome,
    };
  }

  /** As when the VMM is killed: nobody is told anything any more, and nothing is left. */
  close(): void {
    this.#player.close();
    this.#end.close();
    this.#canary?.release();
    this.#driver?.release();
    this.#host.close();
    this.#loops.close();
    this.#guest.close();
  }
}

function told(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
