/**
 * One cell, played: a guest's driver, a VMM and a device in one thread, over real rings in shared memory. Collects
 * facts and draws no conclusion from them (`judge.ts`, `story.ts` do).
 */
import { HostileMapper } from "../guest/dma-hostile.js";
import { PoolMapper } from "../guest/dma-pool.js";
import { ViommuMapper } from "../guest/dma-viommu.js";
import { createPlatform, type Platform, type Viommu } from "../guest/platform.js";
import { VsockDriver } from "../guest/vsock-driver.js";
import { createLogger } from "../log/logger.js";
import type { DeviceProfile } from "../profiles/device-profile.js";
import type { GuestProfile } from "../profiles/guest-profile.js";
import type { VmmProfile } from "../profiles/vmm-profile.js";
import { bitsOf, describeFeatures, F, has, virtioFeature, without } from "../virtio/index.js";
import { FrontEnd } from "../vmm/front-end.js";
import { KernelFrontEnd } from "../vmm/kernel-front-end.js";
import { type NegotiationRecord, StartRefused, type VmmPlayer } from "../vmm/player.js";
import { UserAddresses } from "../vmm/user-addresses.js";
import { Canary, type CanaryOutcome } from "./canary.js";
import { Chronicle } from "./chronicle.js";
import { type DeviceEnd, type DeviceEndParts, type DeviceView, GUEST_CID, openDevice } from "./device-end.js";
import { HostPrograms } from "./host-programs.js";
import { Places } from "./places.js";
import type { Actor } from "./record.js";
import { Traffic } from "./traffic.js";
import { DeviceThrew, type Loops, type RunEnd, TwoLoops } from "./two-loops.js";
import { type Confinement, type Finding, Witness } from "./witness.js";

/** Small, so that rings wrap and a cell is cheap. */
const QUEUE_SIZE = 16;
/** Two slots with a hole, as in a PC: guest-physical, user and I/O virtual addresses never look alike. */
const SLOTS = [
  { gpa: 0, bytes: 2 ** 19 },
  { gpa: 2 ** 32, bytes: 5 * 2 ** 19 },
];
const POOL_BYTES = 2 ** 19;
/** I/O virtual pages: little more than are mapped at once, so that lazy unmapping has to flush, and addresses return. */
const SPAN_PAGES = 80;
/** Longer than any timeout of the parties. */
const MOST_MS = 12_000;
/** How long a device has for the canaries. */
const CANARY_MS = 20;

/** Somebody's no, or a failure. */
export interface Saying {
  readonly by: Actor;
  readonly text: string;
}

/** What a cell runs in. A test puts a real program in the device's place, which needs real time. */
export interface Surroundings {
  readonly makeLoops: () => Loops;
  readonly openDevice: (parts: DeviceEndParts) => DeviceEnd;
}

const MODELLED: Surroundings = { makeLoops: () => new TwoLoops(), openDevice };

/** Everything that is known of a cell afterwards. */
export interface CellFacts {
  readonly guest: GuestProfile;
  readonly vmm: VmmProfile;
  readonly device: DeviceProfile;
  readonly chronicle: Chronicle;
  readonly witness: Witness;
  readonly places: Places;
  readonly negotiation: NegotiationRecord;
  /** The guest acknowledged bit 33. */
  readonly guestHas33: boolean;
  /** It came to telling the device of features. */
  readonly passedOn: boolean;
  /** What the device made of addresses in the end. */
  readonly deviceView: DeviceView;
  /** Somebody declined before anything ran. */
  readonly refusal: Saying | undefined;
  /** The start was tried and failed. */
  readonly startFailure: Saying | undefined;
  /** A process is gone. */
  readonly death: Saying | undefined;
  /** The session broke after the start. */
  readonly breakdown: Saying | undefined;
  readonly traffic: Traffic | undefined;
  readonly end: RunEnd | undefined;
  /** What is asked for and not mapped, at the end of the traffic. */
  readonly waitsFor: Finding | undefined;
  readonly canary: CanaryOutcome | undefined;
}

/** Bits that the built-in driver cannot play, whatever a profile knows: it has no packed rings. */
const NOT_PLAYED = [F.RING_PACKED];

export class CellRun {
  readonly #guest: GuestProfile;
  readonly #vmm: VmmProfile;
  readonly #device: DeviceProfile;
  readonly #loops: Loops;
  readonly #chronicle = new Chronicle();
  readonly #host: HostPrograms;
  readonly #platform: Platform;
  readonly #users: UserAddresses;
  readonly #places: Places;
  readonly #witness: Witness;
  readonly #end: DeviceEnd;
  readonly #player: VmmPlayer;
  #driver: VsockDriver | undefined;
  #traffic: Traffic | undefined;
  #canary: Canary | undefined;

