// What checkpoints are measured to be: accuracy, flips, further sets, texts, open-ended prompts.

const MODES = [
  { mode: "direct", name: "direct", tone: 0, mark: "circle" },
  { mode: "refined", name: "refined", tone: 1, mark: "square" },
  { mode: "consistency", name: "consistency", tone: 0, mark: "diamond", dashed: true },
  { mode: "both", name: "consistency of refined", tone: 1, mark: "triangle", dashed: true },
];
const SHARES = { low: 0, high: 1, ticks: [0, 0.25, 0.5, 0.75, 1], format: (v) => fixed(100 * v, 0) };
const FAULTS = [["failed", "failed"], ["not_scored", "not scored"], ["no_answer", "no answer"], ["clipped", "clipped"]];

const setsOf = (summary) => unique(summary.rows.filter((row) => known(row.direct)).map((row) => row.set));
const ofSet = (summary, set) => summary.rows.filter((row) => row.set === set);
const ofRounds = (summary) => {
  const seen = new Map();
  for (const row of summary.rows) if (known(row.counts) && !seen.has(row.checkpoint)) seen.set(row.checkpoint, row);
  return [...seen.values()];
};

function beside(figure) {
  const found = FAULTS.filter(([key]) => figure[key]).map(([key, name]) => `${name} ${count(figure[key])}`);
  if (known(figure.mean) && figure.mean !== figure.share) found.push(`mean ${fixed(100 * figure.mean)} ± ${fixed(100 * figure.mean_error)}`);
  return found;
}

const sharePoint = (x, figure) => ({
  x, y: figure ? figure.share : null, low: figure?.low, high: figure?.high,
  note: figure && known(figure.share) ? [percent(figure), `n ${count(figure.n)}`, ...beside(figure)].join(", ") : "–",
});

function accuracyChart(title, rows, modes, figureOf, options = {}) {
  const series = modes.filter(({ mode }) => rows.some((row) => known(figureOf(row, mode))))
    .map((of) => ({ ...of, points: rows.map((row, x) => sharePoint(x, figureOf(row, of.mode))) }));
  return lineChart({ title, x: rows.map((row) => row.checkpoint), y: SHARES, series, table: true, ...options });
}

function gainTable(set, rows) {
  const told = rows.filter((row) => known(row.gain));
  if (!told.length) return null;
  const based = told.some((row) => known(row.against_base)), points = (of) => known(of) ? `${signed(100 * of.gain)} ± ${fixed(100 * of.stderr)}` : "–";
  const head = ["", "gain, points", "newly right", "newly wrong", "McNemar", ...(based ? ["against base", "McNemar"] : [])];
  return table(`${set}: direct answers against meta${based ? ", and against the base" : ""}, on the same rows`, head,
    told.map(({ checkpoint, gain, against_base: base }) => [checkpoint, points(gain), count(gain.gained), count(gain.lost), pValue(gain.p), ...(based ? [points(base), known(base) ? pValue(base.p) : "–"] : [])]));
}

function accuracySection({ summary }) {
  const sets = setsOf(summary);
  if (!sets.length) return null;
  const [first, ...others] = sets;
  const value = (row, mode) => row[mode];
  const rows = ofSet(summary, first);
  const content = [accuracyChart(`${first}: right answers in %`, rows, MODES, value, { height: 300, caption: `${first}: right answers in %` }), gainTable(first, rows)];
  if (others.length) {
    content.push(el("h3", {}, "Further sets"), el("div", { class: "multiples" }, others.map((set) =>
      accuracyChart(`${set}: right answers in %`, ofSet(summary, set), MODES, value, { height: 180, caption: `${set}, %`, small: true }))));
  }
  const scored = sets.flatMap((set) => unique(ofSet(summary, set).flatMap((row) => Object.keys(row.further || {}))).map((scorer) => [set, scorer]));
  if (scored.length) {
    content.push(el("h3", {}, "By further scorers"), el("div", { class: "multiples" }, scored.map(([set, scorer]) =>
      accuracyChart(`${set}, by ${scorer}: right answers in %`, ofSet(summary, set), MODES, (row, mode) => row.further?.[scorer]?.[mode],
        { height: 180, caption: `${set}, by ${scorer}, %`, small: true }))));
  }
  content.push(...sets.map((set) => demandsTable(set, ofSet(summary, set))));
  return section("accuracy", "Accuracy", [
    "Each checkpoint on the same held-out rows. Direct: the first answer. Refined: the answer that the model’s own feedback chose.",
    "Bars are 95 % intervals (Wilson). ± is the paired standard error.",
  ], content);
}

