/**
 * `npm run setup:vm`: prepares everything that the VM tests boot, under the ignored folder .vm, and may be run
 * again at any time. Kernels are Debian's, fetched and unpacked but never installed; `--update` looks for newer ones.
 * Must not know how a guest is started (lab.ts) or what is tested.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { findSshd, sshdFolder } from "../sshd.js";
import { type CpioEntry, writeCpio } from "./cpio.js";
import { collectModules, extractVmlinux, type ModuleList, moduleFolderOf, wantedModules } from "./modules.js";
import type { KernelSeries, Prepared, PreparedKernel } from "./paths.js";
import {
  findProgram,
  guestFolder,
  guestSourcesHash,
  kernelSeries,
  qemuProgram,
  readyFile,
  vmFolder,
} from "./paths.js";

/** What is wrong on this machine and what to do about it: printed without a stack. */
class SetupError extends Error {}

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

const moduleLists = Object.keys(wantedModules) as ModuleList[];

/** Where each series is to be had. Suites beside a `-security` one carry the newer builds there. */
const suites = ["bookworm", "bullseye"] as const;

/** A program or file that must be there, and the Debian package that brings it. */
const needed = [
  { package: "qemu-system-x86", present: () => findProgram(qemuProgram) !== undefined },
  { package: "gcc", present: () => findProgram("gcc") !== undefined },
  { package: "libc6-dev", present: () => existsSync("/usr/include/stdio.h") },
  { package: "linux-libc-dev", present: () => existsSync("/usr/include/linux/vm_sockets.h") },
  { package: "xz-utils", present: () => findProgram("xz") !== undefined },
  { package: "lz4", present: () => findProgram("lz4") !== undefined },
  { package: "zstd", present: () => findProgram("zstd") !== undefined },
  { package: "debian-archive-keyring", present: () => existsSync(keyring) },
  // Not for the guests: what reads captures, and what writes traces.
  { package: "tshark", present: () => findProgram("tshark") !== undefined },
  { package: "openssh-client", present: () => findProgram("ssh") !== undefined },
  { package: "strace", present: () => findProgram("strace") !== undefined },
];

function say(line: string): void {
  console.log(`setup:vm: ${line}`);
}

/** Runs a program and returns what it printed; a failure shows its own words. */
function run(program: string, options: readonly string[], folder = vmFolder, env = process.env): string {
  const done = spawnSync(program, options, { cwd: folder, env, encoding: "utf8", maxBuffer: 1 << 28 });
  if (done.error) throw new SetupError(`${program} cannot be run: ${done.error.message}`);
  if (done.status !== 0) {
    throw new SetupError(`"${program} ${options.join(" ")}" failed:\n${(done.stderr + done.stdout).trim()}`);
  }
  return done.stdout;
}

function installPackages(): void {
  const missing = needed.filter((need) => !need.present()).map((need) => need.package);
  if (missing.length === 0) {
    say("every program that is needed is installed");
    return;
  }
  const install = ["install", "-y", "--no-install-recommends", ...missing];
  if (!findProgram("apt-get")) {
    throw new SetupError(
      `please install ${missing.join(", ")} (the kernels come from Debian: apt-get is needed too)`,
    );
  }
  if (process.getuid?.() !== 0) {
    throw new SetupError(`please run this once, then try again: sudo apt-get ${install.join(" ")}`);
  }
  say(`installing ${missing.join(", ")}`);
  run("apt-get", ["update"]);
  run("apt-get", install, vmFolder, { ...process.env, DEBIAN_FRONTEND: "noninteractive" });
  const still = needed.filter((need) => !need.present()).map((need) => need.package);
  if (still.length > 0) throw new SetupError(`still missing after the installation: ${still.join(", ")}`);
}

interface Mirrors {
  main: string;
  security: string;
}

/** What `apt-get update` would fetch, from the sources alone: a bare machine has no package lists yet. */
function listedUris(): string {
  const emptyLists = join(vmFolder, "apt/empty");
  mkdirSync(join(emptyLists, "partial"), { recursive: true });
  return run("apt-get", ["-o", `Dir::State::lists=${emptyLists}`, "update", "--print-uris"]);
}

/** The mirror that this machine itself uses, so that nothing is fetched from a place its owner did not choose. */
function findMirrors(): Mirrors {
  const chosen = process.env.BIT33_DEBIAN_MIRROR?.replace(/\/+$/, "");
  if (chosen) return { main: chosen, security: `${chosen}-security` };
  const isDebian = /^ID=debian$/m.test(readFileSync("/etc/os-release", "utf8"));
  const suiteRoots = [...listedUris().matchAll(/^'(.*\/)dists\/([^/]+)\/InRelease'/gm)];
  const find = (wanted: RegExp): string | undefined =>
    suiteRoots.find(([, , suite]) => wanted.test(suite ?? ""))?.[1];
  const main = find(/^[a-z]+$/);
  if (!isDebian || main === undefined) {
    throw new SetupError(
      "this machine's apt has no Debian mirror to take the kernels from: set BIT33_DEBIAN_MIRROR=<its address>, and let <that address>-security be its security archive",
    );
  }
  const security = find(/-security$/) ?? `${main.replace(/\/+$/, "")}-security`;
  return { main, security };
}

