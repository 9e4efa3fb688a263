/** Every kind of mistake in a profile file is refused at its line and column, with what to write instead. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ConfigError, type ConfigErrorCode } from "../../config/errors.js";
import { PROFILE_KINDS, type ProfileKind } from "../profile.js";
import { PROFILE_RULES, readProfile, readProfileOf } from "./index.js";

const GUEST = `profile: guest
name: mine
program: Mine 1
summary: One of mine.
source: [mine.c]
dma: viommu
unmapping: strict
knows: [VERSION_1, ACCESS_PLATFORM]
requires: [VERSION_1]
machine:
  iommu-platform: true
  protected-memory: false
  viommu: true
`;

const VMM = `profile: vmm
name: mine
program: Mine 1
summary: One of mine.
source: [mine.c]
transport: vhost-user
machine: {viommu: true, protected-memory: true}
offer:
  passed: [VERSION_1, EVENT_IDX]
  own: []
  bit-33: by-option
acknowledge:
  masked-by-device: false
  adds: [bit 44]
  masks: []
  bit-33: always
protocol-features: [CONFIG, BACKEND_REQ]
backend-features: []
backend-channel: at-initialization
order: [features, memory, [num, addr, kick], [enable], used-rings]
queues: 2
early-rings: [call]
need-reply: []
iotlb:
  serves: true
  translates: behind-viommu
  enables: nothing
  invalidates: always
  unexpected-miss: ignored
refuses:
  - when: [device-offers-33]
    says: No.
    at: initialization
`;

/** The same on the kernel's vhost. */
const KERNEL_VMM = VMM.replace("vhost-user\n", "kernel\n")
  .replace("[CONFIG, BACKEND_REQ]", "[]")
  .replace("at-initialization", "never")
  .replace(", [enable], used-rings]", ", used-rings, running]");

const DEVICE = `profile: device
name: mine
program: Mine 1
summary: One of mine.
source: [mine.c]
transports: [kernel, vhost-user]
behaviour:
  engine: model
  features: [VERSION_1, ACCESS_PLATFORM, bit 31]
  protocol-features: [CONFIG]
  backend-features: []
  unoffered-features: refuses
  iotlb:
    enabled-by: own-bit
    own-bit: bit 31
    rings-needed: at-start
`;

const OWN_DEVICE = `profile: device
name: mine
program: Mine 1
summary: One of mine.
source: [mine.c]
transports: [vhost-user]
behaviour: {engine: bit33, iotlb: auto, access-platform: true}
`;

interface Mistake {
  readonly what: string;
  /** What is replaced in the file, by what. */
  readonly edits: readonly (readonly [from: string, to: string])[];
  readonly code: ConfigErrorCode;
  readonly line: string;
}

function edited(text: string, edits: Mistake["edits"]): string {
  return edits.reduce((file, [from, to]) => {
    assert.ok(file.includes(from), `${from} is in the file`);
    return file.replace(from, to);
  }, text);
}

function refuses(text: string, code: ConfigErrorCode, line: string): void {
  assert.throws(
    () => readProfile(text, "my.yaml"),
    (error) => {
      assert.ok(error instanceof ConfigError, String(error));
      assert.equal(error.line, line);
      assert.equal(error.code, code);
      return true;
    },
  );
}

