/**
 * The help texts, laid out from the option tables, so that an option cannot exist without being explained.
 * Must not know what the options do.
 */

import type { OptionTable } from "./options.js";
import { MANY_VMS_OPTIONS, PROCESS_OPTIONS, SINGLE_VM_OPTIONS } from "./serve-options.js";

export function programHelp(commands: Readonly<Record<string, { readonly summary: string }>>): string {
  const rows = Object.entries(commands).map(([name, { summary }]): [string, string] => [name, summary]);
  return [
    "bit33: a vhost-user-vsock device whose IOTLB is decided apart from virtio feature bit 33",
    "",
    "Usage: bit33 COMMAND [OPTION...]",
    "",
    "Commands:",
    ...twoColumns(rows),
    "",
    "With options but no command, bit33 serves, as vhost-user back-end programs do.",
    "",
    "Options:",
    ...optionRows({ help: PROCESS_OPTIONS.help, version: PROCESS_OPTIONS.version }),
    "",
    "bit33 COMMAND --help explains a command.",
  ].join("\n");
}

export function serveHelp(): string {
  return [
    "bit33 serve: serves the vsock device of one or several VMs, until SIGTERM or SIGINT",
    "",
    "Usage: bit33 serve --guest-cid CID --socket PATH --uds-path PATH [OPTION...]",
    "       bit33 serve --vm KEY=VALUE,... [--vm KEY=VALUE,...]... [OPTION...]",
    "       bit33 serve --config FILE [OPTION...]",
    "",
    "One VM:",
    ...optionRows(SINGLE_VM_OPTIONS),
    "",
    "Several VMs (these two exclude each other, and the options above):",
    ...optionRows(MANY_VMS_OPTIONS),
    "",
    "The process:",
    ...optionRows(PROCESS_OPTIONS),
    "",
    "Sockets that systemd passes on (LISTEN_FDS) are taken by their names: docs/systemd.md.",
    "",
    "Example:",
    "  bit33 serve --vm guest-cid=3,socket=/run/vm3.sock,uds-path=/run/vm3.vsock,iotlb=on \\",
    "              --vm guest-cid=4,socket=/run/vm4.sock,uds-path=/run/vm4.vsock,queue-size=256",
    "",
    "Exit status: 0 after a clean end, 2 if the command line or the configuration has to be changed,",
    "1 for any other failure.",
  ].join("\n");
}

export function optionRows(table: OptionTable): string[] {
  const rows = Object.entries(table).flatMap(([name, { argument, short, help }]): [string, string][] => {
    if (help === undefined) return [];
    const left = `${short === undefined ? "" : `-${short}, `}--${name}${argument === undefined ? "" : ` ${argument}`}`;
    return [[left, help]];
  });
  return twoColumns(rows);
}

function twoColumns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`);
}
