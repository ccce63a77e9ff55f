// Tables with heads, and bars in their cells.

function table(caption, head, rows, { hidden = false, kinds = [] } = {}) {
  const cell = (content, i) => (i === 0
    ? el("th", { scope: "row" }, content)
    : el("td", { class: kinds[i] || null }, content));
  return el("div", { class: "scroll" }, el("table", {},
    el("caption", { class: hidden ? "unseen" : null }, caption),
    el("thead", {}, el("tr", {}, head.map((name, i) => el("th", { scope: "col", class: kinds[i] || null }, name)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell))))));
}

// A bar of parts, each [share of the whole, tone, what it is].
function bar(parts, { floor = null, label = "" } = {}) {
  let at = 0;
  const root = svg("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": label });
  for (const [share, tone, name] of parts) {
    if (share > 0) root.append(svg("rect", { class: `tone-${tone} solid`, x: 100 * at, y: 0, width: Math.max(0.4, 100 * share), height: 10 }, svg("title", {}, name)));
    at += share;
  }
  if (known(floor)) root.append(svg("rect", { class: "floor", x: 100 * floor, y: 0, width: 0.5, height: 10 }));
  return root;
}

function swatches(names) {
  return el("ul", { class: "key" }, names.map(([tone, name]) => el("li", {},
    svg("svg", { width: 12, height: 12, "aria-hidden": "true" }, svg("rect", { class: tone === "floor" ? "floor" : `tone-${tone} solid`, x: tone === "floor" ? 5 : 0, width: tone === "floor" ? 2 : 12, height: 12 })), name)));
}
