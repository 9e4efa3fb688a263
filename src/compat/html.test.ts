/** The page: what it holds, that it needs nothing else, and that no profile's text becomes a part of it. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import { Script } from "node:vm";
import { cell, inapplicable, STORY, storyOf } from "./cells.fixture.js";
import type { PageData } from "./html/data.js";
import { escapeHtml, page } from "./html.js";
import type { Cell } from "./record.js";

const EVIL = `</script><script>alert(1)</script><img src=x onerror='alert("2")'>`;
const CONTEXT = {
  version: "bit33 1.2.3",
  command: "bit33 compat --vmm ./a&b.yaml",
  date: new Date("2026-11-22T22:30:00Z"),
};

const CELLS: readonly Cell[] = [
  cell("plain/qemu/linux-5.15", "works", { evidence: "executed" }),
  cell("plain/qemu/mine", "fails-to-start", {
    reason: EVIL,
    sources: [EVIL],
    story: { ...storyOf({ kind: "end", actor: "vmm", text: EVIL }), summary: EVIL },
  }),
  inapplicable("plain/libkrun/linux-5.15", "libkrun has no ioctls"),
  inapplicable("plain/libkrun/mine", "libkrun has no ioctls"),
  cell("viommu/qemu/linux-5.15", "exposes"),
  inapplicable("viommu/qemu/mine", EVIL),
];

const text = page(CELLS, { ...CONTEXT, sentenceOf: () => EVIL, programOf: () => EVIL });
const between = (start: string, end: string) =>
  text.slice(text.indexOf(start) + start.length, text.indexOf(end, text.indexOf(start)));
const dataText = between('id="data">', "</script>");
const data = JSON.parse(dataText) as PageData;

describe("the page", () => {
  it("has a table a guest, with a button for each cell that ran and a point for the others", () => {
    assert.deepEqual(
      [...text.matchAll(/<section data-guest="([^"]*)">/g)].map(([, guest]) => guest),
      ["plain", "viommu"],
    );
    assert.deepEqual(
      [...text.matchAll(/<td class="([\w-]+)"><button type="button" data-cell="([^"]*)"/g)].map(
        ([, verdict, name]) => `${name} ${verdict}`,
      ),
      ["plain/qemu/linux-5.15 works", "plain/qemu/mine fails-to-start", "viommu/qemu/linux-5.15 exposes"],
    );
    assert.match(text, /works\*<small/);
    assert.match(text, /<p class="why">· libkrun: this VMM has no ioctls<\/p>/);
    assert.match(text, /<code>bit33 compat --vmm \.\/a&amp;b\.yaml<\/code>/);
  });

  it("has the story of each cell, with every text once", () => {
    assert.deepEqual(Object.keys(data.cells), [
      "plain/qemu/linux-5.15",
      "plain/qemu/mine",
      "viommu/qemu/linux-5.15",
    ]);
    assert.equal(new Set(data.texts).size, data.texts.length);
    const { steps, beliefs, verdict } = data.cells["viommu/qemu/linux-5.15"];
    assert.equal(data.texts[verdict], "exposes");
    assert.deepEqual(
      steps.map(([kind, actor, what, parting]) => [
        data.texts[kind],
        data.texts[actor],
        data.texts[what],
        parting === 1,
      ]),
      STORY.steps.map((step) => [step.kind, step.actor, step.text, step.parting === true]),
    );
    assert.deepEqual(
      beliefs.map((index) => data.texts[index]),
      Object.values(STORY.beliefs),
    );
  });

  it("takes what stands in profiles as text, wherever it shows it", () => {
    assert.equal(text.match(/<script/g)?.length, 2);
    assert.equal(text.match(/<\/script/g)?.length, 2);
    assert.ok(!text.includes("<img"));
    assert.ok(data.texts.includes(EVIL));
    assert.equal(escapeHtml(`<a b="c" d='e'>&`), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;");
    assert.doesNotMatch(dataText, /</);
  });

  it("needs nothing else and allows nothing else: its policy has the hashes of its own style and script", () => {
    assert.doesNotMatch(text, /\b(?:src|href)=["']?(?:https?:|\/\/)/);
    assert.doesNotMatch(text, / style="| on[a-z]+="/);
    const policy = between('Content-Security-Policy" content="', '">');
    const hash = (content: string) => `'sha256-${createHash("sha256").update(content).digest("base64")}'`;
    const style = between("<style>", "</style>");
    const script = text.slice(text.lastIndexOf("<script>") + 8, text.lastIndexOf("</script>"));
    assert.ok(policy.startsWith("default-src 'none'"), policy);
    assert.ok(
      policy.includes(`style-src ${hash(style)}`) && policy.includes(`script-src ${hash(script)}`),
      policy,
    );
    assert.doesNotThrow(() => new Script(script));
    assert.doesNotMatch(script, /innerHTML|insertAdjacentHTML|document\.write|eval\(/);
  });

  it("offers a filter for each verdict that occurs, and for each guest", () => {
    assert.deepEqual(
      [...text.matchAll(/name="verdict" value="([\w-]+)" checked/g)].map(([, verdict]) => verdict),
      ["works", "fails-to-start", "exposes"],
    );
    assert.match(text, /<option value="">all<\/option><option>plain<\/option><option>viommu<\/option>/);
  });

  it("stays small for thousands of cells: stories share their texts", () => {
    const many = Array.from({ length: 2000 }, (_, index) =>
      cell(`g${index % 8}/v${index % 17}/d${index}`, "works"),
    );
    const one = page(many.slice(0, 1), CONTEXT).length;
    assert.ok((page(many, CONTEXT).length - one) / many.length < 1500);
  });
});
