/**
 * Recordings of the real strace: boots a guest whose first process (traced-vmm.c) drives the *guest's* /dev/vhost-vsock
 * under strace, and returns what strace wrote, by name. `node build/test/strace/record.js` keeps them beside this
 * file, and what gdb shows. The host's device is never opened.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type CpioEntry, writeCpio } from "../vm/cpio.js";
import { findProgram, type KernelSeries, qemuProgram, readPrepared, root, vmFolder } from "../vm/paths.js";
import { Program } from "../vm/program.js";
import { within } from "../vm/waiting.js";

export const recordingsFolder = join(root, "test/strace/recordings");
const RECORDED_KERNEL: KernelSeries = "6.1";
const BOOT_TIMEOUT_MS = 120_000;

/** What strace wrote in a guest of a series, by the names in traced-vmm.c. */
export async function recordTraces(
  series: KernelSeries = RECORDED_KERNEL,
): Promise<ReadonlyMap<string, string>> {
  const folder = mkdtempSync(join(tmpdir(), "b33-strace-"));
  const logs = join(process.env.BIT33_VM_LOGS ?? join(vmFolder, "logs"), `strace-${series}`);
  mkdirSync(logs, { recursive: true });
  const kernel = readPrepared().kernels[series];
  const initrd = join(folder, "initrd.cpio");
  // Archives may follow each other (Linux, buffer-format.rst): the prepared one stays as it is.
  writeFileSync(
    initrd,
    Buffer.concat([readFileSync(join(vmFolder, kernel.initrd)), writeCpio(tracing(folder))]),
  );
  const traces = new Map<string, string>();
  const collect = collector(traces);
  let finish: () => void = () => {};
  const done = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const qemu = new Program(
    "QEMU",
    command(join(vmFolder, kernel.vmlinux), initrd, logs),
    join(logs, "guest.log"),
    (line) => {
      if (collect(line.replace(/\r$/, ""))) finish();
    },
  );
  try {
    await within(qemu.alongside(done), "the traces", BOOT_TIMEOUT_MS);
  } finally {
    await qemu.stop();
    rmSync(folder, { recursive: true });
  }
  return traces;
}

/** Takes line by line what the guest says; true once that was all. */
function collector(traces: Map<string, string>): (line: string) => boolean {
  let name: string | undefined;
  let lines: string[] = [];
  return (line) => {
    const begin = /^TRACE (\S+)$/.exec(line)?.[1];
    if (begin !== undefined) {
      name = begin;
      lines = [];
    } else if (name !== undefined && line.startsWith("END ")) {
      if (line !== "END 0")
        throw new Error(`in the guest, strace of ${name} ended with status ${line.slice(4)}`);
      traces.set(name, `${lines.join("\n")}\n`);
      name = undefined;
    } else if (name !== undefined) lines.push(line);
    return name === undefined && line === "DONE";
  };
}

/** What gdb says by vhost.gdb of traced-calls.c, on this machine: it opens /dev/null and nothing else. */
export function recordGdb(): string {
  const folder = mkdtempSync(join(tmpdir(), "b33-gdb-"));
  try {
    const program = join(folder, "traced-calls");
    run("gcc", [
      "-static",
      "-O1",
      "-Wall",
      "-Wextra",
      "-o",
      program,
      join(root, "test/strace/traced-calls.c"),
    ]);
    return run("gdb", ["-q", "-batch", "-x", join(root, "test/strace/vhost.gdb"), program]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The traced program, strace and the libraries that it loads. */
function tracing(folder: string): CpioEntry[] {
  const strace = findProgram("strace");
  if (strace === undefined) throw new Error("strace is not installed: npm run setup:vm");
  const program = join(folder, "traced-vmm");
  const sources = ["test/strace/traced-vmm.c", "test/vm/guest/boot.c"].map((source) => join(root, source));
  run("gcc", ["-static", "-pthread", "-O2", "-Wall", "-Wextra", "-o", program, ...sources]);
  const libraries = [...run("ldd", [strace]).matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path ?? "");
  const folders = new Set<string>();
  for (const library of libraries) {
    const parts = library.split("/").slice(1, -1);
    for (let depth = 1; depth <= parts.length; depth++) folders.add(parts.slice(0, depth).join("/"));
  }
  return [
    ...[...folders].map((path) => ({ path })),
    ...libraries.map((path) => ({ path: path.slice(1), content: readFileSync(path), executable: true })),
    { path: "strace", content: readFileSync(strace), executable: true },
    { path: "traced-vmm", content: readFileSync(program), executable: true },
  ];
}

function run(program: string, options: readonly string[]): string {
  const done = spawnSync(program, options, { encoding: "utf8" });
  if (done.error) throw done.error;
  if (done.status !== 0) throw new Error(`"${program} ${options.join(" ")}" failed:\n${done.stderr}`);
  return done.stdout;
}

function command(vmlinux: string, initrd: string, logs: string): string[] {
  return [
    qemuProgram,
    ...["-accel", "tcg", "-cpu", "max", "-smp", "2", "-M", "q35", "-m", "256M"],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-serial", `file:${join(logs, "kernel.log")}`, "-serial", "stdio"],
    ...["-kernel", vmlinux, "-initrd", initrd],
    ...["-append", "console=ttyS0 panic=-1 quiet no_timer_check rdinit=/traced-vmm"],
  ];
}

async function main(): Promise<void> {
  mkdirSync(recordingsFolder, { recursive: true });
  writeFileSync(join(recordingsFolder, "gdb.txt"), recordGdb());
  for (const [name, text] of await recordTraces())
    writeFileSync(join(recordingsFolder, `${name}.strace`), text);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
