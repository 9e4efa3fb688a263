/**
 * The matrix as one page that needs nothing else: no network, no other file. The table is plain HTML; each cell's story
 * opens by the page's script. A Content-Security-Policy in the page allows this one style and this one script, by
 * their hashes, and nothing besides. Pure: cells in, text out. Must not know where the page is written.
 */
import { createHash } from "node:crypto";
import { pageData, scriptSafeJson } from "./html/data.js";
import { SCRIPT } from "./html/script.js";
import { STYLE } from "./html/style.js";
import { type Block, type Grid, layOut } from "./layout.js";
import { type Cell, cellName, VERDICTS } from "./record.js";
import { EVIDENCE_MARKS } from "./table.js";
import { VERDICT_TEXTS } from "./verdicts.js";

export interface PageContext {
  /** `bit33 0.1.0`. */
  readonly version: string;
  /** The command that made the page. */
  readonly command: string;
  readonly date: Date;
  readonly sentenceOf?: (guest: string) => string | undefined;
  /** What a VMM or device is, to be shown at its name. */
  readonly programOf?: (kind: "vmm" | "device", name: string) => string | undefined;
  /** The options that name the files of a cell which are the user's own; empty for none. */
  readonly filesOf?: (cell: Cell) => string;
}

export function page(cells: readonly Cell[], context: PageContext): string {
  const blocks = layOut(cells);
  return [
    "<!doctype html>",
    '<html lang="en">',
    "<head>",
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src ${hashOf(STYLE)}; script-src ${hashOf(SCRIPT)}; base-uri 'none'; form-action 'none'">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    "<title>bit33 compat: guests, VMMs and vsock devices</title>",
    `<style>${STYLE}</style>`,
    "</head>",
    "<body>",
    ...introduction(cells, context),
    ...filters(
      cells,
      blocks.map(({ guest }) => guest),
    ),
    "<main>",
    ...blocks.flatMap((each) => blockHtml(each, context)),
    "</main>",
    '<dialog aria-labelledby="story-heading"></dialog>',
    `<script type="application/json" id="data">${scriptSafeJson(pageData(cells, context.filesOf))}</script>`,
    `<script>${SCRIPT}</script>`,
    "</body>",
    "</html>",
    "",
  ].join("\n");
}

function introduction(cells: readonly Cell[], { version, command, date }: PageContext): string[] {
  const ran = cells.filter(({ verdict }) => verdict !== null).length;
  return [
    "<header>",
    "<h1>Which guest works on which VMM with which vsock device?</h1>",
    `<p>${ran} combinations, each run on real rings in shared memory. A cell opens its story; the arrow keys move between cells.</p>`,
    `<p class="soft">${escapeHtml(EVIDENCE_MARKS.executed)} each of the three was checked against the real program; ${escapeHtml(EVIDENCE_MARKS.proposed)} one of them is a proposal that nobody has built; no mark: one of them, at least, is as its source says. · does not apply.</p>`,
    `<p class="soft">${escapeHtml(version)}, ${date.toISOString().slice(0, 16).replace("T", " ")} UTC: <code>${escapeHtml(command)}</code></p>`,
    "<noscript><p><strong>The stories and the filters need this page's script, which is switched off.</strong></p></noscript>",
    "</header>",
  ];
}

function filters(cells: readonly Cell[], guests: readonly string[]): string[] {
  const counts = VERDICTS.flatMap((verdict) => {
    const count = cells.filter((cell) => cell.verdict === verdict).length;
    return count === 0 ? [] : [{ verdict, count }];
  });
  return [
    // Without the script it would do nothing.
    '<form class="hidden" aria-label="Filter">',
    "<fieldset>",
    ...counts.map(
      ({ verdict, count }) =>
        `<label class="${verdict}" title="${escapeHtml(VERDICT_TEXTS[verdict].meaning)}"><input type="checkbox" name="verdict" value="${verdict}" checked> ${verdict} (${count})</label>`,
    ),
    "</fieldset>",
    `<label>Guest <select name="guest"><option value="">all</option>${guests.map((guest) => `<option>${escapeHtml(guest)}</option>`).join("")}</select></label>`,
    '<label>Text <input type="search" name="text" placeholder="qemu linux-5.15 EFAULT"></label>',
    '<button type="reset">Show all</button>',
    '<output aria-live="polite"></output>',
    "</form>",
  ];
}

/** One guest. */
function blockHtml({ guest, grids, absences }: Block, context: PageContext): string[] {
  return [
    `<section data-guest="${escapeHtml(guest)}">`,
    `<h2>Guest ${escapeHtml(guest)}</h2>`,
    `<p>${escapeHtml(context.sentenceOf?.(guest) ?? "")}</p>`,
    ...grids.flatMap((grid) => gridHtml(grid, context)),
    ...absences.map(
      ({ whom, reason }) => `<p class="why">· ${escapeHtml(whom.join(", "))}: ${escapeHtml(reason)}</p>`,
    ),
    "</section>",
  ];
}

function gridHtml({ transport, vmms, devices, at }: Grid, { programOf }: PageContext): string[] {
  const head = (scope: "row" | "col", kind: "vmm" | "device", name: string) =>
    `<th scope="${scope}" title="${escapeHtml(programOf?.(kind, name) ?? name)}">${escapeHtml(name)}</th>`;
  const caption = transport === "kernel" ? "over the kernel's ioctls" : "over vhost-user";
  return [
    '<div class="grid"><table>',
    `<caption>${caption}</caption>`,
    `<thead><tr><td class="none"></td>${devices.map((device) => head("col", "device", device)).join("")}</tr></thead>`,
    "<tbody>",
    ...vmms.map((vmm) => {
      const row = devices.map((device) => entry(at(vmm, device)));
      return `<tr>${head("row", "vmm", vmm)}${row.join("")}</tr>`;
    }),
    "</tbody></table></div>",
  ];
}

function entry(cell: Cell | undefined): string {
  if (cell === undefined) return '<td class="none">·</td>';
  if (cell.verdict === null) return `<td class="none" title="${escapeHtml(cell.reason)}">·</td>`;
  return (
    `<td class="${cell.verdict}"><button type="button" data-cell="${escapeHtml(cellName(cell))}" title="${escapeHtml(cell.reason)}">` +
    `${cell.verdict}${EVIDENCE_MARKS[cell.evidence]}<small class="cut">${escapeHtml(cell.reason)}</small></button></td>`
  );
}

/** For text and for attributes in double quotes. */
export function escapeHtml(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replaceAll("'", "&#39;");
}

/** As a Content-Security-Policy names an inline element it allows. */
function hashOf(content: string): string {
  return `'sha256-${createHash("sha256").update(content).digest("base64")}'`;
}
