/**
 * How a decoded feature word looks: for reading in 80 columns, and as one JSON object a bit. Must not know how
 * it was decoded.
 */

import { hex, mask, type NamedFeature, wholeName } from "../../virtio/index.js";
import { labelled, paragraph } from "../paragraph.js";
import type { Dictionary } from "./dictionary.js";
import type { DecodedBit, Query } from "./query.js";

const INDENT = "    ";
const LABEL_WIDTH = "vhost(-user)  ".length;
const LIST_MARGIN = "* 33  ".length;

/** One argument's answer. */
export function report(query: Query, dictionary: Dictionary): string {
  return [heading(query, dictionary), ...query.bits.map((bit) => details(bit, dictionary))].join("\n\n");
}

/** The whole dictionary, a line or two a bit. */
export function listing({ kind, title, carriedBy, all }: Dictionary): string {
  const width = LIST_MARGIN + 2 + Math.max(...all.map(({ name }) => name.length));
  const rows = all.map((feature) => {
    const mark = feature.disagreement === undefined ? " " : "*";
    const label = `${mark} ${String(feature.bit).padStart(2)}  ${feature.name}`;
    return labelled(label, summary(feature), "", width);
  });
  const command = `bit33 features NAME${kind === "virtio" ? "" : ` --${kind}`}`;
  const legend = `* read differently by different parties; ${command} says how`;
  const isMarked = all.some(({ disagreement }) => disagreement !== undefined);
  const lines = [paragraph(`${capital(title)} (${carriedBy})`, ""), "", ...rows];
  return [...lines, ...(isMarked ? ["", legend] : [])].join("\n");
}

/** One line for a bit: everything that the registry has, with the argument that it answers. */
export function jsonLine(decoded: DecodedBit, dictionary: Dictionary, query?: Query): string {
  const { bit, feature } = decoded;
  return JSON.stringify({
    ...(query === undefined ? {} : { input: query.typed, value: hex(query.value) }),
    word: dictionary.kind,
    ...(dictionary.deviceType === undefined ? {} : { deviceType: dictionary.deviceType }),
    bit,
    mask: hex(mask(bit)),
    known: feature !== undefined,
    ...(feature === undefined
      ? { note: dictionary.unknown(bit) }
      : { ...feature, meaningsDiffer: feature.disagreement !== undefined }),
  });
}

function heading(query: Query, dictionary: Dictionary): string {
  const { typed, value, bits, form } = query;
  if (form !== "word") {
    const numbers = bits.map(({ bit }) => `bit ${bit} (${hex(mask(bit))})`).join(" and ");
    const warning = bits.length > 1 ? ": one name for two numbers" : "";
    return paragraph(`${typed} in the ${dictionary.title}: ${numbers}${warning}`, "");
  }
  const count = bits.length === 1 ? "1 bit" : `${bits.length === 0 ? "no" : bits.length} bits`;
  const lines = [`${hex(value)}, ${dictionary.title}: ${count} set`];
  const names = bits.map(({ bit, feature }) => feature?.name ?? `bit${bit}`);
  if (bits.length > 1) lines.push(paragraph(names.join(" "), "  "));
  const parted = bits.flatMap(({ bit, feature }) =>
    feature?.disagreement === undefined ? [] : [`${feature.name} (${bit})`],
  );
  if (parted.length > 0)
    lines.push(paragraph(`Read differently by different parties: ${parted.join(", ")}.`, ""));
  if (bits.length > 0 && /^\d{1,2}$/.test(typed) && value < 64n) {
    lines.push(paragraph(`(${typed} is taken for a word; bit ${typed} alone is "bit${typed}".)`, ""));
  }
  return lines.join("\n");
}

function details({ bit, feature }: DecodedBit, dictionary: Dictionary): string {
  if (feature === undefined) {
    return `${labelledBit(bit, "unknown")}\n${paragraph(dictionary.unknown(bit), INDENT)}`;
  }
  const rows = [labelledBit(bit, `${feature.name}  (${feature.symbol})`)];
  const add = (label: string, ...texts: readonly (string | undefined)[]) => {
    for (const [index, text] of texts.entries()) {
      if (text !== undefined) rows.push(labelled(index === 0 ? label : "", text, INDENT, LABEL_WIDTH));
    }
  };
  const whole = (names: readonly string[] | undefined) =>
    names?.map((name) => wholeName(feature, name)).join(", ");
  add("formerly", whole(feature.formerNames));
  add("elsewhere", whole(feature.otherNames));
  if (feature.nonstandard === true) add("standing", "assigned by no specification");
  for (const [label, meaning] of meanings(feature, dictionary)) add(label, meaning);
  add("DIFFERS", feature.disagreement);
  add("history", ...(feature.history ?? []));
  add("source", feature.source);
  return rows.join("\n");
}

function meanings(
  feature: NamedFeature,
  { kind }: Dictionary,
): [label: string, meaning: string | undefined][] {
  const { toGuest, toVhostKernel, toVhostUser } = feature;
  // Words that only two programs exchange have one reader.
  if (kind !== "virtio") return [["means", toVhostUser ?? toVhostKernel]];
  if (toVhostKernel === toVhostUser) {
    return [
      ["guest", toGuest],
      ["vhost(-user)", toVhostUser],
    ];
  }
  return [
    ["guest", toGuest],
    ["vhost", toVhostKernel],
    ["vhost-user", toVhostUser],
  ];
}

function summary(feature: NamedFeature): string {
  const { toGuest, toVhostKernel, toVhostUser, formerNames, otherNames } = feature;
  const aside = [
    ...(formerNames === undefined ? [] : [`was ${formerNames.join(", ")}`]),
    ...(otherNames === undefined ? [] : [`also ${otherNames.join(", ")}`]),
  ];
  // To a guest a bit of vhost's own means nothing.
  const isOfVhost = feature.symbol.startsWith("VHOST_");
  const meaning = (isOfVhost ? undefined : toGuest) ?? toVhostUser ?? toVhostKernel ?? "";
  return aside.length === 0 ? meaning : `${meaning} (${aside.join("; ")})`;
}

function labelledBit(bit: number, text: string): string {
  return labelled(String(bit).padStart(2), text, "", INDENT.length);
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
