/**
 * `bit33 demo`: starts the device in one process and guests in others, moves data both ways, compares sums, and says
 * in plain words what was negotiated and decided. Must not know how a device or a guest works; see demo/.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuestLink } from "./demo/guest-link.js";
import { receiveFromGuest, sendToGuest } from "./demo/host-side.js";
import { LINE_UPS, type LineUp } from "./demo/line-ups.js";
import { noise } from "./demo/payload.js";
import {
  conclusion,
  failure,
  heading,
  introduction,
  isIntact,
  type LineUpResult,
  result,
  type Transfer,
} from "./demo/report.js";
import { type ServedVm, ServeProcess } from "./demo/serve-process.js";
import { hasSwitch, type OptionTable, readOptions } from "./options.js";
import { waitForStopSignal } from "./signals.js";
import { EXIT_FAILURE, EXIT_OK, processTerminal, reportFailure, type Terminal } from "./terminal.js";
import { UsageError } from "./usage-error.js";

const OPTIONS = {
  size: { argument: "MIB", help: "how much to move in each direction (default 32)" },
  help: { short: "h", help: "print this and exit" },
} as const satisfies OptionTable;

const HELP = [
  "bit33 demo: moves data between a vsock device and built-in guests, and says what was negotiated",
  "",
  "Usage: bit33 demo [--size MIB]",
  "",
  "Starts `bit33 serve` and, one after the other, guests of several kinds, each in a process of its own",
  "with its own memory, over real vhost-user sockets. Needs no hypervisor, no root and no network.",
  "",
  "Options:",
  `  --size ${OPTIONS.size.argument}  ${OPTIONS.size.help}`,
  `  -h, --help  ${OPTIONS.help.help}`,
  "",
  "Exit status: 0 if everything arrived intact, 1 if not, 2 if the command line is wrong.",
].join("\n");

const MIB = 2 ** 20;
const DEFAULT_MIB = 32;
/** Each end keeps what it sends or receives in memory. */
const LARGEST_MIB = 1024;
const HOST_PORT = 5000;
const GUEST_PORT = 6000;

export async function demoCommand(
  argv: readonly string[],
  terminal: Terminal = processTerminal,
): Promise<number> {
  if (hasSwitch(argv, "--help", "-h")) {
    terminal.print(HELP);
    return EXIT_OK;
  }
  try {
    return await demo(readSize(argv), terminal);
  } catch (error) {
    return reportFailure(error, terminal);
  }
}

function readSize(argv: readonly string[]): number {
  const given = readOptions(argv, OPTIONS).find(({ name }) => name === "size");
  if (given === undefined) return DEFAULT_MIB;
  const mib = Number(given.value);
  if (Number.isInteger(mib) && mib >= 1 && mib <= LARGEST_MIB) return mib;
  const problem = `${given.typed} ${given.value} is not a number of MiB; use 1 to ${LARGEST_MIB}`;
  throw new UsageError("option-needs-value", problem);
}

async function demo(mib: number, terminal: Terminal): Promise<number> {
  if (process.platform !== "linux") {
    terminal.complain(`bit33: the demo needs Linux (memfd, eventfd, epoll), and this is ${process.platform}`);
    return EXIT_FAILURE;
  }
  const folder = mkdtempSync(join(tmpdir(), "bit33-demo-"));
  try {
    const run = new DemoRun(folder, mib, terminal);
    const interrupted = waitForStopSignal().then(() => EXIT_FAILURE);
    const status = await Promise.race([run.run(), interrupted]);
    await run.close();
    return status;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** One run: the device, and whichever guest is running. */
class DemoRun {
  readonly #vms: readonly ServedVm[];
  #serve: ServeProcess | undefined;
  #guest: GuestLink | undefined;

  constructor(
    folder: string,
    private readonly mib: number,
    private readonly terminal: Terminal,
  ) {
    this.#vms = LINE_UPS.map(({ cid }) => ({
      cid,
      socketPath: join(folder, `vm${cid}.sock`),
      udsPath: join(folder, `vm${cid}.vsock`),
    }));
  }

  async run(): Promise<number> {
    const start = performance.now();
    try {
      this.#serve = await ServeProcess.start(this.#vms);
    } catch (error) {
      this.terminal.complain(`bit33: the device did not start: ${(error as Error).message}`);
      return EXIT_FAILURE;
    }
    this.terminal.print(introduction(this.#serve.pid, LINE_UPS.length));
    let intact = 0;
    for (const [index, lineUp] of LINE_UPS.entries()) {
      this.terminal.print(heading(index + 1, LINE_UPS.length, lineUp));
      intact += await this.#show(this.#serve, lineUp, this.#vms[index]);
    }
    const all = 2 * LINE_UPS.length;
    this.terminal.print(conclusion(intact, all, (performance.now() - start) / 1000));
    return intact === all ? EXIT_OK : EXIT_FAILURE;
  }

  /** Runs a line-up, prints how it went, and returns how many of its two transfers were intact. */
  async #show(serve: ServeProcess, lineUp: LineUp, vm: ServedVm): Promise<number> {
    const guest = new GuestLink();
    this.#guest = guest;
    try {
      const shown = await this.#runLineUp(serve, guest, lineUp, vm);
      this.terminal.print(result(shown));
      return shown.transfers.filter(isIntact).length;
    } catch (error) {
      this.terminal.print(failure((error as Error).message));
      for (const { event, message } of serve.troubles(vm.cid))
        this.terminal.print(failure(`the device says: ${event}: ${message}`));
      return 0;
    } finally {
      guest.kill();
    }
  }

  async #runLineUp(
    serve: ServeProcess,
    guest: GuestLink,
    lineUp: LineUp,
    vm: ServedVm,
  ): Promise<LineUpResult> {
    const { socketPath } = vm;
    const bytes = Math.ceil(this.mib * lineUp.share) * MIB;
    const boot = { kind: "boot", socketPath, dma: lineUp.kind, vmm: lineUp.vmm } as const;
    const { negotiated } = await guest.ask(boot, "booted");
    const transfers = [await guestToHost(guest, vm, bytes), await hostToGuest(guest, vm, bytes)];
    const { mode, message } = await serve.find(lineUp.cid, "translation-mode");
    const { iotlb } = await guest.ask({ kind: "power-off" }, "off");
    return { negotiated, mode: String(mode), explanation: message, transfers, iotlb };
  }

  async close(): Promise<void> {
    this.#guest?.kill();
    await this.#serve?.stop();
  }
}

async function guestToHost(guest: GuestLink, { udsPath }: ServedVm, bytes: number): Promise<Transfer> {
  const host = await receiveFromGuest(udsPath, HOST_PORT, bytes);
  try {
    const sent = await guest.ask({ kind: "send", port: HOST_PORT, bytes }, "sent");
    const received = await host.received;
    return {
      direction: "guest to host",
      bytes,
      seconds: received.seconds,
      sumSent: sent.sum,
      sumReceived: received.sum,
      bytesReceived: received.bytes,
    };
  } finally {
    host.close();
  }
}

async function hostToGuest(guest: GuestLink, { udsPath }: ServedVm, bytes: number): Promise<Transfer> {
  await guest.ask({ kind: "listen", port: GUEST_PORT }, "listening");
  const [received, sent] = await Promise.all([
    guest.ask({ kind: "receive", bytes }, "received"),
    sendToGuest(udsPath, GUEST_PORT, noise(bytes)),
  ]);
  return {
    direction: "host to guest",
    bytes,
    seconds: sent.seconds,
    sumSent: sent.sum,
    sumReceived: received.sum,
    bytesReceived: received.bytes,
  };
}
