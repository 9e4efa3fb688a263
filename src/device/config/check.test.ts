/**
 * Each rule of a configuration, broken once, with the place and the advice that come of it.
 */

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { ConfigError, type ConfigErrorCode } from "../../config/errors.js";
import { type CheckOptions, checkVmConfigs, placedByField } from "./check.js";
import { VM_LIMITS, type VmConfig, vmConfig } from "./vm-config.js";

const directory = mkdtempSync(join(tmpdir(), "bit33-check-"));
mkdirSync(join(directory, "real"));
symlinkSync("real", join(directory, "link"));
writeFileSync(join(directory, "file"), "");
after(() => rmSync(directory, { recursive: true }));

const inside = (name: string) => join(directory, name);

function vm(number: number, changes: Partial<VmConfig> = {}): VmConfig {
  const paths = { socketPath: inside(`vm${number}.sock`), udsPath: inside(`vm${number}.vsock`) };
  return vmConfig({ ...paths, guestCid: number, ...changes });
}

function check(configs: VmConfig[], options?: CheckOptions): void {
  checkVmConfigs(placedByField(configs), options);
}

function refuses(
  configs: VmConfig[],
  expected: { code: ConfigErrorCode; where: string; message: RegExp },
  options?: CheckOptions,
) {
  assert.throws(
    () => check(configs, options),
    (error) => {
      assert.ok(error instanceof ConfigError, String(error));
      assert.equal(error.code, expected.code, error.line);
      assert.equal(error.where, expected.where);
      assert.match(error.message, expected.message);
      return true;
    },
  );
}

it("several VMs that keep apart are fine", () => {
  check([vm(3), vm(4), vm(0xfffffffe, { udsPath: inside("x") })]);
});

