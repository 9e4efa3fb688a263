/**
 * How an observation looks: a line a session while it runs, a table of all of them, and JSON. Must not know how it
 * was made.
 */
import type { Evidence } from "../../observe/evidence.js";
import type { SessionFacts } from "../../observe/facts.js";
import type { Play } from "../../observe/offers.js";
import { bitsOf, hex } from "../../virtio/index.js";

const MACHINES = { plain: "", viommu: ", behind a vIOMMU" } as const;

export function beginLine({ offer, machine }: Play, number: number, of: number): string {
  return `session ${number} of ${of}: offering ${offer.title}${MACHINES[machine]}`;
}

export function endLine(facts: SessionFacts): string {
  return `  ${outcomeWords(facts)}`;
}

function outcomeWords(facts: SessionFacts): string {
  const { outcome, says } = facts.record;
  switch (outcome) {
    case "started":
      return `started: ${startWords(facts)}`;
    case "ended-as-planned":
      return `took protocol features ${word(facts.protocolFeatures)}`;
    case "left":
      return `left ${facts.features === undefined ? "before the guest's driver was ready" : "instead of starting"}: ${says}`;
    case "silent":
      return "stayed, and did not start its rings in time";
    case "malformed":
      return `sent what is not vhost-user: ${says}`;
    case "absent":
      return `did not come: ${says}`;
  }
}

function startWords(facts: SessionFacts): string {
  const { queues, iotlb, guestAnswered, unexpectedMiss } = facts;
  const words = [`features ${word(facts.features)}`, `${queues} rings at ${addressWords(facts)} addresses`];
  if (iotlb.unasked + iotlb.misses + iotlb.invalidations > 0) words.push(iotlbWords(facts));
  words.push(guestAnswered ? "the guest answers" : "no answer of the guest");
  if (unexpectedMiss !== undefined) words.push(`a MISS is ${MISS_WORDS[unexpectedMiss]}`);
  return words.join(", ");
}

const MISS_WORDS = { ignored: "ignored", refused: "refused", dies: "its end", answered: "answered" } as const;

function addressWords({ ringAddresses }: SessionFacts): string {
  return [...new Set(ringAddresses)].join(" and ") || "no";
}

function iotlbWords({ iotlb: { unasked, misses, answers, invalidations } }: SessionFacts): string {
  return `UPDATE unasked ${unasked}, MISS answered ${answers} of ${misses}, INVALIDATE ${invalidations}`;
}

function word(value: bigint | undefined): string {
  return value === undefined ? "none" : hex(value);
}

/** One row a session. */
export function table(all: readonly SessionFacts[]): string {
  const head = ["", "offered", "machine", "outcome", "features back", "rings", "IOTLB u/m/a/i"];
  const rows = all.map((facts) => {
    const { record, features, iotlb } = facts;
    return [
      String(record.number),
      record.offer.title,
      record.machine === "viommu" ? "vIOMMU" : "plain",
      OUTCOMES[record.outcome],
      features === undefined ? "-" : hex(features),
      [...new Set(facts.ringAddresses)].join("+") || "-",
      record.outcome === "started"
        ? [iotlb.unasked, iotlb.misses, iotlb.answers, iotlb.invalidations].join("/")
        : "-",
    ];
  });
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column].length)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.padEnd(widths[column]))
      .join("  ")
      .trimEnd();
  return [
    line(head),
    ...rows.map(line),
    "(IOTLB: UPDATEs unasked / MISSes sent / answered / INVALIDATEs)",
  ].join("\n");
}

const OUTCOMES = {
  started: "started",
  "ended-as-planned": "answered",
  left: "left",
  silent: "silent",
  malformed: "malformed",
  absent: "absent",
} as const;

/** One object a session, all its messages with it. */
export function sessionJson(facts: SessionFacts): string {
  const { record, iotlb } = facts;
  return JSON.stringify({
    kind: "session",
    session: record.number,
    offer: record.offer.id,
    machine: record.machine,
    offered: { features: hex(record.offer.features), protocolFeatures: hex(record.offer.protocolFeatures) },
    outcome: record.outcome,
    ...(record.says === undefined ? {} : { says: record.says }),
    acknowledged: {
      features: facts.features === undefined ? null : hex(facts.features),
      protocolFeatures: facts.protocolFeatures === undefined ? null : hex(facts.protocolFeatures),
    },
    ringAddresses: facts.ringAddresses,
    queues: facts.queues,
    iotlb,
    guestAnswered: facts.guestAnswered,
    unexpectedMiss: facts.unexpectedMiss ?? null,
    messages: record.transcript.entries.map(
      ({ atMs, from, on, text }) =>
        `${atMs.toFixed(1)} ${from}${on === "channel" ? " (channel)" : ""}: ${text}`,
    ),
  });
}

/** One object a field of the profile. Feature words are lists of bit numbers. */
export function evidenceJson({ field, value, certainty, because, fits }: Evidence): string {
  const plain = (_key: string, part: unknown): unknown => (typeof part === "bigint" ? bitsOf(part) : part);
  const known = value === undefined ? null : value;
  return JSON.stringify(
    { kind: "field", field, value: known, certainty, because, ...(fits && { fits }) },
    plain,
  );
}
