/**
 * What docs/observe.md says: how a profile is observed, which offers are played, and what of each field they can show.
 * Must not know where the file is.
 */
import { FIELD_NAMES, FIELDS } from "../src/observe/fields.js";
import { playsFor } from "../src/observe/offers.js";
import { yamlKey } from "../src/profiles/schema/shape.js";

const HEAD = `# Observing a VMM

\`bit33 observe\` plays vhost-user back-ends to a real front-end and writes a [VMM profile](profiles.md) from what that
does, for \`bit33 compat --vmm\`:

\`\`\`
bit33 observe --socket /tmp/o.sock --out my-vmm.yaml --name my-vmm \\
  --exec 'exec qemu-system-x86_64 … -chardev socket,id=c,path=/tmp/o.sock \\
          -device vhost-user-vsock-pci,chardev=c,iommu_platform=on' \\
  --exec-viommu 'exec qemu-system-x86_64 … -device virtio-iommu-pci -chardev socket,id=c,path=/tmp/o.sock \\
          -device vhost-user-vsock-pci,chardev=c,iommu_platform=on'
bit33 compat --vmm ./my-vmm.yaml
\`\`\`

The guest is whatever the command boots. It needs a virtio-vsock driver that knows bit 33, as Linux has it; it needs no
program, since a connection request to a port where nobody listens has to be answered by the driver itself. The two
machines have to be the same but for the vIOMMU, with bit 33 switched on in both (QEMU: \`iommu_platform=on\`). Each
command is started afresh for each session, in a process group of its own that is ended afterwards. Without \`--exec\`
the front-end is started by hand whenever the program asks for it; what it says is then not known, only that it left.

This page is made from the tables in \`src/observe\` by \`npm run docs\`.

## What is offered`;

const AFTER_OFFERS = `A session ends once the rings run and what could be tried then was tried: the guest's answer to a packet; behind a
vIOMMU a MISS for each page that the device needs, and the INVALIDATE that has to follow when the guest takes its buffers
back; without one a MISS that the front-end cannot expect.

What a front-end refuses is found by comparison: the fewest conditions that hold for an offer at which it left, and for none
that it took.

## What is known of each field

What the guest was offered cannot be seen, only what came back of it. So a field gets every value that fits what was seen;
if it is several, the comment in the file names them, and the value is the one that \`--base PROFILE\` has, or the
likeliest. What nothing shows is taken from the base too, or assumed, and the comment says so. For bit 33, every rule by
which a VMM may offer it and every rule by which it may pass it on are tried together on every machine that the user may
have set up; those that predict all sessions fit.`;

const END = `## Limits

- A bit that the guest does not know never comes back, so nothing is known of it. \`offer.passed\` has what came back.
- Bit 33 that follows the device's offer has two explanations, the offer to the guest and the passing of its answer; a
  second profile as the base decides between them.
- Whether INVALIDATEs are lost in the guest's lazy mode shows only if the guest is in that mode.
- Packed rings are negotiated if the front-end offers them, and then not served: no traffic in that session.
- A front-end that uses guest-physical ring addresses is recognised, and not served either.
- QEMU answers a MISS whether or not there is a vIOMMU, so \`iotlb.unexpected-miss\`, which is about VMMs that answer
  none, stays open for it.

\`--json\` prints the sessions, with every message, and the fields, one object a line: \`certainty\` is \`seen\`, \`fits\` or
\`not-seen\`.`;

export function observePage(): string {
  const offers = playsFor({ viommu: true }, new Set(["minimal"])).map(
    ({ offer, machine }) =>
      `| ${offer.title} | ${machine === "viommu" ? "with a vIOMMU" : "without"} | ${note(offer)} |`,
  );
  const fields = FIELD_NAMES.map(
    (name) =>
      `| \`${name.split(".").map(yamlKey).join(".")}\` | ${FIELDS[name].shownBy ?? "nothing: from the base, or assumed"} |`,
  );
  const offerTable = ["| offer | machine | |", "|---|---|---|", ...offers].join("\n");
  const fieldTable = ["| field | shown by |", "|---|---|", ...fields].join("\n");
  return `${[HEAD, offerTable, AFTER_OFFERS, fieldTable, END].join("\n\n")}\n`;
}

function note({ until, ifLeft }: ReturnType<typeof playsFor>[number]["offer"]): string {
  if (until === "protocol-features") return "ends with the answer, before the guest boots";
  return ifLeft === undefined ? "" : "only if it leaves at the third";
}
