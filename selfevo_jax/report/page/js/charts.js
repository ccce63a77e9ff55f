// Line charts, drawn for the width that they have. Each comes with a table of its numbers.

const BESIDE = 460; // From this width on lines are named at their ends, and need no key.
const MARKS = ["circle", "square", "diamond", "triangle"];

function mark(kind, x, y, size, attributes) {
  const s = size, points = {
    square: `${x - s},${y - s} ${x + s},${y - s} ${x + s},${y + s} ${x - s},${y + s}`,
    diamond: `${x},${y - 1.4 * s} ${x + 1.4 * s},${y} ${x},${y + 1.4 * s} ${x - 1.4 * s},${y}`,
    triangle: `${x},${y - 1.3 * s} ${x + 1.3 * s},${y + s} ${x - 1.3 * s},${y + s}`,
  };
  return kind === "circle" ? svg("circle", { cx: x, cy: y, r: s, ...attributes }) : svg("polygon", { points: points[kind], ...attributes });
}

// Round numbers between two values, about as many as asked for.
function ticks(low, high, wanted = 4) {
  const rough = (high - low) / wanted || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((of) => of * power >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) found.push(Math.abs(at) < step * 1e-9 ? 0 : at);
  return found;
}

// As many decimals as tell numbers apart.
function digitsOf(values) {
  const digits = [0, 1, 2, 3, 4].find((d) => values.every((v) => Math.abs(v - Number(v.toFixed(d))) < 1e-9)) ?? 4;
  return (v) => fixed(v, digits);
}

// Moves labels apart that would lie on each other.
function apart(places, least, low, high) {
  const order = places.map((y, i) => [y, i]).sort((a, b) => a[0] - b[0]);
  for (let i = 1; i < order.length; i++) order[i][0] = Math.max(order[i][0], order[i - 1][0] + least);
  const over = order.length ? order[order.length - 1][0] - high : 0;
  if (over > 0) {
    order[order.length - 1][0] -= over;
    for (let i = order.length - 2; i >= 0; i--) order[i][0] = Math.min(order[i][0], order[i + 1][0] - least);
  }
  const found = [];
  for (const [y, i] of order) found[i] = Math.max(y, low);
  return found;
}

/* spec: title; x: labels, or {low, high, name} for numbers; y: {low, high, log, format, name}; height;
   series: [{name, tone, mark, dashed, points: [{x, y, low, high, note}]}], where x is a place among the labels or a number. */
