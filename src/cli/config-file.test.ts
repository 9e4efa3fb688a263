/**
 * The YAML file: the peer's shape, the places of values, and the place in each refusal.
 */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ConfigError } from "../config/errors.js";
import { readVmSettings } from "../device/config/settings.js";
import { parseConfigText, readConfigFile } from "./config-file.js";

const PEER_EXAMPLE = `vms:
    - guest_cid: 3
      socket: /tmp/vhost3.socket
      uds_path: /tmp/vm3.vsock
      tx_buffer_size: 65536
      queue_size: 1024
      groups: group1+groupA
    - guest_cid: 4
      socket: /tmp/vhost4.socket
      uds_path: /tmp/vm4.vsock
      tx_buffer_size: 32768
      queue_size: 256
      groups: group2+groupB
`;

const read = (text: string) => parseConfigText(text, "vms.yaml").map(readVmSettings);

function refuses(text: string, code: string, line: string | RegExp) {
  assert.throws(
    () => read(text),
    (error) => {
      assert.ok(error instanceof ConfigError, String(error));
      assert.equal(error.code, code, error.line);
      if (typeof line === "string") assert.equal(error.line, line);
      else assert.match(error.line, line);
      return true;
    },
  );
}

describe("a configuration file", () => {
  it("in the peer's shape is read", () => {
    const configs = read(PEER_EXAMPLE).map(({ config }) => config);
    assert.deepEqual(
      configs.map(({ guestCid, socketPath, udsPath, txBufferBytes, queueSize, groups }) => {
        return [guestCid, socketPath, udsPath, txBufferBytes, queueSize, groups];
      }),
      [
        [3, "/tmp/vhost3.socket", "/tmp/vm3.vsock", 65536, 1024, ["group1", "groupA"]],
        [4, "/tmp/vhost4.socket", "/tmp/vm4.vsock", 32768, 256, ["group2", "groupB"]],
      ],
    );
  });

  it("remembers where each value stands, and the VM for what is left out", () => {
    const [, second] = read(PEER_EXAMPLE);
    assert.equal(second.placeOf("guestCid"), "vms.yaml:8:18");
    assert.equal(second.placeOf("queueSize"), "vms.yaml:12:19");
    assert.equal(second.placeOf("iotlb"), "vms.yaml:8:7");
  });

  it("may use dashes, flow style, quotes, comments, anchors and JSON", () => {
    const variants = [
      "vms: [{guest-cid: 7, socket: s, uds-path: u}]",
      '{"vms": [{"guest_cid": 7, "socket": "s", "uds_path": "u"}]}',
      "# ours\nvms:\n- guest_cid: 0x7 # hexadecimal\n  'socket': 's'\n  uds-path: \"u\"\n",
      "vms:\n- socket: &name s\n  guest_cid: 7\n  uds_path: u\n  groups: *name\n",
    ];
    for (const text of variants) {
      const [{ config }] = read(text);
      assert.deepEqual([config.guestCid, config.socketPath, config.udsPath], [7, "s", "u"], text);
    }
    assert.deepEqual(read(variants[3])[0].config.groups, ["s"]);
  });

  it("means what it shows: on is on, and 0660 is a file mode", () => {
    const [{ config }] = read(
      "vms:\n- {socket: s, uds_path: u, iotlb: on, access_platform: false, uds_mode: 0660, uds_group: 0}\n",
    );
    assert.equal(config.iotlb, "on");
    assert.equal(config.accessPlatform, false);
    assert.equal(config.udsMode, 0o660);
    assert.equal(config.udsGroup, 0);
  });

  it("that is not YAML is refused where it stops being so", () => {
    refuses("vms:\n  - socket: 'a\n", "yaml-syntax", /^vms\.yaml:\d+:\d+: this is not valid YAML: /);
    refuses("vms:\n  - socket: [a\n", "yaml-syntax", /^vms\.yaml:3:1: this is not valid YAML: /);
    refuses("vms: *nothing\n", "yaml-syntax", /^vms\.yaml:1:6: .*\*nothing stands for nothing$/);
    refuses("vms: []\n---\nvms: []\n", "yaml-syntax", /^vms\.yaml:2:1: this is not valid YAML/);
  });

  it("of another shape is refused with the shape to write", () => {
    const shape = "write `vms:` and below it one `- ` item for each VM";
    refuses("", "file-shape", `vms.yaml:1:1: the file holds no map; ${shape}`);
    refuses("- socket: a\n", "file-shape", `vms.yaml:1:1: the file holds no map; ${shape}`);
    refuses("{}", "file-shape", `vms.yaml:1:1: vms is not a list; ${shape}`);
    refuses("vms:\n", "file-shape", new RegExp(`^vms\\.yaml:1:\\d: vms is not a list; ${shape}`));
    refuses("vms:\n  socket: a\n", "file-shape", `vms.yaml:2:3: vms is not a list; ${shape}`);
    refuses("# none yet\nvms: []\n", "file-shape", `vms.yaml:2:6: the list of vms is empty; ${shape}`);
    const notMap = "this VM is not a map; write its settings as `key: value` lines";
    refuses("vms:\n  - a\n", "file-shape", `vms.yaml:2:5: ${notMap}`);
    refuses("vms:\n  - [a]: b\n", "file-shape", "vms.yaml:2:5: this key is not a plain word");
  });

  it("with a key that does not exist is refused at the key", () => {
    refuses("vm:\n  - a: b\n", "key-unknown", 'vms.yaml:1:1: unknown key "vm"; did you mean vms?');
    refuses("vms: []\nlog: x\n", "key-unknown", /^vms\.yaml:2:1: unknown key "log"; write `vms:`/);
    const typo = "vms:\n  - guest_cid: 3\n    uds_pth:\n";
    refuses(typo, "key-unknown", 'vms.yaml:3:5: unknown key "uds_pth"; did you mean uds-path?');
  });

  it("with a key given twice is refused at the second, in whatever spelling", () => {
    const line = "vms.yaml:1:23: guest-cid is given twice for the same VM; keep one of them";
    refuses("vms: [{guest_cid: 3,  guest-cid: 4}]", "key-twice", line);
    refuses("vms: []\nvms: []\n", "key-twice", "vms.yaml:2:1: vms is given twice; make one list of them");
  });

  it("with no value, or with more than one, is refused", () => {
    const noValue = "socket has no value; write one value behind the colon";
    refuses("vms:\n  - socket:\n", "value-missing", new RegExp(`^vms\\.yaml:2:\\d+: ${noValue}$`));
    refuses("vms:\n  - socket: ~\n", "value-missing", `vms.yaml:2:13: ${noValue}`);
    refuses(
      "vms:\n  - groups: [a, b]\n",
      "value-missing",
      "vms.yaml:2:13: groups has more than one value; write the names as group1+group2",
    );
  });

  it("with a value of the wrong kind is refused at the value", () => {
    const text = PEER_EXAMPLE.replace("guest_cid: 4", "guest_cid: four");
    refuses(text, "value-malformed", 'vms.yaml:8:18: "four" is not a whole number');
    const bad = "vms: [{socket: s, uds_path: u, iotlb: true}]";
    refuses(bad, "value-malformed", 'vms.yaml:1:39: "true" is not one of auto, on, off, explicit');
  });

  it("without uds-path is refused at the VM", () => {
    refuses(
      "vms:\n  - socket: s\n    guest_cid: 3\n",
      "key-missing",
      "vms.yaml:2:5: uds-path is missing; give the Unix socket for host programs",
    );
  });

  it("that forwards to AF_VSOCK is refused as on the command line", () => {
    const text = "vms:\n  - guest_cid: 5\n    socket: s\n    forward-cid: 1\n    forward-listen: 9001+9002\n";
    refuses(
      text,
      "forwarding-refused",
      /^vms\.yaml:4:5: bit33 never opens the host's AF_VSOCK; use uds-path/,
    );
  });

  it("that cannot be read is refused by its name", () => {
    const reason = (fileName: string) => {
      try {
        readConfigFile(fileName);
      } catch (error) {
        assert.ok(error instanceof ConfigError);
        assert.equal(error.code, "file-unreadable");
        return error.line;
      }
      return undefined;
    };
    const advice = "check the path that --config was given";
    assert.equal(
      reason("/nonexistent.yaml"),
      `/nonexistent.yaml: the file cannot be read (ENOENT); ${advice}`,
    );
    assert.equal(reason("/"), `/: the file cannot be read (EISDIR); ${advice}`);
  });

  it("is either read or refused with its place, whatever it holds", () => {
    const token = fc.constantFrom(
      ..."vms socket guest_cid : - , [ ] { } ' \" # | > & * ! ? ~ --- ... 3 <<".split(" "),
      "\n",
      "\n  ",
      "\n    ",
      " ",
      "\t",
      "&a ",
      "*a ",
    );
    const nearly = fc.array(token, { maxLength: 30 }).map((tokens) => `vms:${tokens.join("")}`);
    fc.assert(
      fc.property(fc.oneof(nearly, fc.string({ unit: "binary" })), (text) => {
        try {
          read(text);
        } catch (error) {
          assert.ok(error instanceof ConfigError, error instanceof Error ? error.stack : String(error));
          assert.match(error.where, /^vms\.yaml:[1-9]\d*:[1-9]\d*$/);
        }
      }),
      { numRuns: 1000 },
    );
  });
});
