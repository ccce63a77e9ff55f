// Elements and numbers. Texts reach the page through `textContent` alone.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined) node.append(child);
  }
  return node;
}

const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const count = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 0 });
const fixed = (value, digits = 1) => value.toFixed(digits).replace("-", "\u2212");
const signed = (value, digits = 1) => (value < 0 ? "" : "+") + fixed(value, digits);
const known = (value) => value !== null && value !== undefined;
const pValue = (p) => (p < 0.001 ? "p < 0.001" : `p ${p.toFixed(3)}`);

// Of a share with its interval, in percent: 61.7 [57.4, 65.8].
function percent(figure) {
  if (!known(figure) || !known(figure.share)) return "–";
  return `${fixed(100 * figure.share)} [${fixed(100 * figure.low)}, ${fixed(100 * figure.high)}]`;
}

// Of a mean with its standard error: 43.8 ± 4.1.
function estimate(figure, digits = 1, times = 1) {
  if (!known(figure) || !known(figure.value)) return "–";
  return fixed(times * figure.value, digits) + (known(figure.stderr) ? ` ± ${fixed(times * figure.stderr, digits)}` : "");
}

function duration(seconds) {
  if (seconds < 10) return `${fixed(seconds)} s`;
  if (seconds < 90) return `${fixed(seconds, 0)} s`;
  const whole = Math.round(seconds);
  if (whole < 5400) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${fixed(seconds / 3600)} h`;
}

const unique = (values) => [...new Set(values)];
const short = (checkpoint) => checkpoint.replace(/^round /, "");

// A section: its name and what to know of it beside what it shows. Nothing where there is nothing to show.
function section(id, title, about, ...content) {
  const shown = content.flat(Infinity).filter(known);
  if (!shown.length) return null;
  const head = el("div", { class: "head" }, el("h2", { id: `${id}-title` }, title), about.map((text) => el("p", {}, text)));
  return el("section", { id, "aria-labelledby": `${id}-title` }, head, el("div", { class: "body" }, shown));
}

function select(label, options, onchange, value = "") {
  const input = el("select", { onchange: () => onchange(input.value) },
    options.map(([of, shown]) => el("option", { value: of }, shown)));
  input.value = value;
  return { input, field: el("label", {}, el("span", {}, label), input) };
}