function demandsTable(set, rows) {
  const told = rows.filter((row) => row.direct?.demands);
  if (!told.length) return null;
  return table(`${set}: demands met in %, of all that rows have`, ["", "direct", "refined"],
    told.map((row) => [row.checkpoint, percent(row.direct.demands), percent(row.refined?.demands)]));
}

function flipsSection({ summary }) {
  const parts = setsOf(summary).map((set) => {
    const rows = ofSet(summary, set).filter((row) => known(row.refined));
    if (!rows.length) return null;
    const most = Math.max(1, ...rows.flatMap((row) => [row.wrong_to_right, row.right_to_wrong]));
    return table(`${set}: answers that refinement changed from wrong to right, and from right to wrong`,
      ["", "", "spoilt", "mended", ""],
      rows.map((row) => [row.checkpoint,
        el("div", { class: "left" }, bar([[row.right_to_wrong / most, "bad", `${row.right_to_wrong} spoilt`]], { label: `${row.right_to_wrong} spoilt` })),
        count(row.right_to_wrong), count(row.wrong_to_right), bar([[row.wrong_to_right / most, 0, `${row.wrong_to_right} mended`]], { label: `${row.wrong_to_right} mended` })]),
      { kinds: ["", "wide", "", "", "wide"] });
  });
  return section("flips", "Flips", ["What refinement does to answers of the evaluation: wrong ones mended, right ones spoilt."], parts);
}

function textsSection({ summary }) {
  const charts = setsOf(summary).map((set) => {
    const rows = ofSet(summary, set).filter((row) => known(row.texts)), x = rows.map((row) => row.checkpoint);
    if (!rows.length) return null;
    const all = ["clipped", "looping", "leaked"], faults = all.filter((fault) => rows.some((row) => row.texts[fault].share > 0));
    const none = all.filter((fault) => !faults.includes(fault)).join(", ").replace(/, (\w+)$/, " or $1");
    const title = `${set}: answers with a fault`;
    const top = Math.max(0.02, ...rows.flatMap((row) => faults.map((fault) => row.texts[fault].high || 0)));
    const small = { height: 170, small: true, x, table: true };
    const shares = !faults.length ? el("figure", { class: "small" }, el("figcaption", {}, title), el("p", { class: "note" }, `None is ${none}, at any checkpoint.`)) : lineChart({ ...small, title: `${title} in %`, caption: `${title}, %${none ? `; none is ${none}` : ""}`,
      y: { low: 0, high: Math.min(1, top * 1.1), format: (v) => fixed(100 * v, top < 0.1 ? 1 : 0) },
      series: faults.map((fault) => ({ name: fault, tone: all.indexOf(fault), points: rows.map((row, i) => sharePoint(i, row.texts[fault])) })) });
    const lengths = meansChart(small, `${set}: tokens of a direct answer`, rows.map((row) => row.texts.length), 1);
    const grams = rows.some((row) => known(row.texts.distinct_bigrams))
      ? valuesChart(small, `${set}: distinct bigrams among 1,000, %`, rows.map((row) => known(row.texts.distinct_bigrams) ? 100 * row.texts.distinct_bigrams : null), 1, 100) : null;
    return [shares, lengths, grams];
  });
  const rows = summary.ordinary || [];
  if (rows.length) charts.push(meansChart({ height: 170, small: true, x: rows.map((row) => row.checkpoint), table: true },
    "held-out ordinary answers: log-likelihood, nats a token", rows.map((row) => row.figures.log_likelihood), 3));
  const found = charts.flat().filter(known);
  return section("texts", "Texts", ["Whether the answers are still good texts, whatever they are scored.",
    "Clipped: cut at a limit. Looping: the same words again and again. Leaked: with words of feedback in them."],
    found.length ? el("div", { class: "multiples" }, found) : null);
}

