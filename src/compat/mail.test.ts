/** The envelope: an mbox that other programs read as it was meant. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import fc from "fast-check";
import { MAIL_WIDTH, type Mail, mbox } from "./mail.js";

const MAIL: Mail = {
  from: "Ada Lovelace <ada@example.org>",
  subject: "[REGRESSION] vhost-vsock: linux-5.15 fails to start",
  body: [
    "Hello,",
    "",
    "From here on it is broken.",
    ">From the same",
    "",
    "#regzbot introduced: e13a6915a03f",
  ],
  date: new Date("2026-11-02T08:09:10Z"),
  unique: "20261102080910.abc",
  userAgent: "bit33/0.1.0",
};

/** A reader of mbox files by RFC 4155 and RFC 5322, which knows nothing of the writer. */
function parse(file: string) {
  const [fromLine, ...rest] = file.split("\n");
  const end = rest.indexOf("");
  const unfolded = rest
    .slice(0, end)
    .join("\n")
    .replaceAll(/\n(?=[ \t])/g, "");
  const headers = new Map(
    unfolded.split("\n").map((line) => {
      const [, name, value] = /^([!-9;-~]+): (.*)$/.exec(line) ?? assert.fail(`no header: ${line}`);
      return [
        name,
        value.replaceAll(/=\?UTF-8\?B\?([\w+/=]+)\?=( (?==\?))?/g, (_, word) =>
          Buffer.from(word, "base64").toString(),
        ),
      ];
    }),
  );
  const body = rest.slice(end + 1).map((line) => line.replace(/^>(>*From )/, "$1"));
  return { fromLine, headers, body };
}

describe("an mbox", () => {
  const file = mbox(MAIL);
  const { fromLine, headers, body } = parse(file);

  it("begins with a From_ line and has the headers that RFC 5322 and MIME ask for", () => {
    assert.equal(fromLine, "From bit33 Mon Nov  2 08:09:10 2026");
    assert.deepEqual(Object.fromEntries(headers), {
      From: "Ada Lovelace <ada@example.org>",
      Subject: MAIL.subject,
      Date: "Mon, 02 Nov 2026 08:09:10 +0000",
      "Message-ID": "<20261102080910.abc@example.org>",
      "User-Agent": "bit33/0.1.0",
      "MIME-Version": "1.0",
      "Content-Type": "text/plain; charset=us-ascii",
      "Content-Transfer-Encoding": "7bit",
    });
  });

  it("quotes every line of the body that would begin another message, and nothing else", () => {
    assert.match(file, /\n>From here on it is broken\.\n>>From the same\n/);
    assert.deepEqual(body, [...MAIL.body, "", ""]);
    assert.equal(file.match(/^From /gm)?.length, 1);
  });

  it("says that it holds letters beyond ASCII, and encodes those in headers", () => {
    const subject = `[REGRESSION] ${"Überraschung → ".repeat(9)}Ende`;
    const parsed = parse(mbox({ ...MAIL, subject, from: "Žofie Ångström <z@example.org>", body: ["→"] }));
    assert.equal(parsed.headers.get("Subject"), subject);
    assert.equal(parsed.headers.get("From"), "Žofie Ångström <z@example.org>");
    assert.equal(parsed.headers.get("Content-Type"), "text/plain; charset=utf-8");
    assert.equal(parsed.headers.get("Content-Transfer-Encoding"), "8bit");
  });

  it("gives any subject and sender back, in lines that no relay has to break", () => {
    const text = fc
      .string({ unit: "grapheme", minLength: 1 })
      .map((each) => each.replaceAll(/[\p{C}\s<>"\\]+/gu, "x"));
    fc.assert(
      fc.property(fc.array(text, { minLength: 1 }), (words) => {
        const subject = words.join(" ");
        const written = mbox({ ...MAIL, subject });
        assert.equal(parse(written).headers.get("Subject"), subject);
        const longest = Math.max(...words.map((word) => word.length), MAIL_WIDTH);
        for (const line of written.split("\n\n")[0].split("\n")) assert.ok(line.length <= longest + 1, line);
      }),
    );
  });

  it("quotes a name that is more than words", () => {
    assert.equal(
      parse(mbox({ ...MAIL, from: "Lovelace, Ada (A.) <a@b.example>" })).headers.get("From"),
      '"Lovelace, Ada (A.)" <a@b.example>',
    );
    assert.equal(parse(mbox({ ...MAIL, from: "a@b.example" })).headers.get("From"), "a@b.example");
  });

  it("is split and read by git as it was written", () => {
    const folder = mkdtempSync(join(tmpdir(), "bit33-mail-"));
    try {
      const subject = "[REGRESSION] vhost-vsock: größer → 5.15";
      writeFileSync(join(folder, "report.mbox"), mbox({ ...MAIL, subject, body: [...MAIL.body, "→"] }));
      const git = (input: string, ...argv: string[]) => {
        const { status, stdout, stderr } = spawnSync("git", argv, { cwd: folder, encoding: "utf8", input });
        assert.equal(status, 0, stderr);
        return stdout;
      };
      assert.equal(git("", "mailsplit", "--mboxrd", `-o${folder}`, "report.mbox").trim(), "1");
      const one = readFileSync(join(folder, "0001"), "utf8");
      const info = git(one, "mailinfo", "-k", "message", "patch");
      assert.match(
        info,
        /^Author: Ada Lovelace\nEmail: ada@example\.org\nSubject: \[REGRESSION\] vhost-vsock: größer → 5\.15\n/,
      );
      assert.equal(readFileSync(join(folder, "message"), "utf8").trimEnd(), [...MAIL.body, "→"].join("\n"));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
