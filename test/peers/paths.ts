/**
 * Where other people's devices are that the tests run: vhost-device-vsock, in the version that its profile describes.
 * Must not know how it gets there (setup.ts) or what is tested with it.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { vmFolder } from "../vm/paths.js";

/** The crate of profiles/device/vhost-device-vsock.yaml. */
export const peerCrate = { name: "vhost-device-vsock", version: "0.3.0" } as const;

export const peersFolder = join(vmFolder, "peers");
export const peerProgram = process.env.BIT33_VHOST_DEVICE_VSOCK ?? join(peersFolder, "bin", peerCrate.name);

/** Undefined when the program can be run, else what is missing, in a few words. */
export function whatPeerIsMissing(): string | undefined {
  const { name, version } = peerCrate;
  const done = spawnSync(peerProgram, ["--version"], { encoding: "utf8" });
  if (done.error) return `${name} ${version} is not installed (${peerProgram})`;
  if (done.stdout.trim() !== `${name} ${version}`) {
    return `${peerProgram} is "${done.stdout.trim()}", not version ${version}`;
  }
  return undefined;
}
