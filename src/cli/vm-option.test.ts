/**
 * The notation of --vm: the peer's shapes, what is refused, and that anything else is refused cleanly.
 */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ConfigError } from "../config/errors.js";
import { FORWARDING_KEYS, readVmSettings, SETTING_KEYS } from "../device/config/settings.js";
import { parseVmOption } from "./vm-option.js";

const texts = (option: string) =>
  Object.fromEntries([...parseVmOption(option, 1).values].map(([key, { text }]) => [key, text]));

function refuses(option: string, code: string, line: RegExp) {
  assert.throws(
    () => readVmSettings(parseVmOption(option, 2)),
    (error) => {
      assert.ok(error instanceof ConfigError, String(error));
      assert.equal(error.code, code);
      assert.match(error.line, line);
      return true;
    },
  );
}

describe("--vm", () => {
  it("takes the peer's keys with dashes or underscores, in any order", () => {
    const expected = {
      "guest-cid": "5",
      socket: "/tmp/s",
      "uds-path": "/tmp/u",
      "tx-buffer-size": "32768",
      "queue-size": "256",
      groups: "group2+group3",
    };
    const dashes =
      "groups=group2+group3,guest-cid=5,socket=/tmp/s,uds-path=/tmp/u,tx-buffer-size=32768,queue-size=256";
    assert.deepEqual(texts(dashes), expected);
    assert.deepEqual(texts(dashes.replaceAll("-", "_")), expected);
    assert.deepEqual(texts(` ${dashes} `), expected);
  });

  it("reads into a configuration with the defaults for what is left out", () => {
    const { config, placeOf } = readVmSettings(parseVmOption("socket=/tmp/s,uds-path=/tmp/u", 1));
    assert.deepEqual(config, {
      guestCid: 3,
      socketPath: "/tmp/s",
      udsPath: "/tmp/u",
      txBufferBytes: 1048576,
      queueSize: 1024,
      groups: ["default"],
      iotlb: "auto",
      explicitBit: 62,
      accessPlatform: true,
      seqpacket: true,
      udsMode: undefined,
      udsGroup: undefined,
      forwards: [],
      listens: [],
      maxConnections: 4096,
      totalBufferBytes: undefined,
      probationMs: 50,
      connectTimeoutMs: 2000,
      handshakeTimeoutMs: 10_000,
      shutdownTimeoutMs: 8000,
    });
    assert.equal(placeOf("socketPath"), "--vm #1 (socket)");
    assert.equal(placeOf("guestCid"), "--vm #1");
    assert.equal(placeOf("probationMs"), "--vm #1");
  });

  it("takes our own keys", () => {
    const own = "iotlb=explicit,iotlb-explicit-bit=40,access-platform=off,uds-mode=0660,uds-group=107";
    const { config } = readVmSettings(parseVmOption(`socket=s,uds-path=u,max-connections=9,${own}`, 1));
    assert.equal(config.iotlb, "explicit");
    assert.equal(config.explicitBit, 40);
    assert.equal(config.accessPlatform, false);
    assert.equal(config.udsMode, 0o660);
    assert.equal(config.udsGroup, 107);
    assert.equal(config.maxConnections, 9);
  });

  it("keeps an equals sign in a value", () => {
    assert.equal(texts("socket=/tmp/a=b").socket, "/tmp/a=b");
  });

  it("refuses what is not a key and a value", () => {
    for (const option of ["", "socket", "socket=/tmp/s,", "socket=a,,uds-path=b", "uds-path=/tmp/a,b"]) {
      refuses(
        option,
        "value-malformed",
        /^--vm #2: ".*" is not KEY=VALUE; .*--config for a path with a comma$/,
      );
    }
  });

  it("refuses a key that does not exist", () => {
    refuses("sokcet=a", "key-unknown", /^--vm #2: unknown key "sokcet"; did you mean socket\?$/);
    refuses("colour=a", "key-unknown", /^--vm #2: unknown key "colour"; the keys are guest-cid, socket, /);
    refuses("=a", "key-unknown", /^--vm #2: unknown key ""/);
    refuses("__proto__=a", "key-unknown", /^--vm #2: unknown key "__proto__"/);
  });

  it("refuses a key given twice in whatever spelling", () => {
    refuses("guest-cid=3,guest_cid=4", "key-twice", /^--vm #2: guest-cid is given twice for the same VM/);
  });

  it("refuses a VM without uds-path", () => {
    refuses("socket=a", "key-missing", /^--vm #2: uds-path is missing; give the Unix socket/);
  });

  it("refuses a value of the wrong kind where it stands", () => {
    const rest = "socket=a,uds-path=b";
    refuses(
      `guest-cid=three,${rest}`,
      "value-malformed",
      /^--vm #2 \(guest-cid\): "three" is not a whole number$/,
    );
    refuses(
      `iotlb=yes,${rest}`,
      "value-malformed",
      /^--vm #2 \(iotlb\): "yes" is not one of auto, on, off, explicit$/,
    );
    refuses(`uds_mode=rw,${rest}`, "value-malformed", /^--vm #2 \(uds_mode\): .* such as 0660$/);
    refuses("socket=,uds-path=b", "value-missing", /^--vm #2 \(socket\): the path is empty/);
  });

  it("refuses the experimental bit where it would mean nothing", () => {
    const option = "socket=a,uds-path=b,iotlb=on,iotlb-explicit-bit=40";
    refuses(
      option,
      "value-malformed",
      /^--vm #2 \(iotlb-explicit-bit\): .* only with iotlb=explicit, and iotlb is on/,
    );
  });

  it("knows the peer's forwarding, and says why not and what to use", () => {
    const why = /never opens the host's AF_VSOCK; use uds-path=PATH/;
    refuses("socket=a,forward-cid=1", "forwarding-refused", why);
    refuses("socket=a,forward_cid=1", "forwarding-refused", why);
    refuses("socket=a,forward-listen=9001+9002", "forwarding-refused", why);
  });

  it("reads back any settings, whatever their order and spelling", () => {
    const value = fc.string().filter((text) => !text.includes(",") && text === text.trim());
    const pairs = fc.uniqueArray(fc.tuple(fc.constantFrom(...SETTING_KEYS), value, fc.boolean()), {
      minLength: 1,
      selector: ([key]) => key,
    });
    fc.assert(
      fc.property(pairs, (settings) => {
        const spelled = settings.map(([key, text, underscores]) => {
          return `${underscores ? key.replaceAll("-", "_") : key}=${text}`;
        });
        const expected = Object.fromEntries(settings.map(([key, text]) => [key, text]));
        assert.deepEqual(texts(spelled.join(",")), expected);
      }),
    );
  });

  it("is either read or refused with its place, whatever it holds", () => {
    const word = fc.constantFrom(...SETTING_KEYS, ...Object.keys(FORWARDING_KEYS), "=", ",", "0", "+", "on");
    const nearly = fc.array(word).map((words) => words.join(""));
    fc.assert(
      fc.property(fc.oneof(nearly, fc.string({ unit: "binary" })), (option) => {
        try {
          readVmSettings(parseVmOption(option, 7));
        } catch (error) {
          assert.ok(error instanceof ConfigError, String(error));
          assert.ok(error.where.startsWith("--vm #7"));
        }
      }),
    );
  });
});
