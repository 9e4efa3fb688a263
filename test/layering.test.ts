/**
 * Holds the source tree to the layering that ARCHITECTURE.md describes: imports point downwards only, a folder is
 * known or refused, the native binding stays in one place, and nothing is left lying about.
 * Reads the sources as text; must not load any of them.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

/** From the top down. Folders of one row stand beside each other and know nothing of one another. */
const LAYERS: readonly (readonly string[])[] = [
  ["cli", "index.ts"],
  ["dashboard"],
  ["compat", "observe"],
  ["conformance"],
  ["inspect"],
  ["vmm"],
  ["guest"],
  ["peers"],
  ["profiles"],
  ["device"],
  ["vsock"],
  ["vhost"],
  ["virtqueue"],
  ["memory"],
  ["virtio"],
  ["linux", "log", "config"],
];

/** Downwards, and forbidden all the same: what a folder must not know. */
const STRANGERS: Readonly<Record<string, readonly string[]>> = {
  conformance: ["device"],
  inspect: ["device", "guest", "vmm"],
  observe: ["device", "guest", "vmm"],
  vmm: ["device", "peers"],
  guest: ["device", "peers"],
  peers: ["vmm", "guest"],
  profiles: ["device"],
  vsock: ["vhost", "virtqueue"],
};

interface Import {
  readonly specifier: string;
  readonly line: number;
}

interface Source {
  /** Relative to the root, with slashes. */
  readonly path: string;
  readonly text: string;
}

const STRING_OR_COMMENT = /"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\/\/[^\n]*|\/\*[\s\S]*?\*\//g;
const IMPORTS = [
  /\b(?:import|export)\b[^"';()=]*\bfrom\s*["']([^"']+)["']/g,
  /\bimport\s*["']([^"']+)["']/g,
  /\bimport\s*\(\s*["']([^"']+)["']/g,
  /\bnew\s+URL\s*\(\s*["']([^"']+)["']\s*,\s*import\.meta\.url/g,
  /\bimport\.meta\.resolve\s*\(\s*["']([^"']+)["']/g,
];

/** Every module that a source names: imports of any kind, re-exports, and the entries of Workers. */
function importsOf(text: string): Import[] {
  // Comments become blanks, so that lines stay where they are.
  const code = text.replace(STRING_OR_COMMENT, (found) =>
    found.startsWith("/") ? found.replace(/[^\n]/g, " ") : found,
  );
  const found: Import[] = [];
  for (const pattern of IMPORTS) {
    for (const match of code.matchAll(pattern)) {
      const line = code.slice(0, match.index + match[0].length).split("\n").length;
      found.push({ specifier: match[1], line });
    }
  }
  return found;
}

/** The folder below src/ that a path belongs to; a file directly in src/ stands for itself. */
function folderOf(path: string): string {
  return path.split("/")[1];
}

function layerOf(folder: string): number {
  return LAYERS.findIndex((row) => row.includes(folder));
}

/** What is wrong with a source's imports, a line each. */
function problemsOf({ path, text }: Source): string[] {
  const from = folderOf(path);
  if (layerOf(from) < 0) return [`${path}: src/${from} is not in the layering; give it a place`];
  const problems: string[] = [];
  for (const { specifier, line } of importsOf(text)) {
    const at = `${path}:${line}`;
    if (specifier === "koffi" && from !== "linux") problems.push(`${at}: only src/linux talks to koffi`);
    if (!specifier.startsWith(".")) continue;
    const target = posix.join(posix.dirname(path), specifier);
    if (!target.startsWith("src/")) {
      // package.json is data, read by its path; code outside of src/ is not part of the package.
      if (/\.[cm]?[jt]s$/.test(target)) problems.push(`${at}: ${specifier} is outside of src/`);
      continue;
    }
    const to = folderOf(target).replace(/\.js$/, ".ts");
    if (to === from) continue;
    if (layerOf(to) < 0) problems.push(`${at}: ${specifier} is in src/${to}, which is not in the layering`);
    else if (layerOf(to) < layerOf(from)) problems.push(`${at}: src/${from} imports upwards, from src/${to}`);
    else if (layerOf(to) === layerOf(from))
      problems.push(`${at}: src/${from} and src/${to} stand side by side`);
    else if (STRANGERS[from]?.includes(to)) problems.push(`${at}: src/${from} must not know src/${to}`);
  }
  return problems;
}

function findRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) folder = dirname(folder);
  return folder;
}

const root = findRoot();

function filesUnder(folder: string, endings: readonly string[]): Source[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => endings.some((ending) => name.endsWith(ending)))
    .map((name) => `${folder}/${name}`)
    .sort()
    .map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }));
}

describe("the layering", () => {
  const sources = filesUnder("src", [".ts"]);

  it("has imports that point downwards only, and to nobody that a folder must not know", () => {
    assert.deepEqual(sources.flatMap(problemsOf), []);
  });

  it("is seen by this test: every folder of the tree is walked", () => {
    const walked = new Set(sources.map(({ path }) => folderOf(path)));
    for (const entry of readdirSync(join(root, "src"))) assert.ok(walked.has(entry), `src/${entry}`);
    assert.ok(sources.length > 100);
    assert.ok(sources.some(({ text }) => importsOf(text).some(({ specifier }) => specifier === "koffi")));
    assert.ok(
      sources.some(({ text }) => importsOf(text).some(({ specifier }) => specifier === "./worker.js")),
    );
  });

  it("resolves every import to a file that exists", () => {
    const missing = sources.flatMap(({ path, text }) =>
      importsOf(text)
        .filter(({ specifier }) => /^\..*\.js$/.test(specifier))
        .map(({ specifier }) => posix.join(posix.dirname(path), specifier).replace(/\.js$/, ".ts"))
        .filter((target) => !existsSync(join(root, target)))
        .map((target) => `${path}: ${target}`),
    );
    assert.deepEqual(missing, []);
  });
});

