/** How the page looks, by day and by night. One string, without anything of the matrix in it: its hash is in the page. */
import { VERDICTS, type Verdict } from "../record.js";

/** Light and dark background of each verdict; the words carry the meaning, the colours only help. */
const COLOURS: Readonly<Record<Verdict, readonly [light: string, dark: string]>> = {
  works: ["#d9f2dd", "#173d20"],
  refused: ["#e6e6ea", "#33343c"],
  "fails-to-start": ["#ffe2b8", "#57380a"],
  stalls: ["#fff3b0", "#4d450f"],
  crashes: ["#ffd3d9", "#5a1a26"],
  faults: ["#ffcfc2", "#612410"],
  corrupts: ["#f3cff5", "#52205a"],
  exposes: ["#e0d4ff", "#3b2575"],
};

const BASE = `
:root { color-scheme: light dark; --ground: #fff; --ink: #1a1a1e; --soft: #5c5c66; --line: #d5d5dc; --mark: #0b57d0; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem 1.5rem 4rem; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .3rem; } p { max-width: 75ch; }
.soft { color: var(--soft); }
form { display: flex; flex-wrap: wrap; gap: .6rem 1.2rem; align-items: center; position: sticky; top: 0; z-index: 2; padding: .6rem 0; background: var(--ground); border-bottom: 1px solid var(--line); }
fieldset { display: flex; flex-wrap: wrap; gap: .2rem .7rem; border: 0; margin: 0; padding: 0; }
label { white-space: nowrap; }
input[type=search], select { font: inherit; padding: .15rem .4rem; }
.grid { overflow-x: auto; }
caption { text-align: left; color: var(--soft); font-size: .85em; }
table { border-collapse: collapse; margin: .6rem 0 1rem; }
th { font-weight: 600; text-align: left; padding: .2rem .5rem; vertical-align: bottom; }
thead th { font-size: .85em; max-width: 8rem; }
tbody th { white-space: nowrap; vertical-align: top; position: sticky; left: 0; background: var(--ground); }
td { border: 1px solid var(--line); padding: 0; vertical-align: top; }
thead td.none { border: 0; }
td.none { text-align: center; color: var(--soft); padding: .3rem .5rem; }
td button { display: block; width: 100%; min-width: 7rem; max-width: 13rem; height: 100%; border: 0; padding: .3rem .5rem; background: transparent; color: inherit; font: inherit; text-align: left; cursor: pointer; }
td small { display: block; line-height: 1.3; font-size: .75em; color: var(--soft); overflow-wrap: anywhere; }
td small.cut { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; }
button:focus-visible, input:focus-visible, select:focus-visible, a:focus-visible { outline: 3px solid var(--mark); outline-offset: -2px; }
td.off button { opacity: .15; }
.hidden { display: none; }
.why { font-size: .85em; color: var(--soft); max-width: 100ch; }
dialog { width: min(60rem, 94vw); max-height: 90vh; border: 1px solid var(--line); border-radius: .5rem; padding: 1.2rem 1.5rem; background: var(--ground); color: var(--ink); }
dialog::backdrop { background: rgb(0 0 0 / .5); }
dialog h2 { margin-top: 0; overflow-wrap: anywhere; }
dialog .close { float: right; font: inherit; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
ol { padding-left: 2.5rem; } li { padding: .1rem .4rem; overflow-wrap: anywhere; }
li b { display: inline-block; min-width: 4.2rem; color: var(--soft); font-weight: 600; }
li.belief { font-style: italic; }
li.parting { border: 2px solid; border-radius: .3rem; margin: .5rem 0; font-style: normal; }
li.parting em { display: block; font-weight: 700; }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere; }
`;

const DARK = "--ground: #16161a; --ink: #e8e8ee; --soft: #a2a2ae; --line: #3a3a44; --mark: #8ab4f8;";

export const STYLE = [
  BASE,
  ...VERDICTS.map((verdict) => `.${verdict} { background: ${COLOURS[verdict][0]}; }`),
  `@media (prefers-color-scheme: dark) { :root { ${DARK} }`,
  ...VERDICTS.map((verdict) => `.${verdict} { background: ${COLOURS[verdict][1]}; }`),
  "}",
  "@media print { form { display: none; } }",
  "",
].join("\n");
