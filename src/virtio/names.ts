/**
 * Finds features by any of their names, present, former or somebody else's, and the names near one that does
 * not exist. Must not know which word the features belong to.
 */

import { editDistance } from "../config/suggest.js";
import type { NamedFeature } from "./registry.js";

/** A constant's name ends its prefix with `_F_`: `VIRTIO_F_`, `VIRTIO_VSOCK_F_`, `VHOST_USER_PROTOCOL_F_`. */
const PREFIX = /^(?:VIRTIO|VHOST)(?:_[A-Z]+)*?_F_/;

const MOST_SUGGESTIONS = 3;
/** A shorter word is a part of too many names to mean one of them. */
const SHORTEST_PART = 4;

/** Every feature that bears the name, with or without its prefix; two may, as VIRTIO_F_SUSPEND shows. */
export function featuresNamed(typed: string, features: readonly NamedFeature[]): readonly NamedFeature[] {
  const wanted = typed.toUpperCase();
  return features.filter((feature) => namesOf(feature).includes(wanted));
}

/** Up to three present names like the one typed, nearest first; else those that it is a part of. */
export function nearNames(typed: string, features: readonly NamedFeature[]): readonly string[] {
  const wanted = typed.toUpperCase().replace(PREFIX, "");
  const furthest = Math.max(1, Math.floor(wanted.length / 3));
  const ranked = features.flatMap((feature) => {
    const names = namesOf(feature).map((name) => name.replace(PREFIX, ""));
    const distance = Math.min(...names.map((name) => editDistance(wanted, name)));
    if (distance <= furthest) return [{ name: feature.name, rank: distance }];
    const isPart = wanted.length >= SHORTEST_PART && names.some((name) => name.includes(wanted));
    return isPart ? [{ name: feature.name, rank: furthest + 1 }] : [];
  });
  const best = Math.min(...ranked.map(({ rank }) => rank));
  return ranked
    .filter(({ rank }) => rank <= best + 1)
    .sort((a, b) => a.rank - b.rank)
    .slice(0, MOST_SUGGESTIONS)
    .map(({ name }) => name);
}

/** A name as it stands in a source file: with the feature's prefix, unless it has one of its own. */
export function wholeName(feature: NamedFeature, name: string): string {
  return PREFIX.test(name) ? name : `${prefixOf(feature)}${name}`;
}

function prefixOf({ symbol }: NamedFeature): string {
  return PREFIX.exec(symbol)?.[0] ?? "";
}

function namesOf(feature: NamedFeature): readonly string[] {
  const { name, symbol, formerNames = [], otherNames = [] } = feature;
  const whole = [name, symbol, ...formerNames, ...otherNames];
  const bare = whole.map((each) => each.replace(PREFIX, ""));
  return [...whole, ...bare, ...bare.map((each) => prefixOf(feature) + each)];
}
