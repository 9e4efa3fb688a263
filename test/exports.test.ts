/** The library's surface: a name that is exported stays, and a new one is added here on purpose. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import * as conformance from "../src/conformance/index.js";
import * as library from "../src/index.js";

/** Everything that the declarations export, types included. */
function declared(path = "../src/index.d.ts"): string[] {
  const text = readFileSync(fileURLToPath(new URL(path, import.meta.url)), "utf8");
  return [...text.matchAll(/export (?:type )?\{([^}]*)\}/g)]
    .flatMap(([, names]) => names.split(","))
    .map((name) => name.trim().replace(/^type /, ""))
    .filter((name) => name !== "")
    .sort();
}

describe("the library", () => {
  it("exports these values and no others", () => {
    assert.deepEqual(Object.keys(library).sort(), [
      "ConfigError",
      "StartError",
      "VsockDevice",
      "VsockError",
      "VsockListener",
      "createVsockDevice",
    ]);
  });

  it("exports these types and no others beside them", () => {
    assert.deepEqual(declared(), [
      "ConfigError",
      "ConfigErrorCode",
      "EventId",
      "FieldValue",
      "IotlbChoice",
      "LogLevel",
      "LogRecord",
      "StartError",
      "StartErrorCode",
      "VsockConnectOptions",
      "VsockDevice",
      "VsockDeviceEvents",
      "VsockDeviceOptions",
      "VsockError",
      "VsockErrorCode",
      "VsockListenOptions",
      "VsockListener",
      "VsockListenerEvents",
      "createVsockDevice",
    ]);
  });

  it("names these members of a device and of a listener", () => {
    const membersOf = (prototype: object) => Object.getOwnPropertyNames(prototype).sort();
    assert.deepEqual(membersOf(library.VsockDevice.prototype), [
      "close",
      "closed",
      "connect",
      "constructor",
      "isUp",
      "listen",
      "whenUp",
    ]);
    assert.deepEqual(membersOf(library.VsockListener.prototype), ["close", "constructor", "listening"]);
  });
});

describe("the conformance kit, bit33/conformance", () => {
  it("exports these values and no others", () => {
    assert.deepEqual(Object.keys(conformance).sort(), [
      "CASES",
      "CaseContext",
      "CaseFailed",
      "CaseSkipped",
      "Expect",
      "HostListener",
      "HostPrograms",
      "HostSocket",
      "RawConnection",
      "RawGuest",
      "RawQueue",
      "TestMemory",
      "TracedSession",
      "agreed",
      "assertWorks",
      "call",
      "describeRule",
      "exchange",
      "join",
      "runCases",
      "vhostUser",
      "virtio",
    ]);
  });

  it("exports these types and no others beside them", () => {
    const types = declared("../src/conformance/index.d.ts").filter((name) => !(name in conformance));
    assert.deepEqual(types, [
      "CaseResult",
      "ConformanceCase",
      "FeatureName",
      "Needs",
      "Offer",
      "Packet",
      "ProtocolFeatureName",
      "RawGuestOptions",
      "Rule",
      "RunOptions",
      "Target",
    ]);
  });
});
