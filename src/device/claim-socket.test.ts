import assert from "node:assert/strict";
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { StartError } from "../config/errors.js";
import { LONGEST_SOCKET_PATH_BYTES } from "../linux/socket-path.js";
import { connectUnix, createSocket, listenUnix, SOCK_SEQPACKET } from "../linux/unix-socket.js";
import { claimSocket, releaseSocket, removeSocketFile } from "./claim-socket.js";

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bit33-"));
  path = join(directory, "vm.sock");
});

afterEach(() => rmSync(directory, { recursive: true }));

function refusal(code: string) {
  return (error: unknown) =>
    error instanceof StartError && error.code === code && error.where === path && !error.line.includes("\n");
}

/** What connecting to `path` gives: 0 or `-errno`. */
function connecting(to = path): number {
  const fd = createSocket();
  const result = connectUnix(fd, to);
  closeSync(fd);
  return result;
}

function accepts(): boolean {
  return connecting() === 0;
}

describe("claiming a socket path", () => {
  it("listens there, and gives it up without a trace", () => {
    const socket = claimSocket(path);
    assert.ok(accepts());
    releaseSocket(socket);
    assert.equal(existsSync(path), false);
  });

  it("replaces the file of a socket that nobody listens on any more", () => {
    closeSync(listenUnix(path));
    const socket = claimSocket(path, { mode: 0o600 });
    assert.ok(accepts());
    releaseSocket(socket);
  });

  it("refuses a path on which somebody listens, and leaves that listener alone", () => {
    const live = claimSocket(path);
    assert.throws(() => claimSocket(path), refusal("path-in-use"));
    assert.ok(accepts());
    releaseSocket(live);
  });

  it("refuses a path on which somebody listens with a full backlog, or for another kind of socket", () => {
    const busy = listenUnix(path, { backlog: 0 });
    const first = createSocket();
    connectUnix(first, path);
    assert.throws(() => claimSocket(path), refusal("path-in-use"));
    for (const fd of [busy, first]) closeSync(fd);
    rmSync(path);
    const packets = listenUnix(path, { type: SOCK_SEQPACKET });
    assert.throws(() => claimSocket(path), refusal("path-in-use"));
    closeSync(packets);
  });

  it("refuses what is no socket, and leaves it as it is", () => {
    writeFileSync(path, "precious");
    assert.throws(() => claimSocket(path), refusal("path-not-a-socket"));
    assert.equal(lstatSync(path).size, 8);
    rmSync(path);
    symlinkSync("/nowhere", path);
    assert.throws(() => claimSocket(path), refusal("path-not-a-socket"));
    assert.ok(lstatSync(path).isSymbolicLink());
  });

  it("says what the system says when it cannot listen there", () => {
    path = join(directory, "missing", "vm.sock");
    assert.throws(() => claimSocket(path), refusal("bind-failed"));
  });

  it("gives the file the mode and the group asked for", () => {
    const gid = process.getgid?.() ?? 0;
    const socket = claimSocket(path, { mode: 0o640, gid });
    const stat = lstatSync(path);
    assert.equal(stat.mode & 0o777, 0o640);
    assert.equal(stat.gid, gid);
    assert.equal(stat.uid, process.getuid?.());
    releaseSocket(socket);
  });

  it("removes a file that is gone already without complaint", () => {
    const socket = claimSocket(path);
    rmSync(path);
    removeSocketFile(socket);
    closeSync(socket.fd);
  });

  it("leaves the file of another socket that has the name by now", () => {
    const socket = claimSocket(path);
    rmSync(path);
    const other = listenUnix(path);
    releaseSocket(socket);
    assert.ok(accepts());
    closeSync(other);
    rmSync(path);
    const third = claimSocket(path);
    rmSync(path);
    writeFileSync(path, "precious");
    releaseSocket(third);
    assert.equal(lstatSync(path).size, 8);
  });

  it("leaves no other name behind, whether it succeeds or not", () => {
    const socket = claimSocket(path);
    assert.throws(() => claimSocket(path), refusal("path-in-use"));
    assert.deepEqual(readdirSync(directory), ["vm.sock"]);
    releaseSocket(socket);
    assert.deepEqual(readdirSync(directory), []);
    writeFileSync(path, "");
    assert.throws(() => claimSocket(path), refusal("path-not-a-socket"));
    assert.deepEqual(readdirSync(directory), ["vm.sock"]);
  });

  it("works with the longest path that a socket's address has room for", () => {
    path = join(directory, "s".repeat(LONGEST_SOCKET_PATH_BYTES - directory.length - 1));
    assert.equal(path.length, LONGEST_SOCKET_PATH_BYTES);
    closeSync(listenUnix(path));
    const socket = claimSocket(path);
    assert.ok(accepts());
    releaseSocket(socket);
    assert.deepEqual(readdirSync(directory), []);
  });
});
