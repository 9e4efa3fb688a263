/**
 * `npm run setup:peers`: builds vhost-device-vsock from its crate into the ignored folder .vm/peers, unless it is there
 * already. Nothing is installed outside of that folder but what cargo keeps for itself.
 */
import { spawnSync } from "node:child_process";
import { peerCrate, peersFolder, whatPeerIsMissing } from "./paths.js";

const { name, version } = peerCrate;

function say(line: string): void {
  console.log(`setup:peers: ${line}`);
}

function install(): string | undefined {
  const options = ["install", "--locked", "--root", peersFolder, "--version", version, name];
  say(`cargo ${options.join(" ")} (a minute or two)`);
  const done = spawnSync("cargo", options, { encoding: "utf8", maxBuffer: 1 << 28 });
  if (done.error) {
    return `cargo cannot be run (${done.error.message}): please install Rust with cargo, 1.74 or newer, and try again; or set BIT33_VHOST_DEVICE_VSOCK=<path of ${name} ${version}>`;
  }
  return done.status === 0 ? whatPeerIsMissing() : `cargo failed:\n${done.stderr.trim()}`;
}

const problem = whatPeerIsMissing() === undefined ? undefined : install();
if (problem === undefined) say(`ready: ${name} ${version}`);
else {
  console.error(`setup:peers: ${problem}`);
  process.exitCode = 1;
}
