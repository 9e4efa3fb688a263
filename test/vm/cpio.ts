/**
 * Writes a cpio archive in the "newc" format, which the kernel unpacks as its first root file system
 * (Linux, Documentation/driver-api/early-userspace/buffer-format.rst). Knows nothing of what is in it.
 */

export interface CpioEntry {
  /** Without a leading slash; a folder must come before what is in it. */
  path: string;
  /** A folder has no content. */
  content?: Buffer;
  executable?: boolean;
}

const directoryMode = 0o040755;
const fileMode = 0o100644;
const programMode = 0o100755;

export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const parts: Buffer[] = [];
  entries.forEach((entry, index) => {
    const mode = entry.content === undefined ? directoryMode : entry.executable ? programMode : fileMode;
    parts.push(...member(entry.path, index + 1, mode, entry.content ?? Buffer.alloc(0)));
  });
  parts.push(...member("TRAILER!!!", 0, 0, Buffer.alloc(0)));
  return Buffer.concat(parts);
}

function member(path: string, inode: number, mode: number, content: Buffer): Buffer[] {
  const name = Buffer.from(`${path}\0`);
  const links = 1;
  // c_ino, c_mode, c_uid, c_gid, c_nlink, c_mtime, c_filesize, c_maj, c_min, c_rmaj, c_rmin, c_namesize, c_chksum
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
  return [padded(Buffer.concat([header, name])), padded(content)];
}

/** Name and content each end on a multiple of four bytes. */
function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
