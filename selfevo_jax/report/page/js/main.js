// Puts the sections in their order. Figures are there at once; chains follow when they are unpacked.

const figures = JSON.parse(document.getElementById("figures").textContent);
const main = document.getElementById("main");
const SECTIONS = [accuracySection, textsSection, openSection, flipsSection, funnelSection, verdictSection, keptSection, lossSection, costSection];

function facts({ summary, seed, config }) {
  const value = (key) => config.find((of) => of.key === key)?.value;
  const rows = unique(summary.rows.filter((row) => row.direct).map((row) => `${row.set}, ${count(row.direct.n + row.direct.failed + row.direct.not_scored)} rows`));
  const state = summary.complete ? "complete" : summary.stopped ? `ended after round ${summary.stopped}` : `${summary.rounds.length} of ${value("rounds.number")} rounds so far`;
  const told = [["Model", value("model.source")], ["Rounds", `${summary.rounds.length}, ${state}`], ["Seed", seed], ["Evaluation", rows.join("; ") || "–"], ["Run", summary.run_dir]];
  return el("dl", { class: "facts" }, told.map(([name, of]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(of ?? "–")))));
}

// What is measured to have got worse, and what the run itself has warned of.
function warningsOf({ summary, said }) {
  const all = [...(summary.warnings || []), ...said], shown = all.slice(0, 8), more = all.slice(8);
  if (!all.length) return null;
  const lines = (texts) => texts.map((text) => el("p", {}, text));
  return el("aside", { class: "warning", "aria-label": "Warnings" }, lines(shown),
    more.length ? el("details", {}, el("summary", {}, `${count(more.length)} more`), lines(more)) : null);
}

function runSections(index) {
  const run = figures.runs[index];
  return [warningsOf(run), ...SECTIONS.map((make) => make(run, index))].filter(known);
}

const single = el("div", { class: "run" });
const several = figures.runs.length > 1;
const late = el("div", { class: "late" });

function showRun(index) {
  document.getElementById("facts").replaceChildren(...figures.runs.filter((_, i) => !several || i === index).map(facts));
  single.replaceChildren(...runSections(index));
  late.replaceChildren(...[configSection(figures.runs[index])].filter(known));
  contents();
}

function contents() {
  const links = [...main.querySelectorAll("section[id]")].map((of) => el("a", { href: `#${of.id}` }, of.querySelector("h2").textContent));
  document.getElementById("contents").replaceChildren(...links);
}

const chainsPlace = el("div", { class: "chains-place" });
if (several) {
  const choice = select("Figures of", figures.runs.map((run, i) => [String(i), run.name]), (of) => showRun(Number(of)), "0");
  main.append(...[compareSection(figures)].filter(known), el("div", { class: "switch filters" }, choice.field));
}
main.append(single, chainsPlace, late);
showRun(0);
document.getElementById("footer").append(el("p", {}, `Made by selfevo_jax ${figures.version}. This file is whole: it loads nothing.`));

unpacked(document.getElementById("chains-data").textContent.trim()).then((chains) => {
  if (!chains.length) return;
  const browser = new Browser(figures, chains);
  chainsPlace.replaceChildren(chainsSection(figures, browser));
  const follow = () => { if (browser.recall()) browser.root.closest("section").scrollIntoView(); };
  if (!browser.recall()) browser.show(); else browser.root.closest("section").scrollIntoView();
  addEventListener("hashchange", follow);
  contents();
  document.documentElement.dataset.ready = "true";
}, (error) => {
  chainsPlace.replaceChildren(el("p", { class: "note" }, `The chains of this page cannot be unpacked here (${error.message}); a newer browser can.`));
});

// Printed, folded numbers are shown too, where they have the room.
addEventListener("beforeprint", () => { for (const of of document.querySelectorAll("figure:not(.small) details.numbers")) of.open = true; });
