/** Lines of the control socket: what is a request, and what is told about one that is not. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ConfigError } from "../../config/errors.js";
import { parseRequest, settingsOf } from "./control-protocol.js";
import { readListenAddress } from "./listen-address.js";

function problemOf(line: string): string {
  const request = parseRequest(line);
  assert.ok(!("command" in request), line);
  return `${request.code} ${request.where}: ${request.message}`;
}

describe("a line on the control socket", () => {
  it("is one of four requests", () => {
    assert.deepEqual(parseRequest('{"command":"list"}'), { command: "list" });
    assert.deepEqual(parseRequest('{"command":"stats","cid":3}'), { command: "stats", cid: 3 });
    assert.deepEqual(parseRequest('{"command":"stats"}'), { command: "stats" });
    assert.deepEqual(parseRequest('{"command":"remove","cid":3}'), { command: "remove", cid: 3 });
    const add = { command: "add", vm: { "guest-cid": "4" } };
    assert.deepEqual(parseRequest(JSON.stringify(add)), add);
  });

  it("that is none says what is wrong and where", () => {
    assert.match(problemOf("{"), /^request-malformed : the line is not JSON/);
    assert.equal(problemOf("[]"), "request-malformed : a request is a JSON object");
    assert.equal(
      problemOf("{}"),
      "command-unknown command: undefined is not one of list, add, remove, stats",
    );
    assert.match(problemOf('{"command":"remove"}'), /^request-malformed cid: nothing is no CID/);
    assert.match(problemOf('{"command":"stats","cid":"3"}'), /^request-malformed cid: "3" is no CID/);
    assert.match(
      problemOf('{"command":"add","vm":{"guest-cid":4}}'),
      /^request-malformed vm: give an object/,
    );
  });

  it("never makes the server throw, whatever it holds", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (line) => typeof parseRequest(line) === "object"),
    );
  });

  it("that adds a VM with an unknown key names the key", () => {
    assert.throws(
      () => settingsOf({ "guest-cdi": "4" }),
      (error) =>
        error instanceof ConfigError &&
        error.line === 'add (guest-cdi): unknown key "guest-cdi"; did you mean guest-cid?',
    );
  });
});

describe("the address of --metrics", () => {
  const read = (text: string) => {
    const { host, port } = readListenAddress({ text, place: "--metrics" });
    return [host, port];
  };

  it("is a host and a port, an IPv6 address in brackets", () => {
    assert.deepEqual(read("127.0.0.1:9464"), ["127.0.0.1", 9464]);
    assert.deepEqual(read("localhost:0"), ["localhost", 0]);
    assert.deepEqual(read("[::1]:9464"), ["::1", 9464]);
  });

  it("is refused without a host, without a port, and with a port that is none", () => {
    for (const text of [":9464", "9464", "localhost", "::1:9464", "a:b", ""]) {
      assert.throws(() => read(text), /is not HOST:PORT; give an address such as/, text);
    }
    assert.throws(() => read("localhost:65536"), /^ConfigError: 65536 is no port/);
  });
});
