/** What docs/profiles.md says: the schema of profile files, printed. Must not know where the page is. */
import {
  type Description,
  type FormDescription,
  type KeyDescription,
  PROFILE_DESCRIPTION,
  PROFILE_RULES,
} from "../src/profiles/schema/index.js";

const HEAD = `# Profiles

A profile describes one party of a virtio-vsock session as data: a guest, a VMM or a device. \`bit33 compat\` plays what it
says. The built-in ones are files of the same form, in \`profiles/\`; \`bit33 compat --list\` names them, and
\`bit33 compat --dump NAME\` prints one, which is the best way to begin one's own:

    bit33 compat --dump qemu-10.0 > my-vmm.yaml
    bit33 compat --vmm ./my-vmm.yaml

Give what is changed another \`name\`. The profile that was printed may have been checked against its program, and the
changed one was not: \`evidence: executed\` in a file that differs from the built-in one counts as \`derived\`.

A word with a slash in it, or ending in \`.yaml\` or \`.yml\`, is taken for a file, any other for a built-in profile's name.
\`--guest\` and \`--device\` take files in the same way. A mistake in a file is reported with its line and column.

This page is made from the schema in \`src/profiles/schema/\` by \`npm run docs\`.

## How values are written

The files are YAML. Switches are \`true\` or \`false\`; \`yes\`, \`no\`, \`on\` and \`off\` are texts in YAML 1.2, and refused here.
A text with \`: \` or \` #\` in it needs quotes.

Features are lists of names, as \`bit33 features --list\` prints them, with or without the prefix of the constant
(\`VERSION_1\`, \`VIRTIO_F_VERSION_1\`). \`bit 45\` stands for a bit without a name, and \`bits 0-17\` for all of those from 0
to 17: \`[VERSION_1, EVENT_IDX, bit 45]\`, \`[bits 0-17]\`, or \`[]\` for none.`;

const EXAMPLE_HEAD = `## An example

This VMM is nobody's ([examples/my-vmm.yaml](examples/my-vmm.yaml)). It takes the two meanings of bit 33 for one: it
offers the bit so that a protected guest uses its DMA API, and hands on what the guest acknowledges.`;

const EXAMPLE_TAIL = `    bit33 compat --vmm docs/examples/my-vmm.yaml --guest restricted-dma

shows which devices then look up ring addresses in an IOTLB that nobody fills.`;

/** @param example the text of docs/examples/my-vmm.yaml */
export function profilesPage(example: string): string {
  const { key, forms } = kinds();
  const shared = forms[0].keys.filter((each) =>
    forms.every(({ keys }) => keys.some((other) => isSame(each, other))),
  );
  const known = new Set([key, ...shared.map((each) => each.key)]);
  const words = forms.map(({ word }) => `\`${word}\``).join(", ");
  const parts = [
    HEAD,
    EXAMPLE_HEAD,
    `\`\`\`yaml\n${example}\`\`\``,
    EXAMPLE_TAIL,
    "## Every profile",
    [`- \`${key}\`: What the file describes. One of ${words}.`, ...listed(shared)].join("\n"),
    ...forms.map((form) => kindSection(form, known)),
  ];
  return `${parts.join("\n\n")}\n`;
}

function kinds(): { readonly key: string; readonly forms: readonly FormDescription[] } {
  if (PROFILE_DESCRIPTION.kind !== "variants") throw new Error("a profile is one of several kinds");
  return PROFILE_DESCRIPTION;
}

function isSame(one: KeyDescription, other: KeyDescription): boolean {
  return one.key === other.key && one.description === other.description;
}

/** @param known the keys that every profile has */
function kindSection({ word, help, keys }: FormDescription, known: ReadonlySet<string>): string {
  const rules = PROFILE_RULES[word as keyof typeof PROFILE_RULES].map((rule) => `- ${sentence(rule)}`);
  return [
    `## \`profile: ${word}\``,
    help,
    listed(keys.filter(({ key }) => !known.has(key))).join("\n"),
    `Values that contradict each other are refused:\n\n${rules.join("\n")}`,
  ].join("\n\n");
}

function listed(keys: readonly KeyDescription[]): string[] {
  return keys.flatMap((key) => keyLines(key, ""));
}

/** A key as an item of a list, with what it may hold below it. */
function keyLines({ key, help, ifAbsent, description }: KeyDescription, indent: string): string[] {
  const absent = ifAbsent === undefined ? "" : ` If left out: ${ifAbsent}.`;
  const head = `${indent}- \`${key}\`: ${help}${absent}${formOf(description)}`;
  const below = details(description, `${indent}  `);
  return [below.length === 0 ? head : head.replace(/\.$/, ":"), ...below];
}

/** How the value is written, where what stands below the key does not say it. */
function formOf(description: Description): string {
  switch (description.kind) {
    case "value":
    case "list":
      return ` ${sentence(description.notation)}`;
    case "choice":
      return " One word.";
    case "map":
      return " A map.";
    case "variants":
      return ` A map, whose form \`${description.key}\` says.`;
  }
}

function details(description: Description, indent: string): string[] {
  switch (description.kind) {
    case "value":
      return [];
    case "list":
      return details(description.item, indent);
    case "choice":
      return Object.entries(description.meanings).map(
        ([word, meaning]) => `${indent}- \`${word}\`: ${meaning}`,
      );
    case "map":
      return description.keys.flatMap((key) => keyLines(key, indent));
    case "variants":
      return description.forms.flatMap(({ word, help, keys }) => [
        `${indent}- \`${description.key}: ${word}\`: ${help}`,
        ...keys.filter(({ key }) => key !== description.key).flatMap((key) => keyLines(key, `${indent}  `)),
      ]);
  }
}

function sentence(text: string): string {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}