  #acknowledged = 0n;
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
    { makeLoops, openDevice }: Surroundings = MODELLED,
  ) {
    this.#loops = makeLoops();
    this.#guest = guest;
    this.#vmm = vmm;
    this.#device = device;
    const { unmapping } = guest;
    this.#platform = createPlatform({
      kind: guest.dma,
      unmapping,
      slots: SLOTS,
      poolBytes: POOL_BYTES,
      spanPages: SPAN_PAGES,
    });
    this.#users = new UserAddresses(this.#platform.ram.slots);
    const userAddressOf = (gpa: number): number => this.#users.ofGpa(gpa);
    this.#places = new Places(this.#platform.ram, userAddressOf, guest.dma === "passthrough");
    this.#witness = new Witness(this.#confinement(), (finding) => this.#found(finding));
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
    const { ram, viommu } = this.#platform;
    const loops = this.#loops;
    const parts = {
      profile: this.#vmm,
      machine: this.#guest.machine,
      ram,
      viommu: viommu && this.#observed(viommu),
      observer: this.#chronicle.vmm,
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

  /** The same vIOMMU, with a note of the first time that the guest takes something back. */
  #observed({ translations, onInvalidate }: Viommu): Viommu {
    const chronicle = this.#chronicle;
    return {
      translations,
      onInvalidate: (invalidate) =>
        onInvalidate((iova, bytes, reach) => {
          const before = chronicle.invalidates;
          const what = reach === "pages" ? "a mapping" : "all that it has unmapped up to now, in one flush";
          const isFirst = !chronicle.has("invalidate-told") && !chronicle.has("invalidate-lost");
          if (isFirst && this.#traffic !== undefined) {
            const at = chronicle.notes.length;
            invalidate(iova, bytes, reach);
            const isTold = chronicle.invalidates > before;
            const rest = isTold ? "the VMM tells the device" : "the VMM tells the device nothing of it";
            chronicle.insert(
              at,
              "guest",
              "message",
              `takes back ${what}; ${rest}`,
              isTold ? "invalidate-told" : "invalidate-lost",
            );
            return;
          }
          invalidate(iova, bytes, reach);
        }),
    };
  }

  /** What this guest lets its device reach. */
  #confinement(): Confinement {
    const { mapper } = this.#platform;
    if (this.#guest.hostile !== undefined) return { kind: "nothing" };
    if (mapper instanceof ViommuMapper) return { kind: "mappings", table: mapper.table };
    if (mapper instanceof PoolMapper) return { kind: "pool", gpa: mapper.pool.gpa, bytes: mapper.pool.bytes };
    return { kind: "everything" };
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

  /** Linux: what the driver knows of the offer; without what it requires it refuses the device. */
  #choose(offered: bigint): boolean {
    const { knows, requires } = this.#guest;
    const known = NOT_PLAYED.reduce(without, knows);
    this.#acknowledged = offered & known;
    const lacking = requires & ~this.#acknowledged;
    if (lacking === 0n) {
      const word = describeFeatures(this.#acknowledged, "vsock");
      const which = has(this.#acknowledged, F.ACCESS_PLATFORM) ? "bit 33 among it" : "not bit 33";
      this.#chronicle.add("guest", "negotiation", `acknowledges ${word}, ${which}`, "acknowledged");
      return true;
    }
    const names = bitsOf(lacking).map((bit) => `${virtioFeature(bit, "vsock")?.name ?? "bit"} (${bit})`);
    const text = `the driver requires ${names.join(" and ")}, which it is not offered`;
    this.#refusal = { by: "guest", text };
    this.#chronicle.add("guest", "end", `refuses the device: ${text}`, "failed");
    return false;
  }

  #boot(): void {
    const platform = this.#platform;
    const userAddressOf = (gpa: number): number => this.#users.ofGpa(gpa);
    const dma =
      this.#guest.hostile === undefined ? undefined : new HostileMapper(platform.ram, userAddressOf);
    const cid = this.#player.readCid();
    const driver = new VsockDriver({
      platform,
      loop: this.#loops.guest,
      features: this.#acknowledged,
      readCid: () => cid,
      queueSize: QUEUE_SIZE,
      ...(dma === undefined ? {} : { dma }),
    });
    this.#driver = driver;
    this.#places.learn(driver.queues);
    this.#player.start(this.#acknowledged, driver.queues);
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
    const { machine, dma } = this.#guest;
    if (driver === undefined || !machine.viommu || dma === "passthrough" || this.#isBroken) return;
    const { ram } = this.#platform;
    const canary = new Canary(ram, driver, (gpa) => this.#users.ofGpa(gpa));
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
      canary.postOnTransmit(connection?.localPort ?? 1, connection?.credit.forwarded ?? 0);
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
      guest: this.#guest,
      vmm: this.#vmm,
      device: this.#device,
      chronicle: this.#chronicle,
      witness: this.#witness,
      places: this.#places,
      negotiation: this.#player.negotiation,
      guestHas33: has(this.#acknowledged, F.ACCESS_PLATFORM),
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
    this.#platform.ram.close();
  }
}

function told(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