describe("the reader of imports", () => {
  const problems = (path: string, text: string) => problemsOf({ path, text });

  it("finds every way to name a module, with its line", () => {
    const text = [
      'import { a } from "../one.js";',
      "import type {",
      "  B,",
      '} from "../two.js";',
      'export * from "../three.js";',
      'import "../four.js";',
      'const five = await import("../five.js");',
      'new Worker(new URL("../six.js", import.meta.url));',
      'type Seven = typeof import("../seven.js");',
      '// import { no } from "../comment.js";',
      '/* export * from "../comment.js"; */',
      'const text = "// not a comment"; import { e } from "../eight.js";',
    ].join("\n");
    const found = importsOf(text).sort((a, b) => a.line - b.line);
    assert.deepEqual(
      found.map(({ specifier, line }) => `${line} ${specifier}`),
      [
        "1 ../one.js",
        "4 ../two.js",
        "5 ../three.js",
        "6 ../four.js",
        "7 ../five.js",
        "8 ../six.js",
        "9 ../seven.js",
        "12 ../eight.js",
      ],
    );
  });

  for (const [what, path, text, expected] of [
    [
      "an upward import",
      "src/vsock/x.ts",
      '\nimport "../device/device.js";',
      /^src\/vsock\/x.ts:2: .*upwards/,
    ],
    ["an upward type import", "src/vhost/x.ts", 'import type { A } from "../vsock/header.js";', /upwards/],
    ["a Worker above", "src/linux/x.ts", 'new URL("../device/worker.js", import.meta.url)', /upwards/],
    ["an import from a sub-folder", "src/vhost/wire/x.ts", 'import "../../vsock/header.js";', /upwards/],
    ["the top from below", "src/memory/x.ts", 'import "../index.js";', /upwards/],
    ["a neighbour", "src/linux/x.ts", 'import "../log/logger.js";', /side by side/],
    ["the device from the guest", "src/guest/x.ts", 'import "../device/device.js";', /must not know/],
    ["the device from the VMMs", "src/vmm/x.ts", 'import "../device/device.js";', /must not know/],
    ["the device from the cases", "src/conformance/x.ts", 'import "../device/device.js";', /must not know/],
    ["rings from vsock", "src/vsock/x.ts", 'import "../virtqueue/chain.js";', /must not know/],
    ["vhost from vsock", "src/vsock/x.ts", 'import "../vhost/answer.js";', /must not know/],
    ["an unknown folder", "src/misc/x.ts", "", /not in the layering/],
    ["an import of an unknown folder", "src/cli/x.ts", 'import "../misc/x.js";', /not in the layering/],
    ["the binding elsewhere", "src/memory/x.ts", 'import koffi from "koffi";', /only src\/linux/],
    ["code outside of the package", "src/cli/x.ts", 'import "../../test/run.js";', /outside of src/],
  ] as const) {
    it(`refuses ${what}`, () => {
      const found = problems(path, text);
      assert.equal(found.length, 1);
      assert.match(found[0], expected);
    });
  }

  it("accepts what points downwards, stays in its folder or comes from a package", () => {
    const text = 'import "../linux/epoll.js"; import "./header.js"; import "node:fs"; import "fast-check";';
    assert.deepEqual(problems("src/vsock/x.ts", text), []);
    assert.deepEqual(problems("src/index.ts", 'export { a } from "./device/device.js";'), []);
  });
});

describe("the tree", () => {
  /** What must not stand in it, where, and why. Written in pieces, so that this file does not match itself. */
  const UNWANTED: readonly (readonly [word: RegExp, folders: readonly string[], why: string])[] = [
    [/\b(?:TO[D]O|FIX[M]E|HA[C]K)\b/, ["src", "test", "docs"], "do it, or write it into an issue"],
    [/@ts-(?:ignore|nocheck|expect-error)|biome-ignor[e]|eslint-disabl[e]/, ["src", "test"], "mend the code"],
    [/\b(?:it|test|describe)\.(?:only|todo)\(/, ["src", "test"], "all tests run"],
    [/\bAtomics\.wait\(/, ["src"], "it does not work across processes and blocks the loop"],
    [/\bon(?:ce)?\("SIG(?:SEGV|BUS)"/, ["src"], "the process would spin on the fault"],
    [/\bdebugger;/, ["src", "test"], "left over"],
  ];

  for (const [word, folders, why] of UNWANTED) {
    it(`has no ${word.source}: ${why}`, () => {
      const places = folders
        .filter((folder) => existsSync(join(root, folder)))
        .flatMap((folder) => filesUnder(folder, [".ts", ".md", ".c"]))
        .filter(({ path }) => path !== "test/layering.test.ts")
        .flatMap(({ path, text }) =>
          text
            .split("\n")
            .flatMap((line, index) => (word.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : [])),
        );
      assert.deepEqual(places, []);
    });
  }
});
