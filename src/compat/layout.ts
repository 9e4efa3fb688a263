/**
 * How a matrix is laid out, whatever it is drawn with: a block a guest; in it a grid for each way to reach a device, of
 * the VMMs and devices of which any pair ran; and the reasons of everything that did not. Pure.
 */
import type { Cell, CellRecord } from "./record.js";

export type Transport = CellRecord["config"]["transport"];

export interface Grid {
  readonly transport: Transport;
  /** Rows. */
  readonly vmms: readonly string[];
  /** Columns. */
  readonly devices: readonly string[];
  at(vmm: string, device: string): Cell | undefined;
}

/** Why some combinations do not apply. */
export interface Absence {
  /** VMMs that are not in any grid, or pairs that are points in one. */
  readonly whom: readonly string[];
  readonly reason: string;
}

export interface Block {
  readonly guest: string;
  readonly grids: readonly Grid[];
  readonly absences: readonly Absence[];
}

export function layOut(cells: readonly Cell[]): Block[] {
  const reach = new Reach(cells);
  return unique(cells.map(({ guest }) => guest)).map((guest) => {
    const own = cells.filter((cell) => cell.guest === guest);
    const grids = (["kernel", "vhost-user"] as const).flatMap(
      (transport) => gridOf(transport, own, reach) ?? [],
    );
    return { guest, grids, absences: absencesOf(own, grids, reach) };
  });
}

/** What the cells that ran tell about who can reach whom, whichever guest it was. */
class Reach {
  readonly #transports = new Map<string, Transport>();
  readonly #devices = new Set<string>();

  constructor(cells: readonly Cell[]) {
    for (const cell of cells) {
      if (cell.verdict === null) continue;
      this.#transports.set(cell.vmm, cell.config.transport);
      this.#devices.add(`${cell.config.transport} ${cell.device}`);
    }
  }

  transportOf(vmm: string): Transport | undefined {
    return this.#transports.get(vmm);
  }

  /** If they did not run together, then because of the guest. */
  reaches({ vmm, device }: Cell): boolean {
    return this.#devices.has(`${this.transportOf(vmm)} ${device}`);
  }
}

function gridOf(transport: Transport, cells: readonly Cell[], reach: Reach): Grid | undefined {
  const ran = cells.filter((cell) => cell.verdict !== null && reach.transportOf(cell.vmm) === transport);
  if (ran.length === 0) return undefined;
  const vmms = unique(ran.map(({ vmm }) => vmm));
  const devices = unique(cells.map(({ device }) => device)).filter((name) =>
    ran.some(({ device }) => device === name),
  );
  const byPair = new Map(cells.map((cell) => [`${cell.vmm}/${cell.device}`, cell]));
  return { transport, vmms, devices, at: (vmm, device) => byPair.get(`${vmm}/${device}`) };
}

function absencesOf(cells: readonly Cell[], grids: readonly Grid[], reach: Reach): Absence[] {
  const byReason = new Map<string, Set<string>>();
  const add = (reason: string, whom: string) => {
    byReason.set(reason, (byReason.get(reason) ?? new Set()).add(whom));
  };
  for (const vmm of unique(cells.map((cell) => cell.vmm))) {
    const row = cells.filter((cell) => cell.vmm === vmm);
    const grid = grids.find(({ vmms }) => vmms.includes(vmm));
    if (grid === undefined) {
      const reachable = row.filter((cell) => reach.reaches(cell));
      // Without its name, so that VMMs that lack the same stand in one line.
      for (const { reason } of reachable.length === 0 ? row : reachable)
        add(reason.replaceAll(vmm, "this VMM"), vmm);
      continue;
    }
    for (const { verdict, device, reason } of row) {
      if (verdict === null && grid.devices.includes(device)) add(reason, `${vmm} with ${device}`);
    }
  }
  return [...byReason].map(([reason, whom]) => ({ whom: [...whom], reason }));
}

export function unique(values: readonly string[]): string[] {
  return [...new Set(values)];
}
