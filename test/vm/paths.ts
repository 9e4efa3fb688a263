/**
 * Where the prepared guests are, and whether they can be used. Owns the shape of .vm/ready.json, which setup.ts
 * writes and everything else reads. Must not know how a guest is made or started.
 */
import { createHash } from "node:crypto";
import { accessSync, constants, existsSync, readdirSync, readFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The kernel series that tests boot; the newest package of each is fetched. */
export const kernelSeries = ["6.12", "6.1", "5.10"] as const;
export type KernelSeries = (typeof kernelSeries)[number];

export interface PreparedKernel {
  /** What `uname -r` says in the guest. */
  release: string;
  /** The Debian package and its version. */
  package: string;
  version: string;
  /** Both relative to .vm. */
  vmlinux: string;
  initrd: string;
}

export interface Prepared {
  format: 1;
  /** SHA-256 of the sources that went into the initramfs: an old initramfs is noticed, not debugged. */
  guestSources: string;
  kernels: Record<KernelSeries, PreparedKernel>;
}

function findRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error("no package.json above the compiled tests");
    folder = parent;
  }
  return folder;
}

/** The repository root, wherever the build folder is below it. */
export const root = findRoot();
export const vmFolder = join(root, ".vm");
export const readyFile = join(vmFolder, "ready.json");
export const guestFolder = join(root, "test/vm/guest");
export const qemuProgram = process.env.BIT33_QEMU ?? "qemu-system-x86_64";

export function guestSourcesHash(): string {
  const hash = createHash("sha256");
  for (const name of readdirSync(guestFolder).sort()) hash.update(readFileSync(join(guestFolder, name)));
  return hash.digest("hex");
}

/** The full path of a program, or undefined if PATH has none of that name. */
export function findProgram(name: string): string | undefined {
  const candidates = name.includes("/")
    ? [name]
    : (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, name));
  return candidates.find((candidate) => {
    try {
      accessSync(candidate, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Undefined when the VM tests can run, else what is missing, in a few words. */
export function whatIsMissing(): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return "an x86-64 Linux host";
  if (!findProgram(qemuProgram)) return `${qemuProgram} is not installed`;
  if (!existsSync(readyFile)) return "the guest kernels are not prepared (.vm/ready.json)";
  if (readPrepared().guestSources !== guestSourcesHash())
    return "the prepared guests are older than their sources";
  return undefined;
}

export function readPrepared(): Prepared {
  return JSON.parse(readFileSync(readyFile, "utf8")) as Prepared;
}
