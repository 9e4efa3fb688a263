/**
 * The option reader against a small table: what it takes, and each thing that it refuses.
 */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { hasSwitch, type OptionTable, readArguments, readOptions } from "./options.js";
import { UsageError } from "./usage-error.js";

const TABLE: OptionTable = {
  socket: { argument: "PATH" },
  "socket-path": { argument: "PATH", aliasOf: "socket" },
  vm: { argument: "KEY=VALUE", repeatable: true },
  help: { short: "h" },
};

const given = (...argv: string[]) => readOptions(argv, TABLE).map(({ name, value }) => [name, value]);

function refuses(argv: string[], code: string, line: string) {
  assert.throws(
    () => readOptions(argv, TABLE),
    (error) => {
      assert.ok(error instanceof UsageError);
      assert.deepEqual([error.code, error.line], [code, line]);
      return true;
    },
  );
}

describe("options", () => {
  it("are read with their value behind a space or an equals sign, in order", () => {
    assert.deepEqual(given("--vm", "a=b=c", "--socket=/x", "--vm=d=e", "-h"), [
      ["vm", "a=b=c"],
      ["socket", "/x"],
      ["vm", "d=e"],
      ["help", ""],
    ]);
  });

  it("keep what was typed when an alias was used", () => {
    assert.deepEqual(readOptions(["--socket-path", "/x"], TABLE), [
      { name: "socket", typed: "--socket-path", value: "/x" },
    ]);
  });

  it("may have an empty value, or one that begins with a dash behind an equals sign", () => {
    assert.deepEqual(given("--socket="), [["socket", ""]]);
    assert.deepEqual(given("--socket", ""), [["socket", ""]]);
    assert.deepEqual(given("--socket=-x"), [["socket", "-x"]]);
  });

  it("that do not exist are refused with the nearest that does", () => {
    refuses(["--sokcet", "x"], "option-unknown", "unknown option --sokcet; did you mean --socket?");
    refuses(["--colour"], "option-unknown", "unknown option --colour; --help lists the options");
    refuses(["-x"], "option-unknown", "unknown option -x; --help lists the options");
    refuses(["--__proto__"], "option-unknown", "unknown option --__proto__; --help lists the options");
  });

  it("without their value are refused, also when the next option stands in its place", () => {
    refuses(["--socket"], "option-needs-value", "--socket needs a value: --socket PATH");
    refuses(
      ["--socket", "--vm", "a=b"],
      "option-needs-value",
      "--socket needs a value: --socket PATH (one that begins with a dash: --socket=--vm)",
    );
  });

  it("that are switches are refused with a value", () => {
    refuses(["--help=yes"], "option-takes-no-value", "--help takes no value; leave out =yes");
  });

  it("given twice are refused, by any of their names, unless they may be repeated", () => {
    const line = "--socket is given twice; keep one of them";
    refuses(["--socket=a", "--socket=b"], "option-twice", line);
    refuses(["--socket=a", "--socket-path=a"], "option-twice", line);
  });

  it("leave the words around them to a command that takes words", () => {
    const { options, words } = readArguments(["a", "--socket", "x", "b", "-h", "--", "--vm"], TABLE);
    assert.deepEqual(
      options.map(({ name }) => name),
      ["socket", "help"],
    );
    assert.deepEqual(words, ["a", "b", "--vm"]);
  });

  it("are all there is: a lone word is refused", () => {
    const line = 'unexpected argument "extra"; every value follows an option';
    refuses(["--socket=a", "extra"], "argument-unexpected", line);
    refuses(["--", "extra"], "argument-unexpected", line);
  });
});

it("a switch is found anywhere before a bare --", () => {
  assert.equal(hasSwitch(["--nonsense", "--help"], "--help", "-h"), true);
  assert.equal(hasSwitch(["-h"], "--help", "-h"), true);
  assert.equal(hasSwitch(["--", "--help"], "--help"), false);
});
