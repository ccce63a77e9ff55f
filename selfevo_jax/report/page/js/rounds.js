// What the rounds made: the funnel, verdicts, controls, kept data, losses.

// What the chains of a round come to, as `Tally` has it; null where they are not there any more.
const tallyOf = (index, checkpoint) => figures.groups.find((of) => of.run === index && of.at === checkpoint)?.tally ?? null;

// The counts of a round, from what was sampled to what was kept. By verdicts: of the chosen answers, as in the verdicts below.
function steps(counts, tally, filtered, whole, scored) {
  const usable = counts.kept + counts.over_cap + counts.duplicates, top = known(counts.least_score);
  const judged = !filtered ? [["came to an end", usable]] : [
    ["verdict read", tally ? tally.read : null],
    ["judged good", tally ? tally.judged_good : null],
    ...(scored ? [["chosen by score", usable]] : top ? [["in the top share", counts.judged_good]] : whole ? [["and came to an end", counts.judged_good]] : []),
  ];
  return [["sampled", counts.sampled], ...judged, ["unique", counts.kept + counts.over_cap], ["kept", counts.kept]];
}

const LOST = [["failed", "failed"], ["clipped", "clipped"], ["empty", "empty"], ["cut", "ran on, and was cut"], ["duplicates", "duplicates"], ["over_cap", "over the cap of a prompt"], ["drawn_by_lot", "drawn by lot"], ["unscored", "without a score"], ["outside", "outside rounds.pass_rate"]];

function besideSteps(counts, tally) {
  const unread = tally ? tally.verdicts["not read"] || 0 : counts.unparseable, later = counts.unparseable - unread;
  return [...(unread ? [`verdict not read ${count(unread)}`] : []), ...(later > 0 ? [`feedback on another answer not read ${count(later)}`] : []),
    ...LOST.filter(([key]) => counts[key]).map(([key, name]) => `${name} ${count(counts[key])}`)].join(", ") || "–";
}

function funnelSection({ summary, config }, index) {
  const rows = ofRounds(summary).map((row) => ({ ...row, tally: tallyOf(index, row.checkpoint) }));
  if (!rows.length) return null;
  const select = config.find((of) => of.key === "rounds.select")?.value, scored = ["best_of_n", "threshold", "improvement"].includes(select);
  const filtered = select !== "none" && rows.some(({ tally }) => !tally || Object.entries(tally.verdicts).some(([name, n]) => name !== "not judged" && n));
  const whole = rows.some(({ counts, tally }) => !tally || tally.judged_good !== counts.judged_good);
  const found = rows.map(({ counts, tally }) => steps(counts, tally, filtered, whole, scored));
  const head = ["", ...found[0].map(([name]) => name), "beside"];
  const body = rows.map(({ checkpoint, counts, tally }, i) => [checkpoint,
    ...found[i].map(([name, n]) => known(n) ? el("div", { class: "step" }, count(n), bar([[n / Math.max(1, counts.sampled), 0, `${name}: ${count(n)} of ${count(counts.sampled)}`]])) : "–"),
    besideSteps(counts, tally)]);
  const shares = [["data_first", "first responses", 0], ["data_candidates", "chosen, before the filter", 1], ["data_kept", "kept", 2]];
  const series = shares.filter(([key]) => rows.some((row) => known(row[key]))).map(([key, name, tone]) => ({ name, tone, points: rows.map((row, x) => sharePoint(x, row[key])) }));
  const right = series.length ? lineChart({ title: "right answers in the data of the rounds, %", caption: "Right answers in the data of the rounds, %", x: rows.map((row) => row.checkpoint), y: SHARES, height: 220, series, table: true }) : null;
  return section("funnel", "What the rounds kept", ["From the chains that were sampled to the rows that the round learns from.",
    "Gold answers are read after a round has learnt, to measure alone."], table("chains of the rounds", head, body, { hidden: true, kinds: ["", ...found[0].map(() => "fifth"), "text"] }), right, writtenTable(rows));
}

function writtenTable(rows) {
  const own = rows.filter((row) => known(row.written));
  if (!own.length) return null;
  return table("prompts that the model wrote itself", ["", "written", "wanted", "given", "refused"], own.map(({ checkpoint, written: of }) => [checkpoint,
    count(of.prompts), count(of.wanted), count(of.given), Object.entries(of.refused).filter(([, n]) => n).map(([why, n]) => `${why} ${count(n)}`).join(", ") || "–"]));
}

const MATRIX = ["good and right", "good but wrong", "bad but right", "bad and wrong"];

// Counts behind a verdict's shares, which are of whole rows.
function matrix({ accuracy, precision, recall, unparseable }) {
  const good = precision.n, right = recall.n, both = Math.round((precision.share || 0) * good);
  return { "good and right": both, "good but wrong": good - both, "bad but right": right - both, "bad and wrong": accuracy.n - good - right + both, "not read": unparseable };
}

// As counted from the chains; null where their grades are not kept with them.
const verdictsOf = (tally) => tally && MATRIX.some((name) => tally.verdicts[name]) ? tally.verdicts : null;

