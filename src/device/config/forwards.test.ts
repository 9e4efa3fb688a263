import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ConfigError } from "../../config/errors.js";
import { type Forward, readForwards } from "./forwards.js";

const read = (...texts: string[]) => readForwards(texts.map((text) => ({ text, place: "--forward" })));

describe("a forward", () => {
  const tcp = (hostPort: number, address: string, port: number): Forward => ({
    hostPort,
    target: { kind: "tcp", address, port },
  });

  it("names a TCP address, the path of a Unix socket, or a command", () => {
    assert.deepEqual(read("7=exec:tr a=b c:d"), [
      { hostPort: 7, target: { kind: "exec", command: "tr a=b c:d" } },
    ]);
    assert.deepEqual(read("22=tcp:127.0.0.1:2222"), [tcp(22, "127.0.0.1", 2222)]);
    assert.deepEqual(read("22=tcp:localhost:22"), [tcp(22, "127.0.0.1", 22)]);
    assert.deepEqual(read("0=tcp:[::1]:65535"), [tcp(0, "::1", 65535)]);
    assert.deepEqual(read("4294967294=unix:/run/a b=c:d"), [
      { hostPort: 4294967294, target: { kind: "unix", path: "/run/a b=c:d" } },
    ]);
  });

  it("may be given for several ports, and for each once", () => {
    assert.deepEqual(
      read("1=unix:a", "2=unix:a").map(({ hostPort }) => hostPort),
      [1, 2],
    );
    assert.throws(() => read("1=unix:a", "1=unix:b"), {
      code: "value-conflict",
      message: /port 1 is forwarded twice/,
    });
  });

  for (const [text, message] of [
    ["", /write PORT=tcp:ADDRESS:PORT, PORT=unix:PATH or PORT=exec:COMMAND/],
    ["22", /write PORT=tcp/],
    ["x=unix:a", /give the port that the guest connects to/],
    ["4294967295=unix:a", /0 to 4294967294/],
    ["22=udp:127.0.0.1:1", /the target begins with tcp:, unix: or exec:/],
    ["22=/run/x", /the target begins with tcp:, unix: or exec:/],
    ["22=tcp:127.0.0.1", /with a port from 1 to 65535/],
    ["22=tcp:127.0.0.1:0", /with a port from 1 to 65535/],
    ["22=tcp:127.0.0.1:65536", /with a port from 1 to 65535/],
    ["22=tcp:example.org:22", /names are not looked up/],
    ["22=tcp:::1:22", /such as 127\.0\.0\.1 or \[::1\]/],
    ["22=tcp:[127.0.0.1]:22", /such as 127\.0\.0\.1 or \[::1\]/],
    ["22=exec: ", /give a command for \/bin\/sh/],
    ["22=unix:", /1 to 107 bytes/],
    [`22=unix:${"x".repeat(108)}`, /1 to 107 bytes/],
  ] as const) {
    it(`is refused if it is ${JSON.stringify(text)}`, () => {
      assert.throws(
        () => read(text),
        (error) => {
          assert.ok(error instanceof ConfigError);
          assert.equal(error.where, "--forward");
          assert.match(error.message, message);
          return true;
        },
      );
    });
  }
});
