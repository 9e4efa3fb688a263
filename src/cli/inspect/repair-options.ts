/** The repairs of `bit33 inspect`, from its command line: names become bits here. Must not know what is done with them. */
import type { Repairs } from "../../inspect/repair/repairs.js";
import {
  FEATURE_WORD_BITS,
  featuresNamed,
  mask,
  type NamedFeature,
  nearNames,
  protocolFeatures,
  virtioFeatures,
} from "../../virtio/index.js";
import type { GivenOption, OptionTable } from "../options.js";
import { UsageError } from "../usage-error.js";

export const REPAIR_OPTIONS = {
  "mask-feature": {
    argument: "NAME[:ack|:offer]",
    repeatable: true,
    help: "take a feature out of what the front-end acknowledges (the default), or out of what the back-end offers",
  },
  "add-feature": {
    argument: "NAME[:offer|:ack]",
    repeatable: true,
    help: "offer a feature that the back-end does not know and will not hear of (the default), or acknowledge one",
  },
  "mask-protocol-feature": {
    argument: "NAME",
    repeatable: true,
    help: "take a protocol feature out of what the back-end offers",
  },
  "serve-iotlb": {
    help: "map all memory in the place of a front-end that acknowledges bit 33 and maps nothing",
  },
} as const satisfies OptionTable;
type RepairOption = keyof typeof REPAIR_OPTIONS;

/** Which end's word a change is for. */
type Side = "ack" | "offer";

export function readRepairs(given: readonly GivenOption<string>[]): Repairs {
  const of = (name: RepairOption): GivenOption<string>[] => given.filter((option) => option.name === name);
  const virtio = (name: RepairOption, side: Side, usual: Side): bigint =>
    of(name)
      .map((option) => ({ option, ...split(option, usual) }))
      .filter((change) => change.side === side)
      .reduce(
        (word, { option, feature }) => word | mask(bitOf(option, feature, virtioFeatures("vsock"))),
        0n,
      );
  return {
    maskAcknowledged: virtio("mask-feature", "ack", "ack"),
    maskOffered: virtio("mask-feature", "offer", "ack"),
    addAcknowledged: virtio("add-feature", "ack", "offer"),
    addOffered: virtio("add-feature", "offer", "offer"),
    maskProtocol: of("mask-protocol-feature").reduce(
      (word, option) => word | mask(bitOf(option, option.value, protocolFeatures())),
      0n,
    ),
    serveIotlb: of("serve-iotlb").length > 0,
  };
}

function split(
  { typed, value }: GivenOption<string>,
  usual: Side,
): { readonly feature: string; readonly side: Side } {
  const [feature, side = usual, ...rest] = value.split(":");
  if (rest.length === 0 && (side === "ack" || side === "offer")) return { feature, side };
  throw new UsageError(
    "word-malformed",
    `${typed} ${value}: behind the name comes :ack or :offer, or nothing`,
  );
}

function bitOf({ typed }: GivenOption<string>, name: string, features: readonly NamedFeature[]): number {
  const number = /^(?:bit)?(\d+)$/i.exec(name);
  if (number !== null && Number(number[1]) < FEATURE_WORD_BITS) return Number(number[1]);
  const found = featuresNamed(name, features);
  if (found.length === 1) return found[0].bit;
  if (found.length > 1) {
    const bits = found.map(({ bit }) => `bit${bit}`).join(" and ");
    throw new UsageError(
      "feature-unknown",
      `${typed} ${name}: the name stands for ${bits}; write one of them`,
    );
  }
  const near = nearNames(name, features);
  const hint =
    near.length > 0 ? `; did you mean ${near.join(" or ")}?` : "; bit33 features --list prints all names";
  throw new UsageError("feature-unknown", `${typed} ${name}: there is no such feature${hint}`);
}
