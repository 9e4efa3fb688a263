/**
 * A real sshd as a process between pipes (`sshd -i`), which serves one connection: where the program is, and how it runs
 * without being installed. Its daemon is never started, and no port is opened.
 */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { findProgram, vmFolder } from "./vm/paths.js";

/** Where the packages are unpacked, if sshd is not installed. */
export const sshdFolder = join(vmFolder, "sshd");
const programs = ["/usr/sbin/sshd", join(sshdFolder, "usr/sbin/sshd")];

export function findSshd(): string | undefined {
  return programs.find((path) => existsSync(path));
}

/** What ssh and sshd lack on this machine, and how to get it. */
export function whatSshLacks(): string | undefined {
  if (findProgram("ssh") === undefined)
    return "ssh is not installed; npm run setup:vm installs openssh-client";
  if (findSshd() === undefined) return "there is no sshd; npm run setup:vm unpacks one";
  if (process.getuid?.() === 0 && spawnSync("unshare", ["-m", "true"]).status !== 0)
    return "root's sshd needs a mount namespace, which this machine forbids; run this file as another user";
  return undefined;
}

/**
 * Root's sshd wants a user and a directory that exist only where it is installed. They are made in a mount namespace of its
 * own, so the machine stays as it is.
 */
const AS_ROOT = `
  mount -t tmpfs none /run && mkdir -m 755 /run/sshd || exit 1
  { grep -v ^sshd: /etc/passwd; echo "sshd:x:64999:65534::/run/sshd:/usr/sbin/nologin"; } > /run/passwd
  mount --bind /run/passwd /etc/passwd && exec "$0" "$@"`;

/** Keys and configuration of a host and a user, in a folder of the caller's. */
export class SshPair {
  readonly user = userInfo().username;
  readonly #folder: string;
  readonly #sshd: string;

  constructor(folder: string, sshd: string) {
    this.#folder = folder;
    this.#sshd = sshd;
    mkdirSync(folder, { mode: 0o755 });
    for (const name of ["host", "user"]) this.#keygen(name);
    const lines = [
      `HostKey ${join(folder, "host")}`,
      `AuthorizedKeysFile ${join(folder, "user.pub")}`,
      "StrictModes no",
      "PermitRootLogin yes",
      // An account without a password counts as locked otherwise.
      "UsePAM yes",
      "Subsystem sftp internal-sftp",
    ];
    writeFileSync(join(folder, "config"), `${lines.join("\n")}\n`);
    const hostKey = readFileSync(join(folder, "host.pub"), "utf8");
    writeFileSync(join(folder, "known"), `vm3 ${hostKey}`);
  }

  #keygen(name: string): void {
    const argv = ["-q", "-t", "ed25519", "-N", "", "-f", join(this.#folder, name)];
    const { status, stderr } = spawnSync("ssh-keygen", argv, { encoding: "utf8" });
    if (status !== 0) throw new Error(`ssh-keygen: ${stderr}`);
  }

  /** An sshd that serves one connection on its standard input and output. */
  serve(): ChildProcessWithoutNullStreams {
    const sshd = [this.#sshd, "-i", "-e", "-f", join(this.#folder, "config")];
    const isRoot = process.getuid?.() === 0;
    const [command, ...argv] = isRoot ? ["unshare", "-m", "sh", "-c", AS_ROOT, ...sshd] : sshd;
    return spawn(command, argv, { env: { ...process.env, ...librariesOf(this.#sshd) } });
  }

  /** What ssh and sftp need to reach it as "vm3", and nothing of the user's own configuration. */
  clientOptions(...others: string[]): string[] {
    const settings = [
      `IdentityFile=${join(this.#folder, "user")}`,
      `UserKnownHostsFile=${join(this.#folder, "known")}`,
      "IdentitiesOnly=yes",
      "BatchMode=yes",
      ...others,
    ];
    return ["-F", "none", ...settings.flatMap((setting) => ["-o", setting])];
  }
}

/** An unpacked sshd finds the libraries that came with it. */
function librariesOf(sshd: string): NodeJS.ProcessEnv {
  if (!sshd.startsWith(sshdFolder)) return {};
  const folders = ["lib", "usr/lib"].map((name) => join(sshdFolder, name));
  const found = folders
    .filter((path) => existsSync(path))
    .flatMap((path) => readdirSync(path).map((name) => join(path, name)));
  return { LD_LIBRARY_PATH: found.join(":") };
}
