/**
 * What can be written for each kind of value, and what is said about the rest.
 */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ConfigError } from "../../config/errors.js";
import {
  readChoice,
  readGroup,
  readMode,
  readNames,
  readNumber,
  readPath,
  readSwitch,
  type Setting,
} from "./values.js";

const at = (text: string): Setting => ({ text, place: "here" });

function refuses(read: (setting: Setting) => unknown, text: string, code: string, message: RegExp) {
  assert.throws(
    () => read(at(text)),
    (error) =>
      error instanceof ConfigError &&
      error.code === code &&
      error.where === "here" &&
      message.test(error.message),
    text,
  );
}

describe("a number", () => {
  it("is decimal or hexadecimal", () => {
    assert.equal(readNumber(at("65536")), 65536);
    assert.equal(readNumber(at("0x10000")), 65536);
  });

  it("is not a sign, a fraction, a unit or nothing", () => {
    for (const text of ["", " 3", "-1", "+3", "3.0", "1e3", "64k", "0x", "three"]) {
      refuses(readNumber, text, "value-malformed", /is not a whole number/);
    }
  });

  it("reads back whatever it was written from", () => {
    fc.assert(
      fc.property(fc.nat(), (n) => {
        assert.equal(readNumber(at(String(n))), n);
        assert.equal(readNumber(at(`0x${n.toString(16)}`)), n);
      }),
    );
  });
});

describe("a choice", () => {
  it("is one of its words, and a near miss is told which", () => {
    const read = (setting: Setting) => readChoice(setting, ["auto", "explicit"]);
    assert.equal(read(at("auto")), "auto");
    refuses(read, "explict", "value-malformed", /not one of auto, explicit; did you mean explicit\?/);
    refuses(read, "AUTO", "value-malformed", /"AUTO" is not one of auto, explicit$/);
  });

  it("of on and off also takes YAML's true and false", () => {
    assert.deepEqual(
      ["on", "true", "off", "false"].map((text) => readSwitch(at(text))),
      [true, true, false, false],
    );
    refuses(readSwitch, "yes", "value-malformed", /not one of on, off/);
  });
});

describe("names", () => {
  it("are joined with a plus, and count once", () => {
    assert.deepEqual(readNames(at("a+b+a")), ["a", "b"]);
    assert.deepEqual(readNames(at(" one ")), ["one"]);
  });

  it("are not empty", () => {
    for (const text of ["", "a+", "a++b"]) {
      refuses(readNames, text, "value-malformed", /empty name; write .* group1\+group2/);
    }
  });
});

it("a path is neither empty nor holds a NUL", () => {
  assert.equal(readPath(at("/run/a b.sock")), "/run/a b.sock");
  refuses(readPath, "", "value-missing", /empty/);
  refuses(readPath, "/a\0b", "value-malformed", /"\/a\\u0000b" holds a NUL/);
});

describe("a file mode", () => {
  it("is three octal digits in any usual spelling", () => {
    assert.deepEqual(
      ["660", "0660", "0o660", "000", "777"].map((text) => readMode(at(text))),
      [0o660, 0o660, 0o660, 0, 0o777],
    );
  });

  it("is nothing else", () => {
    for (const text of ["", "66", "1777", "0x1b0", "680", "u+rw"]) {
      refuses(readMode, text, "value-malformed", /three octal digits, such as 0660/);
    }
  });
});

describe("a group", () => {
  const directory = mkdtempSync(join(tmpdir(), "bit33-groups-"));
  const groupFile = join(directory, "group");
  writeFileSync(groupFile, "root:x:0:\nno-number:x::\nkvm:x:107:alice,bob\nbroken\n");
  const read = (setting: Setting) => readGroup(setting, groupFile);

  it("is a number, or a name from the group file", (t) => {
    t.after(() => rmSync(directory, { recursive: true }));
    assert.equal(read(at("1000")), 1000);
    assert.equal(read(at("kvm")), 107);
    assert.equal(read(at("root")), 0);
    refuses(
      read,
      "libvirt",
      "group-unknown",
      /no group "libvirt" in .*; create it, or give the group's number/,
    );
    refuses(read, "no-number", "group-unknown", /no group/);
    refuses(read, "", "group-unknown", /no group ""/);
  });

  it("is never the number that means no change", () => {
    refuses(read, "4294967295", "value-out-of-range", /largest is 4294967294/);
  });

  it("has no name where there is no group file", () => {
    refuses((setting) => readGroup(setting, "/nonexistent/group"), "kvm", "group-unknown", /no group/);
  });
});