describe("a profile file", () => {
  it("without a mistake is read", () => {
    for (const text of [GUEST, VMM, KERNEL_VMM, DEVICE, OWN_DEVICE]) readProfile(text, "my.yaml");
  });

  it("may take its features by any of their names, in any case, and may repeat itself by anchors", () => {
    const usual = readProfile(GUEST, "my.yaml");
    const others = ["[VIRTIO_F_VERSION_1, IOMMU_PLATFORM]", "[version_1, bit 33]", "[bits 32-33]"];
    for (const names of others) {
      assert.deepEqual(readProfile(GUEST.replace("[VERSION_1, ACCESS_PLATFORM]", names), "my.yaml"), usual);
    }
    const anchored = GUEST.replace("iommu-platform: true", "iommu-platform: &yes true").replace(
      "viommu: true",
      "viommu: *yes",
    );
    assert.deepEqual(readProfile(anchored, "my.yaml"), usual);
  });

  it("may leave out what has a default", () => {
    const read = readProfile(GUEST.replace(/unmapping: .*\n|requires: .*\n/g, ""), "my.yaml");
    assert.ok(read.kind === "guest" && read.unmapping === "strict" && read.requires === 0n);
    assert.equal(read.evidence, "derived");
    assert.ok(!("hostile" in read));
  });

  const everywhere: readonly Mistake[] = [
    {
      what: "is no YAML",
      edits: [["summary: One", "summary: Two: One"]],
      code: "yaml-syntax",
      line:
        "my.yaml:4:10: this is not valid YAML: this looks like a key within a value; " +
        "put a text with a colon in it into quotes",
    },
    {
      what: "is two documents",
      edits: [["dma: ", "---\ndma: "]],
      code: "yaml-syntax",
      line: "my.yaml:6:1: this is not valid YAML: a second document begins here; keep one to a file",
    },
    {
      what: "does not say what it is",
      edits: [["profile: guest\n", ""]],
      code: "key-missing",
      line: "my.yaml:1:1: profile is missing; write profile: and one of guest, vmm, device",
    },
    {
      what: "says that it is something else",
      edits: [["profile: guest", "profile: guests"]],
      code: "value-malformed",
      line: 'my.yaml:1:10: "guests" is not one of guest, vmm, device; did you mean guest?',
    },
    {
      what: "has a key that does not exist",
      edits: [["unmapping:", "unmaping:"]],
      code: "key-unknown",
      line: 'my.yaml:7:1: unknown key "unmaping"; did you mean unmapping?',
    },
    {
      what: "has a key that is like none",
      edits: [["  viommu: true", "  mmu: true\n  viommu: true"]],
      code: "key-unknown",
      line: 'my.yaml:13:3: unknown key "mmu"; the keys here are iommu-platform, protected-memory, viommu',
    },
    {
      what: "has a key twice",
      edits: [["knows:", "dma: direct\nknows:"]],
      code: "key-twice",
      line: "my.yaml:8:1: dma is given twice; keep one of them",
    },
    {
      what: "lacks a key",
      edits: [["dma: viommu\n", ""]],
      code: "key-missing",
      line: "my.yaml:1:1: dma is missing; write one of direct, passthrough, viommu, restricted, protected",
    },
    {
      what: "lacks a key below another",
      edits: [["  protected-memory: false\n", ""]],
      code: "key-missing",
      line: "my.yaml:11:3: protected-memory is missing in machine; write true or false",
    },
    {
      what: "lacks several keys",
      edits: [["  protected-memory: false\n  viommu: true\n", ""]],
      code: "key-missing",
      line: "my.yaml:11:3: the keys protected-memory, viommu are missing in machine",
    },
    {
      what: "has no value behind a key",
      edits: [["dma: viommu", "dma:"]],
      code: "value-missing",
      line: "my.yaml:6:5: dma has no value; write one of direct, passthrough, viommu, restricted, protected",
    },
    {
      what: "has a map where a word belongs",
      edits: [["dma: viommu", "dma: {viommu: true}"]],
      code: "value-malformed",
      line: "my.yaml:6:6: dma is a map; write one of direct, passthrough, viommu, restricted, protected",
    },
    {
      what: "has a word where a map belongs",
      edits: [
        ["machine:\n  iommu-platform: true\n  protected-memory: false\n  viommu: true\n", "machine: any\n"],
      ],
      code: "file-shape",
      line: "my.yaml:10:10: machine holds no map; write its keys as `key: value` lines",
    },
    {
      what: "has a word where a list belongs",
      edits: [["source: [mine.c]", "source: mine.c"]],
      code: "value-malformed",
      line:
        "my.yaml:5:9: source is not a list of sources, one at least; write each of it behind a dash, " +
        "or all of it in brackets",
    },
    {
      what: "has nothing in a list",
      edits: [["source: [mine.c]", "source: []"]],
      code: "value-missing",
      line: "my.yaml:5:9: source is empty; write a list of sources, one at least",
    },
    {
      what: "has another word for a switch",
      edits: [["viommu: true", "viommu: yes"]],
      code: "value-malformed",
      line: 'my.yaml:13:11: "yes" is not one of true, false',
    },
    {
      what: "has a word that is no choice",
      edits: [["dma: viommu", "dma: vioomu"]],
      code: "value-malformed",
      line:
        'my.yaml:6:6: "vioomu" is not one of direct, passthrough, viommu, restricted, protected; ' +
        "did you mean viommu?",
    },
    {
      what: "has a name that records could not hold",
      edits: [["name: mine", "name: my/guest"]],
      code: "value-malformed",
      line:
        'my.yaml:2:7: "my/guest" is not a name; write lower-case letters, digits, dots and dashes, ' +
        "the first one a letter or digit",
    },
    {
      what: "has a text of several lines",
      edits: [["summary: One of mine.", "summary: |\n  One\n  of mine."]],
      code: "value-malformed",
      line: "my.yaml:4:10: summary holds a line break or another control character; write one line",
    },
    {
      what: "has features that are no list",
      edits: [["requires: [VERSION_1]", "requires: VERSION_1"]],
      code: "value-malformed",
      line:
        "my.yaml:9:11: requires is not a list of virtio features; " +
        "write it in brackets, as [VERSION_1, EVENT_IDX], or [] for none",
    },
    {
      what: "misspells a feature",
      edits: [["[VERSION_1, ACCESS", "[VERSION_1, ACESS"]],
      code: "feature-unknown",
      line: 'my.yaml:8:20: unknown virtio feature "ACESS_PLATFORM"; did you mean ACCESS_PLATFORM?',
    },
    {
      what: "has a feature that is like none",
      edits: [["[VERSION_1, ACCESS_PLATFORM]", "[VERSION_1, TELEPATHY]"]],
      code: "feature-unknown",
      line:
        'my.yaml:8:20: unknown virtio feature "TELEPATHY"; `bit33 features --list` prints all names, ' +
        "and `bit 45` stands for a bit without one",
    },
    {
      what: "has a feature of another word",
      edits: [["[VERSION_1, ACCESS_PLATFORM]", "[VERSION_1, REPLY_ACK]"]],
      code: "feature-unknown",
      line: "my.yaml:8:20: REPLY_ACK is a vhost-user protocol feature, and this is the place of virtio features",
    },
    {
      what: "has a name that two bits bear",
      edits: [["[VERSION_1, ACCESS_PLATFORM]", "[VERSION_1, VIRTIO_F_SUSPEND]"]],
      code: "feature-unknown",
      line: 'my.yaml:8:20: "VIRTIO_F_SUSPEND" is SUSPEND_CROSVM (bit 42) or SUSPEND (bit 43); write which',
    },
    {
      what: "has a number for a feature",
      edits: [["[VERSION_1, ACCESS_PLATFORM]", "[VERSION_1, 33]"]],
      code: "value-malformed",
      line: 'my.yaml:8:20: "33" is not a feature; write its name, or `bit 45` for a bit without one',
    },
    {
      what: "has a bit outside of the word",
      edits: [["[VERSION_1, ACCESS_PLATFORM]", "[VERSION_1, bits 60-64]"]],
      code: "value-out-of-range",
      line: 'my.yaml:8:20: "bits 60-64" is outside of the word, whose bits are 0 to 63',
    },
    {
      what: "has a range that runs backwards",
      edits: [["[VERSION_1, ACCESS_PLATFORM]", "[VERSION_1, bits 9-2]"]],
      code: "value-malformed",
      line: 'my.yaml:8:20: "bits 9-2" runs backwards; write bits 2-9',
    },
    {
      what: "has a list for a feature",
      edits: [["[VERSION_1, ACCESS_PLATFORM]", "[VERSION_1, [ACCESS_PLATFORM]]"]],
      code: "value-malformed",
      line: "my.yaml:8:20: knows.2 is a list; write the name of a virtio feature, or `bit 45`",
    },
    {
      what: "speaks of an anchor that is not there",
      edits: [["viommu: true", "viommu: *yes"]],
      code: "yaml-syntax",
      line: "my.yaml:13:11: nothing before this is marked &yes, so *yes stands for nothing",
    },
  ];

  for (const { what, edits, code, line } of everywhere) {
    it(`that ${what} is refused at that place`, () => refuses(edited(GUEST, edits), code, line));
  }

  it("that holds no map is refused at its beginning", () => {
    const problem = "the file holds no map; write its keys as `key: value` lines";
    refuses("", "file-shape", `my.yaml:1:1: ${problem}`);
    refuses("- profile: guest\n", "file-shape", `my.yaml:1:1: ${problem}`);
  });

  it("of a VMM that mixes up the steps of its order is refused at the step", () => {
    refuses(
      VMM.replace("[enable]", "enable"),
      "value-malformed",
      "my.yaml:20:46: enable is done once for each queue; write [enable]",
    );
    refuses(
      VMM.replace("[num, addr", "[num, memory, addr"),
      "value-malformed",
      "my.yaml:20:33: memory is done once, not for each queue; take it out of the brackets",
    );
    refuses(
      VMM.replace("[enable]", "[]"),
      "value-missing",
      "my.yaml:20:46: the brackets are empty; write ring steps into them",
    );
  });

  it("of a device with two bits of its own is refused", () => {
    const text = DEVICE.replace("own-bit: bit 31", "own-bit: bits 30-31");
    refuses(
      text,
      "value-malformed",
      "my.yaml:15:14: behaviour.iotlb.own-bit is one bit; write one name, or `bit 45`",
    );
  });

  it("of another kind than was asked for is refused at the word", () => {
    assert.throws(
      () => readProfileOf("vmm", GUEST, "my.yaml"),
      (error) =>
        error instanceof ConfigError &&
        error.code === "profile-kind" &&
        error.line === "my.yaml:1:10: this describes a guest, and a VMM was asked for",
    );
  });
});

