// Several runs: the same checkpoints on the same rows.

const COMPARED = { direct: "direct answers", refined: "refined answers", consistency: "majority of samples", both: "majority of refined samples" };

function compareSection(figures) {
  const found = figures.comparison;
  if (!found) return null;
  const measures = unique(found.accuracy.map((of) => JSON.stringify([of.set, of.mode]))).map((of) => JSON.parse(of));
  const space = el("div", { class: "body" });
  const draw = (chosen) => space.replaceChildren(...overlaid(found, ...JSON.parse(chosen)).filter(known));
  const choice = select("Shown", measures.map((of) => [JSON.stringify(of), `${of[0]}, ${COMPARED[of[1]]}`]), draw, measures.length ? JSON.stringify(measures[0]) : "");
  if (measures.length) draw(JSON.stringify(measures[0]));
  return section("compare", "Runs side by side", ["The same rows at the same checkpoints. Runs that differ in their seed alone are one line, with the standard error over them.", `Differences are against ${found.baseline}.`],
    measures.length ? el("div", { class: "filters" }, choice.field) : null, space, differences(figures), otherwise(found));
}

function overlaid(found, set, mode) {
  const own = found.accuracy.filter((of) => of.set === set && of.mode === mode && of.checkpoint !== "gain");
  const all = unique(own.map((of) => of.checkpoint)), numbered = all.filter((of) => /^round /.test(of)).sort((a, b) => short(a) - short(b));
  const x = ["base", "meta"].filter((of) => all.includes(of)).concat(numbered);
  const series = found.rows.map(({ name }, n) => ({ name, tone: n % 5, dashed: n % 10 >= 5, points: own.filter((of) => of.row === name)
    .map((of) => ({ x: x.indexOf(of.checkpoint), y: of.mean, low: known(of.stderr) ? of.mean - of.stderr : null, high: known(of.stderr) ? of.mean + of.stderr : null, note: share(of) })).sort((a, b) => a.x - b.x) })).filter((of) => of.points.length);
  const apart = found.differences.filter((of) => of.set === set && of.mode === mode);
  const rows = found.rows.filter(({ name }) => apart.some((of) => of.row === name));
  const last = apart.some((of) => of.checkpoint === "last") ? ["last"] : [], columns = [...x, ...last];
  return [
    lineChart({ title: `${set}, ${COMPARED[mode]}: right in %`, x, y: SHARES, height: 320, series, table: true }),
    apart.length ? table(`difference to ${found.baseline}, in points${last.length ? "; last: where the rounds of both end" : ""}`, ["", ...columns], rows.map(({ name }) => [name, ...columns.map((checkpoint) => {
      const of = apart.find((one) => one.row === name && one.checkpoint === checkpoint);
      return of ? [`${signed(100 * of.mean)}${known(of.stderr) ? ` ± ${fixed(100 * of.stderr)}` : ""}`, known(of.p) ? [el("br"), el("span", { class: "p" }, pValue(of.p))] : null] : "–";
    })])) : null,
  ];
}

const share = (of) => `${fixed(100 * of.mean)}${known(of.stderr) ? ` ± ${fixed(100 * of.stderr)}` : ""}${Object.keys(of.seeds).length > 1 ? `, ${Object.keys(of.seeds).length} seeds` : ""}`;

function differences(figures) {
  if (!figures.differences.length) return null;
  const [first] = figures.runs;
  return [el("h3", {}, "Where they differ"), table(`rows that one run alone has right, by direct answers at the last checkpoint of both, against ${first.name}`,
    ["", "set", "at", "it alone", `${first.name} alone`, "rows", "McNemar", "prompts"],
    figures.differences.map((of) => [figures.runs[of.run].name, of.set, of.checkpoint, count(of.gained), count(of.lost), count(of.n), pValue(of.p),
      el("a", { href: `#${new URLSearchParams({ run: of.run, set: of.set, at: of.checkpoint, more: "differ" })}` }, "show")]))];
}

function otherwise(found) {
  const rows = found.rows.flatMap(({ name, config }) => Object.entries(config).map(([name_, of]) => [name, el("code", {}, name_), el("code", { class: "value" }, written(of.here)), el("code", { class: "value" }, written(of.baseline))]));
  return rows.length ? [el("h3", {}, "What differs in their configs"), table("keys that differ", ["run", "key", "here", found.baseline], rows, { hidden: true, kinds: ["", "text", "text", "text"] })] : null;
}
