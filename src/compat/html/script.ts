/**
 * What the page does: opens stories, filters cells, moves with the arrow keys. One string, without anything of the
 * matrix in it: its hash is in the page. It makes elements and sets their text, and never parses HTML, so that nothing
 * in a profile can become a part of the page. `data.ts` says what it reads.
 */
export const SCRIPT = `
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const text = (index) => data.texts[index];
const dialog = document.querySelector("dialog");
const buttons = [...document.querySelectorAll("td button")];
const nameOf = (button) => button.dataset.cell;
const byName = new Map(buttons.map((button) => [nameOf(button), button]));

function make(tag, content, className) {
  const element = document.createElement(tag);
  if (content !== undefined) element.append(...[content].flat());
  if (className) element.className = className;
  return element;
}

function rows(pairs) {
  const list = make("dl");
  for (const [label, content] of pairs) list.append(make("dt", label), make("dd", content));
  return list;
}

const ACTORS = { guest: "guest", vmm: "VMM", device: "device" };

function step([kind, actor, what, parting]) {
  const words = [make("b", ACTORS[text(actor)]), " ", (text(kind) === "belief" ? "believes: " : "") + text(what)];
  if (!parting) return make("li", words, text(kind));
  return make("li", [make("em", "Here belief and fact part"), ...words], "parting " + text(kind));
}

function show(name) {
  const cell = data.cells[name];
  if (!cell) return;
  const close = make("button", "Close", "close");
  close.type = "button";
  close.addEventListener("click", () => dialog.close());
  const verdict = text(cell.verdict);
  const steps = make("ol", cell.steps.map(step));
  const parting = steps.querySelector(".parting");
  if (parting) parting.classList.add(verdict);
  const [guest, vmm, device] = cell.beliefs.map(text);
  const heading = make("h2", name);
  heading.id = "story-heading";
  dialog.replaceChildren(
    close,
    heading,
    rows([
      ["verdict", make("strong", verdict + ": " + text(cell.reason))],
      ["assumed", text(cell.assumed)],
    ]),
    make("p", text(cell.summary)),
    make("h3", "What happened, in order"),
    steps,
    make("h3", "What each side believes bit 33 to mean"),
    rows([["guest", guest], ["VMM", vmm], ["device", device]]),
    make("h3", "Evidence"),
    rows([
      ["evidence", text(cell.evidence)],
      ["sources", cell.sources.map((source) => make("div", text(source)))],
      ["again", make("code", ("bit33 compat --explain " + name + " " + text(cell.files)).trimEnd())],
    ]),
  );
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  history.replaceState(null, "", "#" + name);
}

dialog.addEventListener("close", () => {
  const button = byName.get(decodeURIComponent(location.hash.slice(1)));
  history.replaceState(null, "", location.pathname + location.search);
  if (button) button.focus();
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("td button");
  if (button) show(nameOf(button));
});
function openFromAddress() {
  show(decodeURIComponent(location.hash.slice(1)));
}
window.addEventListener("hashchange", openFromAddress);

const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
document.addEventListener("keydown", (event) => {
  const move = MOVES[event.key];
  const button = event.target.closest("td button");
  if (!move || !button) return;
  const grid = button.closest("tbody");
  let row = button.closest("tr").rowIndex - grid.rows[0].rowIndex;
  let column = button.closest("td").cellIndex;
  for (;;) {
    row += move[0];
    column += move[1];
    const place = grid.rows[row] && grid.rows[row].cells[column];
    if (!place) return;
    const next = place.querySelector("button");
    if (!next) continue;
    event.preventDefault();
    next.focus();
    return;
  }
});

const form = document.querySelector("form");
const search = new Map(buttons.map((button) => {
  const cell = data.cells[nameOf(button)];
  return [button, (nameOf(button) + " " + text(cell.verdict) + " " + text(cell.reason)).toLowerCase()];
}));
function filter() {
  const chosen = new FormData(form);
  const verdicts = new Set(chosen.getAll("verdict"));
  const guest = chosen.get("guest");
  const words = chosen.get("text").toLowerCase().split(/\\s+/);
  for (const section of document.querySelectorAll("section[data-guest]")) {
    section.classList.toggle("hidden", guest !== "" && section.dataset.guest !== guest);
  }
  let count = 0;
  for (const button of buttons) {
    const cell = data.cells[nameOf(button)];
    const fits = verdicts.has(text(cell.verdict)) && words.every((word) => search.get(button).includes(word));
    button.closest("td").classList.toggle("off", !fits);
    if (fits && (guest === "" || nameOf(button).startsWith(guest + "/"))) count++;
  }
  for (const row of document.querySelectorAll("tbody tr")) {
    row.classList.toggle("hidden", !row.querySelector("td:not(.off) button"));
  }
  document.querySelector("output").textContent = count + " of " + buttons.length + " cells";
}
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(filter));
form.classList.remove("hidden");
filter();
openFromAddress();
`;
