/** The built-in profiles: which there are, that each is what a user could have written, and how they are looked up. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { ConfigError } from "../config/errors.js";
import {
  BUILTIN_NAMES,
  builtin,
  builtinDevice,
  builtinGuest,
  builtinProfiles,
  builtinText,
  builtinVmm,
} from "./builtin.js";
import { PROFILE_KINDS } from "./profile.js";
import { readProfile, writeProfile } from "./schema/index.js";

const folder = fileURLToPath(new URL("../../../profiles/", import.meta.url));

describe("the built-in profiles", () => {
  for (const kind of PROFILE_KINDS) {
    it(`of the kind ${kind} are the files of profiles/${kind}/, each of them in the list`, () => {
      const files = readdirSync(join(folder, kind));
      assert.deepEqual(files.sort(), BUILTIN_NAMES[kind].map((name) => `${name}.yaml`).sort());
    });
  }

  it("stand in the order of their lists, each under the name of its file", () => {
    const { guests, vmms, devices } = builtinProfiles();
    const names = (all: readonly { readonly name: string }[]) => all.map(({ name }) => name);
    assert.deepEqual(names(guests), BUILTIN_NAMES.guest);
    assert.deepEqual(names(vmms), BUILTIN_NAMES.vmm);
    assert.deepEqual(names(devices), BUILTIN_NAMES.device);
  });

  it("have names that stand for one profile whatever the kind", () => {
    const names = PROFILE_KINDS.flatMap((kind) => BUILTIN_NAMES[kind]);
    assert.equal(new Set(names).size, names.length);
  });

  it("stay the same when they are written and read again", () => {
    for (const kind of PROFILE_KINDS) {
      for (const name of BUILTIN_NAMES[kind]) {
        const profile = builtin(kind, name);
        assert.deepStrictEqual(readProfile(writeProfile(profile), `${name}.yaml`), profile);
      }
    }
  });

  it("are read once", () => {
    assert.equal(builtinGuest("plain"), builtinGuest("plain"));
  });

  it("are given as they stand in the file, with its comments", () => {
    const text = builtinText("guest", "restricted-dma");
    assert.equal(text, readFileSync(join(folder, "guest/restricted-dma.yaml"), "utf8"));
    assert.match(text, /^# The guest of the incident/);
  });

  it("that do not exist are refused with the near names", () => {
    const line = (look: () => unknown): string => {
      try {
        look();
      } catch (error) {
        assert.ok(error instanceof ConfigError && error.code === "profile-unknown", String(error));
        return error.line;
      }
      return "";
    };
    assert.equal(
      line(() => builtinGuest("restricted-dna")),
      'there is no guest profile "restricted-dna"; did you mean restricted-dma? ' +
        "`bit33 compat --list` names all of them",
    );
    assert.match(
      line(() => builtinVmm("qemu")),
      /; did you mean qemu-4\.2 or qemu-5\.0 or .*\? `/,
    );
    assert.equal(
      line(() => builtinDevice("firecracker")),
      'there is no device profile "firecracker"; `bit33 compat --list` names all of them',
    );
    // A name is never a path.
    assert.match(
      line(() => builtinText("guest", "../vmm/qemu-7.2")),
      /^there is no guest profile/,
    );
    assert.match(
      line(() => builtinText("guest", "constructor")),
      /^there is no guest profile/,
    );
  });
});

describe("the built-in guests", () => {
  const guests = BUILTIN_NAMES.guest.map(builtinGuest);
  const bit33 = 1n << 33n;

  it("of Linux take bit 33 where it is offered; only one of them insists on it", () => {
    assert.deepEqual(
      guests.filter(({ knows }) => (knows & bit33) === 0n).map(({ name }) => name),
      ["hostile-skip"],
    );
    assert.deepEqual(
      guests.filter(({ requires }) => (requires & bit33) !== 0n).map(({ name }) => name),
      ["protected"],
    );
  });

  it("that are hostile sit behind a vIOMMU", () => {
    const hostile = guests.filter((guest) => guest.hostile !== undefined);
    assert.deepEqual(
      hostile.map(({ name, machine }) => [name, machine.viommu]),
      [
        ["hostile-ack", true],
        ["hostile-skip", true],
      ],
    );
  });
});