// A scale that holds some numbers and is no narrower than what can be told apart. Numbers that are all the same have no
// shape that a narrow scale could show: theirs is as wide as they are large.
function around(values, digits, most = Infinity) {
  const found = values.filter(known), low = Math.min(...found), high = Math.max(...found), same = high - low < 10 ** -digits / 2;
  const room = Math.max((high - low) * 0.15, Math.abs(high) * (same ? 0.5 : 0.02), 2 * 10 ** -digits);
  return { low: low >= 0 ? Math.max(0, low - room) : low - room, high: Math.min(most, high + room) };
}

function meansChart(spec, title, figures, digits) {
  const points = figures.map((of, x) => ({ x, y: of?.value, low: known(of?.stderr) ? of.value - 2 * of.stderr : null, high: known(of?.stderr) ? of.value + 2 * of.stderr : null, note: estimate(of, digits) }));
  if (!points.some((point) => known(point.y))) return null;
  const scale = around(points.flatMap((point) => [point.y, point.low, point.high]), digits);
  return lineChart({ ...spec, title, caption: title, y: scale, series: [{ name: title, tone: 0, points }] });
}

function valuesChart(spec, title, values, digits = 1, most = Infinity) {
  if (!values.some(known)) return null;
  const scale = around(values, digits, most);
  return lineChart({ ...spec, title, caption: title, y: scale,
    series: [{ name: title, tone: 0, points: values.map((y, x) => ({ x, y, note: known(y) ? fixed(y, digits + 1) : "–" })) }] });
}

function openSection({ summary }) {
  const rows = summary.open_ended || [];
  const parts = unique(rows.map((row) => row.set)).flatMap((set) => {
    const own = rows.filter((row) => row.set === set), rated = own.filter((row) => known(row.figures.win_rate));
    const { against, judge } = own[0].figures;
    const rates = rated.length ? [
      lineChart({ title: `${set}: win rate against ${against} in %`, caption: `${set}: win rate against ${against}, %; judge: ${judge}`, x: rated.map((row) => row.checkpoint), y: SHARES, height: 200, table: false,
        series: [{ name: "win rate", tone: 0, points: rated.map(({ figures: { win_rate: of } }, x) => ({ x, y: of.rate.value, low: of.interval?.[0], high: of.interval?.[1], note: `${estimate(of.rate, 1, 100)}, ${pValue(of.p)}` })) }] }),
      table(`${set}: pairs`, ["", "win rate, %", "at equal lengths", "won, tied, lost", "not judged"], rated.map(({ checkpoint, figures: { win_rate: of } }) => [checkpoint,
        estimate(of.rate, 1, 100), estimate(of.length_controlled, 1, 100), `${count(of.wins)}, ${count(of.ties)}, ${count(of.losses)}`, `${count(of.unjudged)} of ${count(of.pairs)}`])),
    ] : [];
    return [...rates, table(`${set}: marks from 1 to 10; judge: ${judge}`, ["", "mark", "difference", "not read", "characters"], own.map(({ checkpoint, figures: of }) => [checkpoint,
      estimate(of.rating, 2), of.rating_gain ? `${signed(of.rating_gain.gain, 2)}${known(of.rating_gain.stderr) ? ` ± ${fixed(of.rating_gain.stderr, 2)}` : ""}, ${pValue(of.rating_gain.p)}` : "–",
      of.rating ? `${count(of.rating.unread)} of ${count(of.rating.unread + of.rating.n)}` : "–", estimate(of.length, 0)]))];
  });
  return section("open", "Open-ended prompts", ["What a judge says of each pair, asked in both orders; a pair of which the orders disagree is a tie."], parts);
}