describe("values that contradict each other", () => {
  /** For each rule, files that break it and the place that is pointed at. The rules are known by their beginning. */
  const BROKEN: Readonly<
    Record<
      ProfileKind,
      readonly (readonly [rule: string, file: string, edits: Mistake["edits"], place: string])[]
    >
  > = {
    guest: [
      ["a driver needs the bits", GUEST, [["requires: [VERSION_1]", "requires: [EVENT_IDX]"]], "9:11"],
      [
        "the drivers played here know",
        GUEST,
        [
          ["knows: [VERSION_1, ", "knows: ["],
          ["requires: [VERSION_1]\n", ""],
        ],
        "8:8",
      ],
      [
        "lazy unmapping needs",
        GUEST,
        [
          ["dma: viommu", "dma: direct"],
          ["strict", "lazy"],
        ],
        "7:12",
      ],
      ["this kind of DMA goes", GUEST, [["viommu: true", "viommu: false"]], "13:11"],
      ["a pool is shared", GUEST, [["dma: viommu", "dma: restricted"]], "12:21"],
      [
        "a protected guest refuses",
        GUEST,
        [
          ["dma: viommu", "dma: protected"],
          ["protected-memory: false", "protected-memory: true"],
        ],
        "9:11",
      ],
      [
        "a hostile driver wants",
        GUEST,
        [
          ["dma: viommu", "dma: direct"],
          ["  viommu: true", "  viommu: false\nhostile: {rings: user-addresses, skips-features-ok: true}"],
        ],
        "13:11",
      ],
    ],
    vmm: [
      ["bit 33 has keys of its own", VMM, [["own: []", "own: [ACCESS_PLATFORM]"]], "10:8"],
      ["bit 33 has keys of its own", VMM, [["masks: []", "masks: [bit 33]"]], "15:10"],
      ["no guest is offered PROTOCOL", VMM, [["passed: [", "passed: [bit 30, "]], "9:11"],
      ["a bit that is never told", VMM, [["masks: []", "masks: [bit 44]"]], "15:10"],
      [
        "this needs protected memory",
        VMM,
        [
          ["protected-memory: true", "protected-memory: false"],
          ["by-option", "if-protected"],
        ],
        "11:11",
      ],
      ["this needs a vIOMMU", VMM, [["viommu: true", "viommu: false"]], "25:11"],
      [
        "this needs a vIOMMU",
        VMM,
        [
          ["viommu: true", "viommu: false"],
          ["bit-33: always", "bit-33: behind-viommu"],
        ],
        "16:11",
      ],
      [
        "protocol features are a matter",
        KERNEL_VMM,
        [["protocol-features: []", "protocol-features: [MQ]"]],
        "17:20",
      ],
      [
        "backend features are a matter",
        VMM,
        [["backend-features: []", "backend-features: [IOTLB_MSG_V2]"]],
        "18:19",
      ],
      [
        "a channel for the back-end",
        KERNEL_VMM,
        [["backend-channel: never", "backend-channel: at-initialization"]],
        "19:18",
      ],
      ["without BACKEND_REQ", VMM, [[", BACKEND_REQ", ""]], "19:18"],
      ["a device has to be told the features", VMM, [["[features, ", "["]], "20:8"],
      ["a device has to be told the guest's memory", VMM, [["memory, [", "["]], "20:8"],
      ["a device has to be told where the rings", VMM, [["num, addr", "num"]], "20:8"],
      ["a step for the whole device is done once", VMM, [["used-rings]", "used-rings, memory]"]], "20:68"],
      ["a kernel device is started by", KERNEL_VMM, [[", running]", "]"]], "20:8"],
      ["the kernel has no such request", KERNEL_VMM, [["kick]", "kick, enable]"]], "20:45"],
      ["vhost-user has no such message", VMM, [["used-rings]", "used-rings, cid]"]], "20:68"],
      ["the step `channel` goes", VMM, [["used-rings]", "used-rings, channel]"]], "19:18"],
      ["used rings are mapped by", VMM, [["serves: true", "serves: false"]], "20:56"],
      ["this is a matter of vhost-user", KERNEL_VMM, [["need-reply: []", "need-reply: [memory]"]], "23:13"],
      ["this is a matter of vhost-user", KERNEL_VMM, [["need-reply: []", "resets-device: true"]], "23:16"],
      [
        "ring steps that need the guest's",
        VMM,
        [["early-rings: [call]", "early-rings: [call, addr]"]],
        "22:21",
      ],
      [
        "a VMM that serves no IOTLB sends no",
        VMM,
        [
          ["serves: true", "serves: false"],
          [", used-rings", ""],
        ],
        "28:16",
      ],
      [
        "a VMM that serves no IOTLB enables none",
        VMM,
        [
          ["serves: true", "serves: false"],
          [", used-rings", ""],
          ["invalidates: always", "invalidates: never"],
          ["enables: nothing", "enables: own-bit\n  enables-bit: bit 31"],
        ],
        "27:12",
      ],
      ["`enables: own-bit` and", VMM, [["enables: nothing", "enables: own-bit"]], "27:12"],
      ["`enables: own-bit` and", VMM, [["enables: nothing", "enables-bit: bit 31"]], "27:16"],
      [
        "a protocol feature is a matter",
        KERNEL_VMM,
        [["enables: nothing", "enables: explicit-protocol-feature\n  enables-bit: IOTLB"]],
        "27:12",
      ],
      ["no device is both", VMM, [["[device-offers-33]", "[device-offers-33, device-lacks-33]"]], "31:11"],
      [
        "there is no bit of `enables-bit`",
        VMM,
        [["[device-offers-33]", "[device-lacks-iotlb-bit]"]],
        "31:11",
      ],
      ["the guest acknowledges after", VMM, [["[device-offers-33]", "[guest-acknowledged-33]"]], "33:9"],
      [
        "a kernel device has no protocol",
        KERNEL_VMM,
        [["[device-offers-33]", "[device-lacks-config]"]],
        "31:11",
      ],
    ],
    device: [
      ["`enabled-by: own-bit` needs", DEVICE, [["    own-bit: bit 31\n", ""]], "14:17"],
      ["`own-bit` goes with", DEVICE, [["enabled-by: own-bit", "enabled-by: bit-33"]], "15:14"],
      ["nobody acknowledges a bit", DEVICE, [["own-bit: bit 31", "own-bit: bit 45"]], "15:14"],
      [
        "`enabled-by: bit-33-and-msg-v2` needs",
        DEVICE,
        [["enabled-by: own-bit\n    own-bit: bit 31", "enabled-by: bit-33-and-msg-v2"]],
        "14:17",
      ],
      ["PROTOCOL_FEATURES (bit 30)", DEVICE, [["bit 31]", "bit 31, bit 30]"]], "9:13"],
      ["protocol features are a matter", DEVICE, [["[kernel, vhost-user]", "[kernel]"]], "10:22"],
      [
        "backend features are a matter",
        DEVICE,
        [
          ["[kernel, vhost-user]", "[vhost-user]"],
          ["backend-features: []", "backend-features: [IOTLB_MSG_V2]"],
        ],
        "11:21",
      ],
      ["this project's device is reached", OWN_DEVICE, [["[vhost-user]", "[kernel]"]], "6:13"],
    ],
  };

  for (const kind of PROFILE_KINDS) {
    for (const [beginning, file, edits, place] of BROKEN[kind]) {
      it(`are refused at the value at fault: ${beginning}… (${place})`, () => {
        const rule = PROFILE_RULES[kind].find((each) => each.startsWith(beginning));
        refuses(edited(file, edits), "value-conflict", `my.yaml:${place}: ${rule}`);
      });
    }

    it(`are all provoked here, for a ${kind}`, () => {
      const provoked = (rule: string) => BROKEN[kind].some(([beginning]) => rule.startsWith(beginning));
      assert.deepEqual(
        PROFILE_RULES[kind].filter((rule) => !provoked(rule)),
        [],
      );
    });
  }
});
