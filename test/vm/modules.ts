/**
 * Reads an unpacked kernel package: the kernel image inside the bzImage, and the modules that a guest needs in
 * the order to load them. Must not know where the package came from or what boots it.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { gunzipSync } from "node:zlib";

/**
 * What each of the two programs in a guest wants to have loaded. virtio-iommu comes first: a device probed before it
 * would stay untranslated. vhost_vsock is not for the agent's guests: it takes every CID above 2 to itself.
 */
export const wantedModules = {
  agent: ["virtio_iommu", "virtio_pci", "vmw_vsock_virtio_transport"],
  vhost: ["vhost_vsock"],
} as const;
export type ModuleList = keyof typeof wantedModules;

export interface Module {
  name: string;
  content: Buffer;
}

const compressions = [
  { name: "gzip", magic: Buffer.from([0x1f, 0x8b]), unpack: (bytes: Buffer) => gunzipSync(bytes) },
  { name: "xz", magic: Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a]), unpack: throughProgram("xz", "-dc") },
  { name: "lz4", magic: Buffer.from([0x02, 0x21, 0x4c, 0x18]), unpack: throughProgram("lz4", "-dc") },
  { name: "zstd", magic: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), unpack: throughProgram("zstd", "-dcq") },
] as const;

const elfMagic = Buffer.from([0x7f, 0x45, 0x4c, 0x46]);

function throughProgram(program: string, options: string): (bytes: Buffer) => Buffer {
  return (bytes) => {
    const done = spawnSync(program, [options], { input: bytes, maxBuffer: 1 << 30 });
    if (done.error) throw done.error;
    if (done.status !== 0) throw new Error(`${program}: ${done.stderr.toString().trim()}`);
    return done.stdout;
  };
}

function startsWith(bytes: Buffer, magic: Buffer): boolean {
  return bytes.subarray(0, magic.length).equals(magic);
}

function unpack(bytes: Buffer): Buffer {
  const found = compressions.find((compression) => startsWith(bytes, compression.magic));
  return found ? found.unpack(bytes) : bytes;
}

/**
 * The ELF kernel inside a bzImage (Linux, Documentation/arch/x86/boot.rst): the payload lies payload_offset after
 * the protected-mode code, which follows the boot sector and setup_sects more. Booting it saves the guest its own
 * decompression, most of a second under emulation.
 */
export function extractVmlinux(bzImage: Buffer): Buffer {
  const sectorBytes = 512;
  const setupSectors = bzImage.readUInt8(0x1f1) || 4;
  const start = (setupSectors + 1) * sectorBytes + bzImage.readUInt32LE(0x248);
  const length = bzImage.readUInt32LE(0x24c);
  // The payload's last four bytes are the unpacked length, which gzip has anyway and the others do not expect.
  const payload = bzImage.subarray(start, start + length);
  const isGzip = startsWith(payload, compressions[0].magic);
  const vmlinux = unpack(isGzip ? payload : payload.subarray(0, -4));
  if (!startsWith(vmlinux, elfMagic))
    throw new Error("the kernel image has a compression that is not known here");
  return vmlinux;
}

/** The modules of a list and all that they depend on, in the order to load them; built-in ones are left out. */
export function collectModules(moduleFolder: string, list: ModuleList): Module[] {
  const files = new Map<string, string>();
  for (const entry of readdirSync(moduleFolder, { recursive: true, encoding: "utf8" })) {
    if (/\.ko(\.xz|\.zst|\.gz)?$/.test(entry)) files.set(moduleName(entry), join(moduleFolder, entry));
  }
  const loaded = new Map<string, Module>();
  const load = (name: string): void => {
    const file = files.get(name);
    if (file === undefined || loaded.has(name)) return;
    const content = unpack(readFileSync(file));
    for (const dependency of dependencies(content)) load(dependency);
    loaded.set(name, { name, content });
  };
  for (const name of wantedModules[list]) load(name);
  // virtio-iommu is not built for every kernel, and virtio-pci may be built in.
  const essential = list === "agent" ? "vmw_vsock_virtio_transport" : "vhost_vsock";
  if (!loaded.has(essential)) throw new Error(`no module ${essential} in ${moduleFolder}`);
  return [...loaded.values()];
}

function moduleName(file: string): string {
  return basename(file)
    .replace(/\.ko(\..*)?$/, "")
    .replaceAll("-", "_");
}

/** `depends=a,b` in the module's .modinfo section, a list of zero-terminated strings. */
function dependencies(module: Buffer): string[] {
  const key = Buffer.from("\0depends=");
  const at = module.indexOf(key);
  if (at < 0) return [];
  const end = module.indexOf(0, at + key.length);
  const names = module.toString("latin1", at + key.length, end);
  return names.split(",").filter(Boolean).map(moduleName);
}

/** Where a package of either layout (before and after the merge of /lib into /usr) keeps its modules. */
export function moduleFolderOf(unpacked: string, release: string): string {
  const folder = ["lib", "usr/lib"].map((lib) => join(unpacked, lib, "modules", release)).find(existsSync);
  if (folder === undefined) throw new Error(`no modules for ${release} in the package`);
  return folder;
}