describe("a CID", () => {
  it("that is reserved, too large or no integer is refused with the range to choose from", () => {
    const cases: [number, RegExp][] = [
      [0, /^CID 0 is reserved for the hypervisor; choose one from 3 to 4294967294$/],
      [1, /^CID 1 is reserved for loopback/],
      [2, /^CID 2 is the host's own/],
      [0xffffffff, /^CID 4294967295 is the wildcard VMADDR_CID_ANY/],
      [2 ** 32, /^4294967296 is not a CID: one has 32 bits/],
      [2 ** 64, /is not a CID: one has 32 bits/],
      [3.5, /^3.5 is not a CID: one is a whole number/],
      [-3, /^-3 is not a CID: one is a whole number/],
    ];
    for (const [cid, message] of cases) {
      const config = vm(5, { guestCid: cid });
      refuses([config], { code: "cid-reserved", where: "vms[0].guestCid", message });
    }
  });

  it("given twice is refused with the place of the first", () => {
    const message = /^CID 3 is given twice, first by vms\[0\]\.guestCid; each VM needs its own/;
    const second = vm(4, { guestCid: 3 });
    refuses([vm(3), second], { code: "cid-twice", where: "vms[1].guestCid", message });
  });
});

describe("a number", () => {
  it("outside its limits is refused, at both ends", () => {
    for (const [field, [smallest, largest]] of Object.entries(VM_LIMITS)) {
      check([vm(3, { [field]: smallest })]);
      check([vm(3, { [field]: largest })]);
      for (const value of [smallest - 1, largest + 1, smallest + 0.5, Number.NaN]) {
        const message = new RegExp(`out of range; give a whole number from ${smallest} to ${largest}`);
        refuses([vm(3, { [field]: value })], {
          code: "value-out-of-range",
          where: `vms[0].${field}`,
          message,
        });
      }
    }
  });

  it("of a queue is a power of two, and the neighbours are named", () => {
    const message = /1000 is not a power of two; give 512 or 1024/;
    refuses([vm(3, { queueSize: 1000 })], { code: "value-out-of-range", where: "vms[0].queueSize", message });
  });

  it("of the experimental bit is one that is not taken", () => {
    const where = "vms[0].explicitBit";
    const taken = /bit 3 is VHOST_USER_PROTOCOL_F_REPLY_ACK; give a free one, such as 62/;
    refuses([vm(3, { explicitBit: 3 })], { code: "value-out-of-range", where, message: taken });
    refuses([vm(3, { explicitBit: 64 })], { code: "value-out-of-range", where, message: /0 to 63/ });
  });
});

describe("a path", () => {
  const fill = (totalBytes: number) => `${directory}/${"x".repeat(totalBytes - directory.length - 1)}`;

  it("may be just as long as a Unix socket's", () => {
    check([vm(3, { socketPath: fill(107), udsPath: fill(107 - "_4294967295".length) })]);
  });

  it("of the VMM's socket that is a byte too long is refused", () => {
    const message = /the path has 108 bytes, and a Unix socket's may have 107; use a shorter one/;
    const config = vm(3, { socketPath: fill(108) });
    refuses([config], { code: "path-too-long", where: "vms[0].socketPath", message });
  });

  it("of the host programs that does not fit with a port behind it is refused", () => {
    const message = /108 bytes once _4294967295 is added, and a Unix socket's may have 107/;
    refuses([vm(3, { udsPath: fill(97) })], { code: "path-too-long", where: "vms[0].udsPath", message });
  });

  it("is measured in bytes", () => {
    const config = vm(3, { socketPath: `${fill(106)}é` });
    refuses([config], { code: "path-too-long", where: "vms[0].socketPath", message: /108 bytes/ });
  });

  it("in a directory that does not exist or is none is refused", () => {
    const missing = vm(3, { udsPath: inside("nowhere/vm.vsock") });
    const message = /the directory ".*nowhere" does not exist; create it first/;
    refuses([missing], { code: "directory-missing", where: "vms[0].udsPath", message });

    const notOne = vm(3, { socketPath: inside("file/vm.sock") });
    const place = { code: "directory-missing", where: "vms[0].socketPath" } as const;
    refuses([notOne], { ...place, message: /".*file" is not a directory/ });
    const below = vm(3, { socketPath: inside("file/deeper/vm.sock") });
    refuses([below], { ...place, message: /cannot be used \(ENOTDIR\)/ });
  });

  it("that is empty or holds a NUL is refused", () => {
    for (const udsPath of ["", "/tmp/a\0b"]) {
      refuses([vm(3, { udsPath })], {
        code: "value-malformed",
        where: "vms[0].udsPath",
        message: /is not a path/,
      });
    }
  });

  it("given twice is refused, also in another spelling", () => {
    const spellings = ["real/a", "./real/../real/a", "link/a"].map((name) => `${directory}/${name}`);
    for (const spelling of spellings) {
      const configs = [vm(3, { udsPath: inside("real/a") }), vm(4, { socketPath: spelling })];
      const message = /is given twice, first by vms\[0\]\.udsPath/;
      refuses(configs, { code: "path-twice", where: "vms[1].socketPath", message });
    }
    const both = inside("both");
    const message = /is given twice, first by vms\[0\]\.socketPath/;
    const config = vm(3, { socketPath: both, udsPath: both });
    refuses([config], { code: "path-twice", where: "vms[0].udsPath", message });
    const clash = [vm(3, { udsPath: inside("a") }), vm(4, { socketPath: inside("a_seqpacket") })];
    refuses(clash, { code: "path-twice", where: "vms[1].socketPath", message: /first by vms\[0\]\.udsPath/ });
    clash[0].seqpacket = false;
    checkVmConfigs(placedByField(clash));
  });

  it("that a guest would reach by connecting to a port is refused", () => {
    const code = "path-reachable-by-guest";
    const message = /the guest with CID 3 would reach ".*" by connecting to port 1024; choose another name/;
    const others = [vm(3, { udsPath: inside("vm") }), vm(4, { socketPath: inside("vm_1024") })];
    refuses(others, { code, where: "vms[1].socketPath", message });
    const own = vm(3, { udsPath: inside("vm"), socketPath: inside("vm_0") });
    refuses([own], { code, where: "vms[0].socketPath", message: /port 0;/ });
  });

  it("that only looks like a port of another is fine", () => {
    for (const name of ["vm_4294967296", "vm_01", "vm_", "vm_1x", "real/vm_1"]) {
      check([vm(3, { udsPath: inside("vm") }), vm(4, { udsPath: inside(name) })]);
    }
  });
});

describe("the vhost-user socket", () => {
  it("must be given unless it is inherited", () => {
    const message = /socket is missing; give the path/;
    const config = vm(3, { socketPath: undefined });
    refuses([config], { code: "key-missing", where: "vms[0].socketPath", message });
    check([config], { fd: 5 });
  });

  it("is either inherited or made", () => {
    const message = /cannot be combined with --fd 5/;
    refuses([vm(3)], { code: "fd-conflict", where: "vms[0].socketPath", message }, { fd: 5 });
  });

  it("can be inherited for one VM only", () => {
    const configs = [vm(3, { socketPath: undefined }), vm(4, { socketPath: undefined })];
    const message = /one inherited socket serves one VM, and 2 are described/;
    refuses(configs, { code: "fd-conflict", where: "--fd 5", message }, { fd: 5 });
  });
});
