/**
 * A guest's driver in front of one vhost-user device, and a front-end whose every message is written by hand: for
 * questions that are about messages and not about a VMM. On a virtual clock, like a cell. Must not know any question.
 */
import { createPlatform, type Platform } from "../../guest/platform.js";
import { VsockDriver } from "../../guest/vsock-driver.js";
import { createLogger } from "../../log/logger.js";
import type { LogRecord } from "../../log/record.js";
import type { DeviceProfile } from "../../profiles/device-profile.js";
import { FrontEndError } from "../../vhost/front-end-error.js";
import { FrontEndSession, type SharedRegion } from "../../vhost/front-end-session.js";
import type { RingAddresses } from "../../vhost/ring-state.js";
import { F, maskOf } from "../../virtio/index.js";
import { UserAddresses } from "../../vmm/user-addresses.js";
import { type DeviceEnd, GUEST_CID, openDevice } from "../device-end.js";
import { HostPrograms } from "../host-programs.js";
import { Traffic } from "../traffic.js";
import { TwoLoops } from "../two-loops.js";
import { Witness } from "../witness.js";

const QUEUE_SIZE = 16;
const SLOTS = [
  { gpa: 0, bytes: 2 * 2 ** 20 },
  { gpa: 2 ** 32, bytes: 6 * 2 ** 20 },
];
/** Longer than any timeout of the parties. */
const MOST_MS = 12_000;

/** What a plain guest acknowledges of any device, and bit 30. */
export const PLAIN_FEATURES = maskOf(F.VERSION_1, F.EVENT_IDX, F.INDIRECT_DESC, F.PROTOCOL_FEATURES);

/** What SET_VRING_ADDR and the memory table carry. */
export interface Addressing {
  readonly regions: readonly SharedRegion[];
  /** Of a guest-physical address. */
  readonly ring: (gpa: bigint) => bigint;
}

export class Stage {
  readonly session: FrontEndSession;
  readonly users: UserAddresses;
  readonly platform: Platform;
  readonly end: DeviceEnd;
  /** What the device logged. */
  readonly log: LogRecord[] = [];
  readonly #loops = new TwoLoops();
  readonly #host: HostPrograms;
  #driver: VsockDriver | undefined;

  constructor(profile: DeviceProfile) {
    const loops = this.#loops;
    this.platform = createPlatform({ kind: "direct", slots: SLOTS });
    this.users = new UserAddresses(this.platform.ram.slots);
    this.#host = new HostPrograms(loops.device);
    this.end = openDevice({
      profile,
      transport: "vhost-user",
      loop: loops.device,
      host: this.#host,
      watcher: new Witness({ kind: "everything" }, () => {}),
      log: createLogger({ level: "debug", sink: (record) => this.log.push(record), now: () => 0 }),
    });
    const { reach } = this.end;
    if (reach.transport !== "vhost-user") throw new TypeError(`${profile.name} has no socket`);
    this.session = new FrontEndSession(reach.fd, {
      pump: (timeoutMs) => loops.pumpDevice(timeoutMs),
      now: () => loops.nowMs,
    });
  }

  /** Negotiates: what the device offers of `features` and `protocolFeatures`, and returns both. */
  negotiate(features: bigint, protocolFeatures: bigint): { features: bigint; protocolFeatures: bigint } {
    const { session } = this;
    const taken = session.getFeatures() & features;
    const protocol = session.getProtocolFeatures() & protocolFeatures;
    session.setProtocolFeatures(protocol);
    session.setOwner();
    session.setFeatures(taken);
    return { features: taken, protocolFeatures: protocol };
  }

  /** Ordinary addressing: a memory table of user addresses, ring addresses in them. */
  get userAddressing(): Addressing {
    return {
      regions: this.users.regions(this.platform.ram.fd),
      ring: (gpa) => BigInt(this.users.ofGpa(Number(gpa))),
    };
  }

  /** Shares memory and starts `queues` of the driver's rings. Throws FrontEndError. */
  start(acknowledged: bigint, addressing: Addressing, queues: 2 | 3): VsockDriver {
    const { session } = this;
    const driver = new VsockDriver({
      platform: this.platform,
      loop: this.#loops.guest,
      features: acknowledged,
      readCid: () => GUEST_CID,
      queueSize: QUEUE_SIZE,
    });
    this.#driver = driver;
    session.setMemTable(addressing.regions);
    for (const { index, size, addresses, kickFd, callFd } of driver.queues.slice(0, queues)) {
      session.setUpRing({ index, size, addresses: placed(addresses, addressing), kickFd, callFd });
    }
    for (let index = 0; index < queues; index++) session.setVringEnable(index, true);
    // Brings what the messages did to light: a device that left answers no more.
    session.getFeatures();
    return driver;
  }

  /** As `talk`, with the driver that was started. */
  talkStarted(): Promise<boolean> {
    if (this.#driver === undefined) throw new Error("nothing was started");
    return this.talk(this.#driver);
  }

  /** The cell's traffic. True if everything arrived at both ends. */
  async talk(driver: VsockDriver): Promise<boolean> {
    const traffic = new Traffic(driver, this.#host, (port, fd) => this.end.callGuest(port, fd));
    driver.start();
    void traffic.run();
    const isOver = (): boolean =>
      traffic.state === "failed" || (traffic.state === "done" && traffic.hostIsSatisfied);
    await this.#loops.run(() => this.session.serve(), isOver, MOST_MS);
    return (
      traffic.hostIsSatisfied &&
      traffic
        .compared()
        .every(
          ({ expectedBytes, receivedBytes, differsAt }) =>
            receivedBytes === expectedBytes && differsAt === undefined,
        )
    );
  }

  /** What the device refused, in its words, most recent last. */
  get refusals(): readonly string[] {
    return this.log.filter(({ event }) => event === "message-refused").map(({ message }) => message);
  }

  close(): void {
    this.session.close();
    this.end.close();
    this.#driver?.release();
    this.#host.close();
    this.#loops.close();
    this.platform.ram.close();
  }
}

function placed({ desc, avail, used }: RingAddresses, { ring }: Addressing): RingAddresses {
  return { desc: ring(desc), avail: ring(avail), used: ring(used) };
}

/** A stage for one action; whatever happens, it is taken down. */
export async function onStage<T>(
  profile: DeviceProfile,
  action: (stage: Stage) => Promise<T> | T,
): Promise<T> {
  const stage = new Stage(profile);
  try {
    return await action(stage);
  } finally {
    stage.close();
  }
}

/** What the device said to the last word that was sent to it: undefined if it went along. */
export function objection(stage: Stage, action: () => void): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    if (!(error instanceof FrontEndError)) throw error;
    return stage.refusals.at(-1) ?? error.message;
  }
}
