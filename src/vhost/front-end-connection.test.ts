import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { test } from "node:test";
import { receiveMessage, sendMessage } from "../linux/message-socket.js";
import { socketPair } from "../linux/unix-socket.js";
import { maskOf, PROTOCOL_F } from "../virtio/index.js";
import { FrontEndConnection, type FrontEndOptions } from "./front-end-connection.js";
import { FrontEndSession } from "./front-end-session.js";
import { decodeHeader, encodeAck, encodeReply, encodeRequest, IOTLB_TYPE } from "./wire/index.js";

const MISS = {
  kind: "iotlb",
  iova: 0x5000n,
  size: 0n,
  userAddress: 0n,
  perm: 1,
  type: IOTLB_TYPE.MISS,
} as const;

/** A front-end whose back-end is `play`, called whenever the front-end waits, with what it sent since. */
function withScript(
  options: FrontEndOptions,
  play: (sent: Uint8Array, backend: number, descriptors: number[]) => void,
  body: (session: FrontEndSession, backend: number) => void,
): void {
  const [ours, theirs] = socketPair();
  const pump = (): void => {
    const { result, bytes, descriptors } = receiveMessage(theirs);
    if (result > 0) play(bytes.slice(), theirs, descriptors);
  };
  const session = new FrontEndSession(ours, { timeoutMs: 200, pump, ...options });
  try {
    body(session, theirs);
  } finally {
    session.close();
    closeSync(theirs);
  }
}

test("a MISS that comes before an answer is served, and both answers find their questions", () => {
  let channel = -1;
  const requests: number[] = [];
  let results: bigint[] = [];
  let held: Uint8Array | undefined;
  const session: { it?: FrontEndSession } = {};
  withScript(
    { onMiss: () => results.push(session.it?.iotlbUpdate(0x5000n, 0x1000n, 0n) ?? -1n) > 0 },
    (sent, backend, descriptors) => {
      const header = decodeHeader(sent);
      requests.push(header.request);
      if (header.request === 21) channel = descriptors[0];
      if (header.request === 11) {
        // Asked for a position, the back-end first asks for a mapping, and answers both once it has it.
        held = sent;
        sendMessage(channel, encodeRequest("backend", "IOTLB_MSG", MISS, { needReply: true }));
      }
      if (header.request === 22 && held !== undefined) {
        sendMessage(backend, encodeReply(decodeHeader(held), { kind: "vringState", index: 0, num: 7 }));
        sendMessage(backend, encodeAck(header, 0n));
      }
    },
    (frontEnd) => {
      session.it = frontEnd;
      frontEnd.protocolFeatures = maskOf(PROTOCOL_F.REPLY_ACK);
      frontEnd.openBackendChannel();
      frontEnd.waitFor(() => channel >= 0);
      assert.equal(frontEnd.getVringBase(0), 7);
      assert.deepEqual(results, [0n]);
      assert.deepEqual(requests, [21, 11, 22]);
      assert.equal(frontEnd.missCount, 1);
      const acknowledged = receiveMessage(channel);
      assert.equal(decodeHeader(acknowledged.bytes).request, 1, "the MISS asked for a reply and got it last");
      results = [];
      closeSync(channel);
    },
  );
});

test("an answer to something else, a failure, silence and a closed connection are told apart", () => {
  const cases: readonly [(header: ReturnType<typeof decodeHeader>) => Uint8Array | undefined, string][] = [
    [(header) => encodeAck({ ...header, request: 3 }, 0n), "unexpected-reply"],
    [(header) => encodeAck(header, 1n), "refused"],
    [() => undefined, "timeout"],
    [() => new Uint8Array([1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]), "malformed"],
  ];
  for (const [answer, code] of cases) {
    withScript(
      { needReply: true },
      (sent, backend) => {
        const bytes = answer(decodeHeader(sent));
        if (bytes !== undefined) sendMessage(backend, bytes);
      },
      (session) => {
        session.protocolFeatures = maskOf(PROTOCOL_F.REPLY_ACK);
        assert.throws(() => session.setVringNum(0, 8), { name: "FrontEndError", code });
      },
    );
  }
  const [ours, theirs] = socketPair();
  const session = new FrontEndConnection(ours);
  closeSync(theirs);
  assert.throws(() => session.request("GET_FEATURES"), { code: "closed" });
  session.close();
});

test("with a clock of its own beside the pump, a front-end times out without any time passing", () => {
  let nowMs = 0;
  const pump = (timeoutMs: number): void => {
    nowMs += timeoutMs;
  };
  withScript(
    { timeoutMs: 5000, pump, now: () => nowMs },
    () => {},
    (session) => {
      assert.throws(() => session.getFeatures(), /waited 5000 ms for an answer/);
      assert.equal(nowMs, 5000);
    },
  );
});