/** apt with lists, cache and sources of its own: the machine's are neither read for packages nor changed. */
class PrivateApt {
  readonly #options: string[];

  constructor(mirrors: Mirrors) {
    const folder = join(vmFolder, "apt");
    for (const path of ["lists/partial", "cache/archives/partial"]) {
      mkdirSync(join(folder, path), { recursive: true });
    }
    const line = (mirror: string, suite: string) =>
      `deb [arch=amd64 signed-by=${keyring}] ${mirror} ${suite} main\n`;
    const sources = suites.flatMap((suite) => [
      line(mirrors.main, suite),
      line(mirrors.security, `${suite}-security`),
    ]);
    writeFileSync(join(folder, "sources.list"), sources.join(""));
    const settings = {
      "Dir::Etc::sourcelist": join(folder, "sources.list"),
      "Dir::Etc::sourceparts": "-",
      "Dir::State::lists": join(folder, "lists"),
      "Dir::State::status": "/dev/null",
      "Dir::Cache": join(folder, "cache"),
      "Acquire::Languages": "none",
      // An old suite is no longer signed anew; its signature is still checked.
      "Acquire::Check-Valid-Until": "false",
      // Root's apt would otherwise fetch as a user who may not write below this folder.
      "APT::Sandbox::User": "root",
    };
    this.#options = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  }

  update(): void {
    run("apt-get", [...this.#options, "update"]);
  }

  /** The newest signed cloud kernel of a series. */
  newestKernel(series: KernelSeries): string {
    const listed = run("apt-cache", [
      ...this.#options,
      "search",
      "--names-only",
      "^linux-image-.*-cloud-amd64$",
    ]);
    const names = listed
      .split("\n")
      .map((line) => line.split(" ")[0] ?? "")
      // Not the meta package, and not a rebuild for an older release (6.1.0-0.deb11.48).
      .filter((name) =>
        new RegExp(`^linux-image-${series.replace(".", "\\.")}\\.\\d.*-cloud-amd64$`).test(name),
      )
      .filter((name) => !name.includes(".deb"));
    const newest = names.sort((a, b) => a.localeCompare(b, "en", { numeric: true })).at(-1);
    if (newest === undefined) {
      throw new SetupError(
        `the mirror lists no cloud kernel ${series}: set BIT33_DEBIAN_MIRROR to one that still has ${suites.join(" and ")}`,
      );
    }
    return newest;
  }

  download(packageName: string, folder: string): string {
    run("apt-get", [...this.#options, "download", packageName], folder);
    const file = readdirSync(folder).find((name) => name.endsWith(".deb"));
    if (file === undefined) throw new SetupError(`apt-get downloaded nothing for ${packageName}`);
    return join(folder, file);
  }
}

/** What is kept of a kernel between two runs: its description, the ELF image and the modules. */
interface KernelFiles {
  folder: string;
  description: PreparedKernel;
}

function kernelFolder(series: KernelSeries): string {
  return join(vmFolder, "kernels", series);
}

function keptKernel(series: KernelSeries): KernelFiles | undefined {
  const folder = kernelFolder(series);
  const file = join(folder, "kernel.json");
  // Prepared by an earlier version of this program, some list may be missing.
  if (![file, ...moduleLists.map((list) => orderFile(folder, list))].every(existsSync)) return undefined;
  return { folder, description: JSON.parse(readFileSync(file, "utf8")) as PreparedKernel };
}

function fetchKernel(apt: PrivateApt, series: KernelSeries): KernelFiles {
  const folder = kernelFolder(series);
  const packageName = apt.newestKernel(series);
  const kept = keptKernel(series);
  if (kept?.description.package === packageName) return kept;
  rmSync(folder, { recursive: true, force: true });
  const unpacked = join(folder, "unpacked");
  mkdirSync(unpacked, { recursive: true });
  say(`${series}: fetching ${packageName}`);
  const archive = apt.download(packageName, folder);
  run("dpkg", ["-x", archive, unpacked]);
  const release = packageName.replace("linux-image-", "");
  const vmlinux = join(folder, "vmlinux");
  writeFileSync(vmlinux, extractVmlinux(readFileSync(join(unpacked, "boot", `vmlinuz-${release}`))));
  for (const list of moduleLists) saveModules(folder, list, moduleFolderOf(unpacked, release));
  const description: PreparedKernel = {
    release,
    package: packageName,
    version: run("dpkg-deb", ["--field", archive, "Version"]).trim(),
    vmlinux: relative(vmFolder, vmlinux),
    initrd: relative(vmFolder, join(folder, "initrd.cpio")),
  };
  rmSync(unpacked, { recursive: true });
  rmSync(archive);
  // Last, so that an interrupted run is not taken for a finished one.
  writeFileSync(join(folder, "kernel.json"), `${JSON.stringify(description, undefined, 2)}\n`);
  return { folder, description };
}

/** The names of a list's modules in the order to load them, one a line. */
function orderFile(folder: string, list: ModuleList): string {
  return join(folder, "modules", `order-${list}`);
}

function saveModules(folder: string, list: ModuleList, moduleFolder: string): void {
  const modules = collectModules(moduleFolder, list);
  mkdirSync(join(folder, "modules"), { recursive: true });
  for (const module of modules) writeFileSync(join(folder, "modules", `${module.name}.ko`), module.content);
  writeFileSync(orderFile(folder, list), modules.map((module) => `${module.name}\n`).join(""));
}

/** The programs of a guest, by the name that they have in it. Which one is process 1 is said at boot (`rdinit=`). */
const guestPrograms = { init: "agent.c", "vhost-probe": "vhost-probe.c" } as const;

function compileProgram(name: string, source: string): CpioEntry {
  const program = join(vmFolder, name);
  const sources = [source, "boot.c"].map((file) => join(guestFolder, file));
  run("gcc", ["-static", "-O2", "-Wall", "-Wextra", "-o", program, ...sources]);
  return { path: name, content: readFileSync(program), executable: true };
}

function writeInitrd(kernel: KernelFiles, programs: readonly CpioEntry[]): void {
  const namesOf = (list: ModuleList) =>
    readFileSync(orderFile(kernel.folder, list), "utf8").trim().split("\n");
  const listFile = (path: string, list: ModuleList): CpioEntry => ({
    path,
    content: Buffer.from(
      namesOf(list)
        .map((name) => `/lib/${name}.ko\n`)
        .join(""),
    ),
  });
  const names = [...new Set(moduleLists.flatMap(namesOf))];
  const initrd = writeCpio([
    { path: "dev" },
    { path: "lib" },
    ...programs,
    listFile("modules", "agent"),
    listFile("modules-vhost", "vhost"),
    ...names.map((name) => ({
      path: `lib/${name}.ko`,
      content: readFileSync(join(kernel.folder, "modules", `${name}.ko`)),
    })),
  ]);
  writeFileSync(join(vmFolder, kernel.description.initrd), initrd);
  say(`${kernel.description.release}: initramfs with ${names.join(", ")}`);
}

function prepareKernels(update: boolean): KernelFiles[] {
  const kept = kernelSeries.map(keptKernel);
  if (!update && kept.every((kernel) => kernel !== undefined)) {
    say("the kernels are here already (--update looks for newer ones)");
    return kept;
  }
  const mirrors = findMirrors();
  say(`reading the package lists of ${mirrors.main}`);
  const apt = new PrivateApt(mirrors);
  apt.update();
  return kernelSeries.map((series) => (update ? undefined : keptKernel(series)) ?? fetchKernel(apt, series));
}

/** Unpacked and not installed: installing it would start a daemon that listens. */
function fetchSshd(): void {
  if (findSshd() !== undefined) return;
  say("fetching openssh-server, to unpack it");
  mkdirSync(sshdFolder, { recursive: true });
  run("apt-get", ["download", "openssh-server", "libwrap0"], sshdFolder);
  for (const name of readdirSync(sshdFolder)) {
    if (name.endsWith(".deb")) run("dpkg-deb", ["--extract", name, "."], sshdFolder);
  }
}

function main(): void {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new SetupError("the test guests need an x86-64 Linux host");
  }
  mkdirSync(vmFolder, { recursive: true });
  rmSync(readyFile, { force: true });
  installPackages();
  fetchSshd();
  const kernels = prepareKernels(process.argv.includes("--update"));
  const programs = Object.entries(guestPrograms).map(([name, source]) => compileProgram(name, source));
  for (const kernel of kernels) writeInitrd(kernel, programs);
  const prepared: Prepared = {
    format: 1,
    guestSources: guestSourcesHash(),
    kernels: Object.fromEntries(
      kernelSeries.map((series, index) => [series, kernels[index]?.description]),
    ) as Prepared["kernels"],
  };
  writeFileSync(readyFile, `${JSON.stringify(prepared, undefined, 2)}\n`);
  say(`ready: ${kernels.map((kernel) => kernel.description.release).join(", ")}`);
}

try {
  main();
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(`setup:vm: ${error.message}`);
  process.exitCode = 1;
}