function matrixTable(title, cells, where) {
  const number = (name) => cells[name] || 0, most = Math.max(1, ...MATRIX.map(number));
  const leading = (name) => el("a", { href: `#${new URLSearchParams({ ...where, verdict: name })}`, title: `chains: ${name}` }, count(number(name)));
  const cell = (name) => {
    const found = el("td", { class: name === "good but wrong" || name === "bad but right" ? "off" : "on" }, leading(name));
    found.style.setProperty("--share", (number(name) / most).toFixed(3));
    return found;
  };
  const beside = ["not read", "no grade"].filter(number).map((name) => el("tr", {}, el("th", { scope: "row" }, name), el("td", { colspan: 2 }, leading(name))));
  return el("table", { class: "matrix" }, el("caption", {}, title),
    el("thead", {}, el("tr", {}, el("td", {}), el("th", { scope: "col" }, "right"), el("th", { scope: "col" }, "wrong"))),
    el("tbody", {},
      el("tr", {}, el("th", { scope: "row" }, "judged good"), cell("good and right"), cell("good but wrong")),
      el("tr", {}, el("th", { scope: "row" }, "judged bad"), cell("bad but right"), cell("bad and wrong")),
      beside));
}

function verdictSection({ summary }, index) {
  const rounds = summary.rounds.filter((of) => of.data_accuracy?.verdict);
  const content = [];
  if (rounds.length) {
    content.push(el("h3", {}, "Chosen answers of the rounds"), el("div", { class: "matrices" }, rounds.map((of) =>
      matrixTable(`round ${of.round}`, verdictsOf(tallyOf(index, `round ${of.round}`)) ?? matrix(of.data_accuracy.verdict), { run: index, at: `round ${of.round}`, set: "" }))));
  }
  for (const set of setsOf(summary)) {
    const rows = ofSet(summary, set).filter((row) => known(row.verdict));
    if (!rows.length) continue;
    content.push(el("h3", {}, `First answers of the evaluation, ${set}`), el("div", { class: "matrices" }, rows.map((row) =>
      matrixTable(row.checkpoint, matrix(row.verdict), { run: index, at: row.checkpoint, set }))),
    table(`${set}: verdicts on first answers in %`, ["", "precision", "recall", "accuracy", "not read"], rows.map(({ checkpoint, verdict: of }) => [checkpoint, percent(of.precision), percent(of.recall), percent(of.accuracy), count(of.unparseable)]), { hidden: true }));
  }
  content.push(controlsTable(summary));
  return section("verdicts", "Verdicts", ["How the judge’s verdict agrees with gold. A number leads to its chains.",
    "Precision: of the answers judged good, those that are right. Recall: of the right ones, those judged good."], content);
}

function controlsTable(summary) {
  const rows = ofRounds(summary).filter((row) => known(row.controls));
  if (!rows.length) return null;
  return [el("h3", {}, "Controls"), table("planted wrong answers, and those that the judge called good", ["", "planted", "called good", "not read"],
    rows.map(({ checkpoint, controls: of }) => [checkpoint, count(of.rows), count(of.passed), count(of.unread ?? 0)]))];
}

function keptSection({ summary }) {
  const rows = ofRounds(summary), x = rows.map((row) => row.checkpoint);
  const spec = { height: 170, small: true, x, table: true };
  const charts = [
    valuesChart(spec, "tokens of a kept answer", rows.map((row) => row.counts.kept ? row.counts.mean_tokens : null), 1),
    valuesChart(spec, "entropy of words, bits", rows.map((row) => row.counts.entropy_bits), 2),
    valuesChart(spec, "distinct bigrams, % of all", rows.map((row) => known(row.counts.distinct_bigrams) ? 100 * row.counts.distinct_bigrams : null), 1, 100),
  ].filter(known);
  return section("kept", "Kept data", ["Whether what the rounds learn from is getting narrower: length, entropy and distinct bigrams of the kept answers."],
    charts.length ? el("div", { class: "multiples" }, charts) : null);
}

function lossSection({ losses }) {
  if (!losses.length) return null;
  const all = losses.flatMap((of) => of.losses).filter((loss) => known(loss) && loss > 0);
  if (!all.length) return null;
  const low = Math.min(...all) * 0.9, high = Math.max(...all) * 1.1, log = high / low > 20;
  const ends = (of) => `${fixed(of.losses[0] ?? 0, 3)} → ${fixed(of.losses[of.losses.length - 1] ?? 0, 3)}`;
  const charts = losses.map((of) => lineChart({
    title: `loss of ${of.checkpoint}, ${ends(of)}`, caption: `${of.checkpoint}: ${ends(of)}`, small: true, height: 170, left: 46,
    x: { low: 0, high: of.steps[of.steps.length - 1], name: "step" }, series: [{ name: "loss", tone: 0, mark: null, points: of.steps.map((x, i) => ({ x, y: of.losses[i] })) }],
    y: { low: log ? low : 0, high, log, format: (v) => (v && v < 0.01 ? v.toExponential(0) : String(Number(v.toPrecision(2)))), ticks: log ? powers(low, high) : null },
  }));
  const each = Math.max(...losses.map((of) => of.each));
  return section("losses", "Losses", ["Fine-tuning, checkpoint by checkpoint, on one scale.", each > 1 ? `Each point is the mean of up to ${each} steps.` : "Each point is one step."], el("div", { class: "multiples" }, charts));
}

function powers(low, high) {
  const found = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) if (10 ** e >= low && 10 ** e <= high) found.push(10 ** e);
  return found.length > 1 ? found : [low, Math.sqrt(low * high), high];
}