function drawLines(spec, width) {
  const labels = Array.isArray(spec.x) ? spec.x : null, height = spec.height || 240;
  const named = spec.series.length > 1;
  const widest = Math.max(...spec.series.map((of) => of.name.length));
  const beside = named && width >= BESIDE ? Math.min(7 * widest + 20, width / 3) : 12;
  const box = { left: spec.left || 38, right: width - Math.max(beside, 14), top: 10, bottom: height - (spec.x.name ? 36 : 24) };
  const scale = spec.y.log ? Math.log : (v) => v;
  const low = scale(spec.y.low), high = scale(spec.y.high);
  const pad = labels ? Math.min(34, (box.right - box.left) / 10) : 0;
  const X = (v) => labels
    ? box.left + pad + (labels.length > 1 ? v * (box.right - box.left - 2 * pad) / (labels.length - 1) : (box.right - box.left) / 2 - pad)
    : box.left + (v - spec.x.low) * (box.right - box.left) / (spec.x.high - spec.x.low || 1);
  const Y = (v) => box.bottom - (Math.min(high, Math.max(low, scale(v))) - low) * (box.bottom - box.top) / (high - low || 1);
  const marks = spec.y.ticks || ticks(spec.y.low, spec.y.high, height < 170 ? 2 : 4), format = spec.y.format || digitsOf(marks);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": spec.table ? `${spec.title}; its numbers are in the table below` : spec.title });
  for (const tick of marks) {
    root.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: Y(tick), y2: Y(tick) }),
      svg("text", { class: "tick end", x: box.left - 6, y: Y(tick) + 4 }, format(tick)));
  }
  if (labels) {
    const room = (box.right - box.left - 2 * pad) / Math.max(1, labels.length - 1);
    const every = Math.max(1, Math.ceil(Math.max(...labels.map((of) => of.length)) * 7 / room));
    const last = labels.length - 1;
    labels.forEach((label, i) => {
      if (i === last || (i % every === 0 && last - i >= every)) root.append(svg("text", { class: "tick middle", x: X(i), y: box.bottom + 18 }, label));
    });
  } else {
    for (const tick of ticks(spec.x.low, spec.x.high, Math.max(2, Math.round((box.right - box.left) / 90))))
      root.append(svg("text", { class: "tick middle", x: X(tick), y: box.bottom + 16 }, count(tick)));
  }
  if (spec.x.name) root.append(svg("text", { class: "tick end", x: box.right, y: height - 4 }, spec.x.name));
  // One checkpoint alone has no lines that its marks would have to lie on: they stand side by side.
  const gap = labels?.length === 1 ? Math.min(48, (box.right - box.left) / (spec.series.length + 1)) : 5;
  const ends = [];
  spec.series.forEach((series, n) => {
    const shift = labels ? (n - (spec.series.length - 1) / 2) * gap : 0;
    const points = series.points.filter((point) => known(point.y));
    const group = svg("g", { class: `tone-${series.tone ?? n}` });
    const path = points.map((point, i) => `${i ? "L" : "M"}${(X(point.x) + shift).toFixed(1)},${Y(point.y).toFixed(1)}`).join("");
    group.append(svg("path", { class: "line", d: path, "stroke-dasharray": series.dashed ? "5 4" : null }));
    if (series.mark !== null) for (const point of points) {
      const x = X(point.x) + shift;
      if (known(point.low)) group.append(svg("line", { class: "range", x1: x, x2: x, y1: Y(point.low), y2: Y(point.high) }));
      const dot = mark(series.mark || MARKS[n % MARKS.length], x, Y(point.y), 4, { class: series.dashed ? "hollow" : "dot" });
      dot.append(svg("title", {}, `${series.name}${labels ? `, ${labels[point.x]}` : ""}: ${point.note || format(point.y)}`));
      group.append(dot);
    }
    root.append(group);
    if (points.length) ends.push({ name: series.name, tone: series.tone ?? n, y: Y(points[points.length - 1].y) });
  });
  if (named && beside > 12) {
    const places = apart(ends.map((end) => end.y), 16, box.top + 4, box.bottom);
    ends.forEach((end, i) => root.append(svg("text", { class: `tone-${end.tone} name`, x: box.right + 8 - (labels ? Math.max(0, pad - 14) : 0), y: places[i] + 4 }, end.name)));
  }
  return root;
}

function key(series) {
  return el("ul", { class: "key" }, series.map((of, n) => {
    const sign = svg("svg", { width: 30, height: 12, "aria-hidden": "true" }, svg("g", { class: `tone-${of.tone ?? n}` },
      svg("line", { class: "line", x1: 1, x2: 29, y1: 6, y2: 6, "stroke-dasharray": of.dashed ? "5 4" : null }),
      of.mark === null ? null : mark(of.mark || MARKS[n % MARKS.length], 15, 6, 4, { class: of.dashed ? "hollow" : "dot" })));
    return el("li", {}, sign, of.name);
  }));
}

const redrawn = new ResizeObserver((entries) => {
  for (const { target } of entries) requestAnimationFrame(() => target.draw && target.draw());
});

function lineChart(spec) {
  const space = el("div", { class: "space" }), names = spec.series.length > 1 ? key(spec.series) : null;
  let drawn = 0;
  space.draw = () => {
    const width = Math.floor(space.clientWidth);
    if (!width || width === drawn) return;
    drawn = width;
    if (names) names.hidden = width >= BESIDE;
    space.replaceChildren(drawLines(spec, width));
  };
  redrawn.observe(space);
  const caption = spec.caption ? el("figcaption", {}, spec.caption) : null;
  return el("figure", { class: spec.small ? "small" : null }, caption, names, space, spec.table ? numbers(spec) : null);
}

function numbers(spec) {
  const labels = Array.isArray(spec.x) ? spec.x : null;
  const head = ["", ...spec.series.map((of) => of.name)];
  const places = unique(spec.series.flatMap((of) => of.points.map((point) => point.x))).sort((a, b) => a - b);
  const rows = places.map((x) => [labels ? labels[x] : count(x), ...spec.series.map((of) => {
    const point = of.points.find((one) => one.x === x);
    return point && known(point.y) ? point.note || (spec.y.format || String)(point.y) : "–";
  })]);
  return el("details", { class: "numbers" }, el("summary", {}, "Numbers"), table(spec.title, head, rows, { hidden: true }));
}
