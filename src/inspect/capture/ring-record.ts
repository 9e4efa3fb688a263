/**
 * What a capture says of rings besides their packets, as JSON text behind the header of link-header.ts: what was wrong in
 * one, and at the end of a session what each of them carried. Packets themselves are in vsockmon.ts.
 */
import {
  noTraffic,
  RING_FAULT_KINDS,
  type RingFault,
  type RingTraffic,
  type SessionTraffic,
} from "../rings/traffic.js";

export type RingRecord =
  | { readonly fault: Omit<RingFault, "timeNs"> }
  | { readonly traffic: readonly (RingTraffic & { readonly ring: number })[] };

export function faultRecord({ ring, kind, text }: RingFault): RingRecord {
  return { fault: { ring, kind, text } };
}

export function trafficRecord(traffic: SessionTraffic): RingRecord {
  return { traffic: [...traffic].map(([ring, figures]) => ({ ring, ...figures })) };
}

export function encodeRingRecord(record: RingRecord): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(record));
}

/** The record, or undefined if it is none that is known here. */
export function decodeRingRecord(bytes: Uint8Array): RingRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
  if (!isObject(value)) return undefined;
  if (Array.isArray(value.traffic)) return decodeTraffic(value.traffic);
  if (!isObject(value.fault)) return undefined;
  const { ring, kind, text } = value.fault;
  const known = RING_FAULT_KINDS.find((each) => each === kind);
  if (!isCount(ring) || known === undefined || typeof text !== "string") return undefined;
  return { fault: { ring, kind: known, text } };
}

function decodeTraffic(rings: readonly unknown[]): RingRecord | undefined {
  const names = Object.keys(noTraffic()) as (keyof RingTraffic)[];
  const traffic: (RingTraffic & { ring: number })[] = [];
  for (const each of rings) {
    if (!isObject(each) || !isCount(each.ring)) return undefined;
    const figures = { ring: each.ring, ...noTraffic() };
    for (const name of names) {
      const figure = each[name];
      if (!isCount(figure)) return undefined;
      figures[name] = figure;
    }
    traffic.push(figures);
  }
  return { traffic };
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
