/**
 * One side of the comparison: a device with a driver on it, or the floor, which is bare Unix sockets between the same
 * two programs. Runs one work at a time and reads the rows' values off it.
 */
import type { GuestCommand, HostCommand, Outcome } from "./commands.js";
import type { DeviceProcess } from "./device-process.js";
import { type Effort, EffortClock } from "./effort.js";
import type { Program } from "./program.js";
import type { Progress } from "./progress.js";
import type { Side } from "./record.js";
import type { RowName, StreamRows, Work } from "./rows.js";
import { percentile, smallestShare } from "./statistics.js";

const GUEST_PORT = 5000;
const MIB = 2 ** 20;
const GIB = 2 ** 30;

export interface ContenderParts {
  readonly side: Side;
  readonly guest: Program<GuestCommand>;
  /** The same one for all sides. */
  readonly host: Program<HostCommand>;
  readonly progress: Progress;
  /** Undefined for the floor. */
  readonly device: DeviceProcess | undefined;
  /** A folder for the floor's sockets. */
  readonly folder: string;
}

/** A value for each row of the work. */
export type Reading = Partial<Record<RowName, number>>;

/** What one run of a work found, once it is known what CPU time it took. */
interface Measured {
  /** The time measured: from the first byte sent to the last one received. */
  readonly seconds: number;
  reading(effort: Effort): Reading;
}

export class Contender {
  readonly side: Side;
  readonly #parts: ContenderParts;
  #ports = 0;

  constructor(parts: ContenderParts) {
    this.side = parts.side;
    this.#parts = parts;
  }

  /** Whether this side has the work at all: the floor opens no connections. */
  can(work: Work): boolean {
    return (
      this.#parts.device !== undefined || (work.kind !== "open-by-guest" && work.kind !== "open-by-host")
    );
  }

  /** Runs the work for so long, and leaves no connection behind. */
  async run(work: Work, durationMs: number): Promise<{ reading: Reading; effort: Effort }> {
    const { guest, host, progress, device } = this.#parts;
    progress.reset();
    const clock = new EffortClock({ device: device?.pid, driver: guest.pid, host: host.pid });
    try {
      const measured = await this.#measure(work, durationMs);
      const effort = clock.stop(measured.seconds);
      await guest.ask({ do: "hang-up" });
      await host.ask({ do: "hang-up" });
      return { reading: measured.reading(effort), effort };
    } catch (cause) {
      const said = device === undefined || device.said === "" ? "" : `; it said: ${device.said}`;
      throw new Error(`${this.side}, ${JSON.stringify(work)}: ${String(cause)}${said}`, { cause });
    }
  }

  async #measure(work: Work, durationMs: number): Promise<Measured> {
    switch (work.kind) {
      case "to-host":
        return this.#toHost(work, durationMs);
      case "to-guest":
        return this.#toGuest(work, durationMs);
      case "round-trip":
        return this.#roundTrip(work.messageBytes, durationMs);
      case "open-by-guest":
        return this.#openByGuest(work.atATime, work.row, durationMs);
      case "open-by-host":
        return this.#openByHost(work.atATime, work.row, durationMs);
    }
  }

  /** A fresh place where the host's program listens, and how the guest's reaches it. */
  async #hostListens(): Promise<{ to: { port: number } | { path: string }; port: number }> {
    const { host, device, folder } = this.#parts;
    const port = 1024 + this.#ports++;
    const path = device === undefined ? `${folder}/host${port}` : `${device.udsPath}_${port}`;
    await host.ask({ do: "listen", path });
    return { to: device === undefined ? { path } : { port }, port };
  }

  async #toHost(work: Extract<Work, { kind: "to-host" }>, durationMs: number): Promise<Measured> {
    const { guest, host } = this.#parts;
    const { connections, messageBytes, rows } = work;
    const { to } = await this.#hostListens();
    const [sent, got] = await this.#both(
      guest.ask({ do: "send", to, connections, messageBytes, durationMs }),
      host.ask({ do: "receive", connections, snapshotMs: durationMs * 0.9 }),
    );
    const slowest =
      rows.slowest === undefined ? {} : { [rows.slowest]: smallestShare(got.perConnection ?? []) };
    return streamed(rows, sent, got, slowest);
  }

  async #toGuest(work: Extract<Work, { kind: "to-guest" }>, durationMs: number): Promise<Measured> {
    const { guest, host, device, folder } = this.#parts;
    const { messageBytes, rows } = work;
    const bare = `${folder}/guest${this.#ports++}`;
    if (device === undefined) await guest.ask({ do: "listen", path: bare });
    const target = device === undefined ? { path: bare } : { path: device.udsPath, port: GUEST_PORT };
    const [sent, got] = await this.#both(
      host.ask({ do: "send", ...target, messageBytes, durationMs }),
      guest.ask({ do: "receive" }),
    );
    return streamed(rows, sent, got);
  }

  async #roundTrip(messageBytes: number, durationMs: number): Promise<Measured> {
    const { guest, host } = this.#parts;
    const { to } = await this.#hostListens();
    const echoing = host.ask({ do: "echo" });
    const pinged = await guest.ask({ do: "ping", to, messageBytes, durationMs });
    await guest.ask({ do: "hang-up" });
    await echoing;
    const latencies = pinged.latenciesUs ?? [];
    return {
      seconds: seconds(pinged, pinged),
      reading: () => ({
        "rtt-64-median": percentile(latencies, 0.5),
        "rtt-64-p99": percentile(latencies, 0.99),
      }),
    };
  }

  async #openByGuest(atATime: number, row: RowName, durationMs: number): Promise<Measured> {
    const { guest, host, progress } = this.#parts;
    const { port } = await this.#hostListens();
    const accepting = host.ask({ do: "accept" });
    const opened = await guest.ask({ do: "open", port, atATime, durationMs }).finally(() => progress.end(0));
    await accepting;
    return counted(row, opened);
  }

  async #openByHost(atATime: number, row: RowName, durationMs: number): Promise<Measured> {
    const { guest, host, progress, device } = this.#parts;
    const path = device?.udsPath ?? "";
    const accepting = guest.ask({ do: "accept" });
    const opened = await host
      .ask({ do: "open", path, port: GUEST_PORT, atATime, durationMs })
      .finally(() => progress.end(0));
    await accepting;
    return counted(row, opened);
  }

  /** Whoever fails says so, and the other one is not left waiting. */
  async #both(sending: Promise<Outcome>, receiving: Promise<Outcome>): Promise<[Outcome, Outcome]> {
    const { progress } = this.#parts;
    const giveUp = (): void => progress.end(0);
    sending.catch(giveUp);
    receiving.catch(giveUp);
    const [sent, got] = await Promise.all([sending, receiving]);
    if (sent.count !== got.count) throw new Error(`${sent.count} bytes were sent, and ${got.count} came`);
    return [sent, got];
  }
}

function streamed(rows: StreamRows, sent: Outcome, got: Outcome, more: Reading = {}): Measured {
  const taken = seconds(sent, got);
  return {
    seconds: taken,
    reading: ({ deviceSeconds }) => ({
      [rows.rate]: got.count / MIB / taken,
      ...(rows.cpu === undefined || deviceSeconds === 0
        ? {}
        : { [rows.cpu]: deviceSeconds / (got.count / GIB) }),
      ...more,
    }),
  };
}

function counted(row: RowName, opened: Outcome): Measured {
  const taken = seconds(opened, opened);
  return { seconds: taken, reading: () => ({ [row]: opened.count / taken }) };
}

function seconds(sent: Outcome, got: Outcome): number {
  return (got.endedNs - sent.beganNs) / 1e9;
}
