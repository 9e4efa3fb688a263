/** What is written is read as the same profile, and what is read is either a profile or refused with its place. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ConfigError } from "../../config/errors.js";
import { VSOCK_F } from "../../virtio/index.js";
import type { Profile } from "../profile.js";
import { devices, guests } from "./guest-and-device-arbitraries.fixture.js";
import { readProfile, writeProfile } from "./index.js";
import { vmms } from "./vmm-arbitraries.fixture.js";

const KINDS: Readonly<Record<string, fc.Arbitrary<Profile>>> = { guest: guests, vmm: vmms, device: devices };

describe("a profile that is written", () => {
  for (const [kind, arbitrary] of Object.entries(KINDS)) {
    it(`is read as the same ${kind}, and written again in the same way`, () => {
      fc.assert(
        fc.property(arbitrary, (profile) => {
          const text = writeProfile(profile);
          const read = readProfile(text, "written.yaml");
          // A clone, since some of the generated objects have no prototype.
          assert.deepStrictEqual(read, structuredClone(profile));
          assert.equal(writeProfile(read), text);
        }),
        { numRuns: 300 },
      );
    });
  }

  it("has its kind first, names for bits, a range for many of them, and no line that is too long for words", () => {
    const [sample] = fc.sample(vmms, { numRuns: 1, seed: 1 });
    const passed = (1n << BigInt(VSOCK_F.VSOCK_SEQPACKET)) | (1n << 32n) | (1n << 45n) | (0xffn << 50n);
    const text = writeProfile({ ...sample, offer: { ...sample.offer, passed } });
    assert.match(text, /^profile: vmm\nname: /);
    assert.match(text, /^ {2}passed: \[VSOCK_SEQPACKET, VERSION_1, bit 45, bits 50-57\]$/m);
  });

  it("is refused where a word of it is replaced by another, or read as what it then says", () => {
    fc.assert(
      fc.property(
        fc.oneof(guests, vmms, devices),
        fc.nat(),
        fc.string({ unit: "binary" }),
        (profile, at, put) => {
          const text = writeProfile(profile);
          const offset = at % text.length;
          const spoilt = text.slice(0, offset) + put + text.slice(offset + put.length);
          try {
            readProfile(spoilt, "spoilt.yaml");
          } catch (error) {
            assert.ok(error instanceof ConfigError, error instanceof Error ? error.stack : String(error));
            assert.match(error.where, /^spoilt\.yaml:[1-9]\d*:[1-9]\d*$/);
          }
        },
      ),
      { numRuns: 1000 },
    );
  });
});
