/**
 * `bit33 features`: what it prints for words, names and mistakes, and once as the program itself.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { featuresCommand } from "./features.js";
import { TERMINAL_WIDTH } from "./paragraph.js";

const PROGRAM = fileURLToPath(new URL("./main.js", import.meta.url));

/** What the kernel's vhost-vsock offers. */
const VHOST_VSOCK = "0x33d000002";

async function run(...argv: string[]) {
  const out: string[] = [];
  const err: string[] = [];
  const status = await featuresCommand(argv, {
    print: (line) => out.push(line) > 0,
    complain: (line) => err.push(line) > 0,
  });
  return { status, out: out.join("\n"), err: err.join("\n") };
}

async function prints(...argv: string[]): Promise<string> {
  const { status, out, err } = await run(...argv);
  assert.deepEqual([status, err], [0, ""]);
  return out;
}

async function objects(...argv: string[]) {
  const lines = (await prints(...argv, "--json")).split("\n");
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

async function refuses(argv: string[], line: string) {
  assert.deepEqual(await run(...argv), { status: 2, out: "", err: `bit33: ${line}` });
}

/** The part of a report that is about one bit. */
function section(text: string, bit: number): string {
  const found = text.split("\n\n").find((part) => part.startsWith(`${String(bit).padStart(2)}  `));
  assert.ok(found !== undefined, `bit ${bit} in:\n${text}`);
  return found.replaceAll(/\s+/g, " ");
}

describe("a decoded word", () => {
  it("names its bits, lowest first, the device type's own included", async () => {
    const text = await prints(VHOST_VSOCK, "--type", "vsock");
    assert.match(text, /^0x33d000002, virtio feature word of a vsock device: 8 bits set\n/);
    const bits = [...text.matchAll(/^ ?(\d+) {2}(\w+) /gm)].map(([, bit, name]) => `${bit} ${name}`);
    assert.deepEqual(bits, [
      "1 VSOCK_SEQPACKET",
      "24 NOTIFY_ON_EMPTY",
      "26 LOG_ALL",
      "27 ANY_LAYOUT",
      "28 INDIRECT_DESC",
      "29 EVENT_IDX",
      "32 VERSION_1",
      "33 ACCESS_PLATFORM",
    ]);
  });

  it("says of bit 33 what each party takes it for, that they differ, and what it was called", async () => {
    const bit33 = section(await prints(VHOST_VSOCK), 33);
    assert.match(bit33, /formerly VIRTIO_F_IOMMU_PLATFORM/);
    assert.match(bit33, / guest use the platform's DMA API/);
    assert.match(bit33, / vhost acknowledged: turn the device IOTLB on/);
    assert.match(bit33, / vhost-user as documented: ring addresses are IOVAs/);
    assert.match(bit33, / DIFFERS .*-EFAULT/);
    assert.match(bit33, / history .*e13a6915a03f.*4e7d00be2e13/);
    assert.match(bit33, / source VIRTIO, Reserved Feature Bits/);
  });

  it("names the bits on which the parties differ before all else", async () => {
    const text = (await prints(VHOST_VSOCK)).replaceAll("\n", " ");
    assert.match(
      text,
      /differently by different parties: LOG_ALL \(26\), ANY_LAYOUT \(27\), ACCESS_PLATFORM \(33\)\./,
    );
    assert.doesNotMatch(await prints("1<<32"), /DIFFERS|differently/);
  });

  it("gives a bit that it does not know its number and what its range is for", async () => {
    const text = await prints("0x8400800000000000", "--type=vsock");
    assert.match(section(text, 47), /unknown reserved/);
    assert.match(section(text, 58), /unknown belongs to the device type/);
    assert.match(section(text, 63), /none of its number is known for vsock/);
  });

  it("without a device type does not guess whose bit 1 is, but says who uses it", async () => {
    assert.match(section(await prints("0x2"), 1), /unknown .*VSOCK_SEQPACKET for vsock \(--type vsock\)/);
  });

  it("may be empty", async () => {
    assert.equal(await prints("0"), "0x0, virtio feature word: no bits set");
    assert.equal(await prints("0x0", "--json"), "");
  });

  it("may be written as hexadecimal, binary or decimal, as C does, and several at once", async () => {
    const text = await prints("0x3_0000_0000ULL", "0b11", "12884901888");
    const words = [...text.matchAll(/^(0x\w+), virtio/gm)].map(([, word]) => word);
    assert.deepEqual(words, ["0x300000000", "0x3", "0x300000000"]);
  });

  it("that looks like a bit number is still a word, and says how to ask for the bit", async () => {
    assert.match(
      await prints("33"),
      /^0x21, .*2 bits set\n[\s\S]*\(33 is taken for a word; bit 33 alone is "bit33"\.\)/,
    );
    for (const bit of ["bit33", "1<<33", "1ULL << 33", "BIT_ULL(33)"]) {
      assert.match(await prints(bit), /: bit 33 \(0x200000000\)\n\n33 {2}ACCESS_PLATFORM/);
    }
  });

  it("and every list fit a terminal of 80 columns", async () => {
    const texts = [
      await prints("0xffffffffffffffff", "--type=vsock"),
      await prints("0xffffffffffffffff", "--protocol"),
      await prints("0xffffffffffffffff", "--backend"),
      await prints("--list"),
      await prints("--help"),
    ];
    for (const line of texts.join("\n").split("\n")) assert.ok(line.length <= TERMINAL_WIDTH, line);
  });
});

describe("a name", () => {
  it("is found with and without its prefix, in any case, present, former or another program's", async () => {
    const names = [
      "ACCESS_PLATFORM",
      "VIRTIO_F_ACCESS_PLATFORM",
      "iommu_platform",
      "VIRTIO_F_IOMMU_PLATFORM",
    ];
    for (const name of names)
      assert.match(await prints(name), /: bit 33 \(0x200000000\)\n\n33 {2}ACCESS_PLATFORM/);
    assert.match(await prints("VHOST_NET_F_VIRTIO_NET_HDR"), /\n27 {2}ANY_LAYOUT/);
    assert.match(await prints("VIRTIO_RING_F_EVENT_IDX"), /\n29 {2}EVENT_IDX/);
    assert.match(await prints("SLAVE_REQ", "--protocol"), /\n 5 {2}BACKEND_REQ/);
  });

  it("of a device type's bit needs no --type", async () => {
    assert.match(await prints("VIRTIO_VSOCK_F_SEQPACKET"), /\n 1 {2}VSOCK_SEQPACKET/);
  });

  it("that two programs gave to two numbers yields both", async () => {
    const text = await prints("VIRTIO_F_SUSPEND");
    assert.match(text, /bit 42 .* and bit 43\s.*one name for\s+two numbers/);
    assert.match(section(text, 42), /\(VIRTIO_F_SUSPEND\) standing assigned by no specification/);
  });
});

describe("the other words", () => {
  it("are decoded by their own names", async () => {
    const protocol = await prints("0x228", "--protocol");
    assert.match(
      protocol,
      /^0x228, word of vhost-user protocol features: 3 bits set\n {2}REPLY_ACK BACKEND_REQ CONFIG\n/,
    );
    assert.match(section(protocol, 5), /formerly VHOST_USER_PROTOCOL_F_SLAVE_REQ means SET_BACKEND_REQ_FD/);
    assert.match(section(await prints("0x2", "--backend"), 1), /VHOST_BACKEND_F_IOTLB_MSG_V2/);
  });

  it("know the experimental IOTLB feature wherever it is put", async () => {
    assert.match(
      section(await prints("0x4000000000000000", "--protocol"), 62),
      /VHOST_USER_PROTOCOL_F_IOTLB/,
    );
    assert.match(
      section(await prints("bit40", "--protocol", "--explicit-bit=40"), 40),
      /IOTLB .*experimental/,
    );
  });
});

describe("as JSON", () => {
  it("each bit is one object on a line, with everything that is known of it", async () => {
    const [version1, platform, unknown] = await objects("0x800300000000");
    assert.deepEqual([version1.bit, version1.meaningsDiffer], [32, false]);
    const { input, value, word, bit, mask, known, name, symbol, formerNames, meaningsDiffer } = platform;
    assert.deepEqual(
      { input, value, word, bit, mask, known, name, symbol, formerNames, meaningsDiffer },
      {
        input: "0x800300000000",
        value: "0x800300000000",
        word: "virtio",
        bit: 33,
        mask: "0x200000000",
        known: true,
        name: "ACCESS_PLATFORM",
        symbol: "VIRTIO_F_ACCESS_PLATFORM",
        formerNames: ["IOMMU_PLATFORM"],
        meaningsDiffer: true,
      },
    );
    for (const key of ["toGuest", "toVhostKernel", "toVhostUser", "disagreement", "source"]) {
      assert.equal(typeof platform[key], "string", key);
    }
    assert.deepEqual([unknown.bit, unknown.known, "name" in unknown], [47, false, false]);
  });

  it("the list has the bits of all three words", async () => {
    const words = (await objects("--list")).map(({ word }) => word);
    assert.deepEqual([...new Set(words)], ["virtio", "protocol", "backend"]);
  });
});

describe("a mistake", () => {
  it("in an argument is named with its place, and leaves standard output empty", async () => {
    const near = 'argument 2: unknown feature "ACCES_PLATFORM"; did you mean ACCESS_PLATFORM?';
    await refuses(["0x1", "ACCES_PLATFORM"], near);
    await refuses(
      ["--type=vsock", "33d000002"],
      'argument 1: "33d000002" is not a number; in hexadecimal it is 0x33d000002',
    );
    await refuses(["0x10000000000000000"], "argument 1: 0x10000000000000000 has more than 64 bits");
    await refuses(["bit64"], "argument 1: bit64 is outside of the word, whose bits are 0 to 63");
    for (const typed of ["0x", "0x_", "0b2", "", "12.5"]) {
      const problem = "is neither a number (0x…, 0b… or decimal) nor the name of a feature";
      await refuses(["1", typed], `argument 2: ${JSON.stringify(typed)} ${problem}`);
    }
  });

  it("in a name suggests those that it may be a part of", async () => {
    await refuses(
      ["platform"],
      'argument 1: unknown feature "platform"; did you mean ACCESS_PLATFORM or ORDER_PLATFORM?',
    );
    await refuses(["nonsense"], 'argument 1: unknown feature "nonsense"; --list prints all names');
  });

  it("of the word says which one has the name", async () => {
    await refuses(["REPLY_ACK"], "argument 1: REPLY_ACK is a vhost-user protocol feature; say --protocol");
    await refuses(["IOTLB_MSG_V2"], "argument 1: IOTLB_MSG_V2 is a vhost backend feature; say --backend");
    await refuses(
      ["VERSION_1", "--backend"],
      "argument 1: VERSION_1 is a virtio feature; leave out --backend",
    );
  });

  it("in the options says what to do", async () => {
    await refuses(
      [],
      "no feature word is given: bit33 features 0x33d000002 --type vsock, or --list for all names",
    );
    await refuses(["1", "--type", "vsok"], '--type: unknown device type "vsok"; did you mean vsock?');
    await refuses(["1", "--type=net"], '--type: unknown device type "net"; the known ones: vsock');
    await refuses(["--list", "1"], 'argument 1: --list prints every feature; leave it out to decode "1"');
    await refuses(
      ["1", "--protocol", "--backend"],
      "--protocol and --backend name different words (device types have bits in the virtio word alone); keep one",
    );
    await refuses(["1", "--explicit-bit=40"], "--explicit-bit is about protocol features; add --protocol");
    await refuses(
      ["1", "--protocol", "--explicit-bit=3"],
      "--explicit-bit: 3: bit 3 is VHOST_USER_PROTOCOL_F_REPLY_ACK",
    );
    await refuses(["1", "--protocl"], "unknown option --protocl; did you mean --protocol?");
  });
});

describe("the program", () => {
  const bit33 = (...argv: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, "features", ...argv], {
      encoding: "utf8",
    });
    return { status, stdout, stderr };
  };

  it("decodes the word that the kernel's vhost-vsock offers", async () => {
    const expected = await prints(VHOST_VSOCK, "--type", "vsock");
    assert.deepEqual(bit33(VHOST_VSOCK, "--type", "vsock"), {
      status: 0,
      stdout: `${expected}\n`,
      stderr: "",
    });
  });

  it("prints what the README shows", () => {
    const readme = readFileSync(new URL("../../../README.md", import.meta.url), "utf8");
    const [, name, shown] = /^ {4}\$ bit33 features (\w+)\n((?: {4}.*\n|\n(?= {4}))+)/m.exec(readme) ?? [];
    assert.equal(bit33(name).stdout, shown.replaceAll(/^ {4}/gm, ""));
  });

  it("ends a mistake with one line and status 2", () => {
    const stderr = 'bit33: argument 1: unknown feature "VERSION_2"; did you mean VERSION_1?\n';
    assert.deepEqual(bit33("VERSION_2"), { status: 2, stdout: "", stderr });
  });
});
