// The chains browser: filters, cards, and one prompt side by side.

const PAGE = 20;
const TRUE = { true: "right", false: "wrong" };

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  return JSON.parse(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text());
}

const truth = (right) => known(right) ? el("span", { class: `truth ${TRUE[right]}` }, right ? "✓ right" : "✗ wrong") : null;
const judged = (of) => `${of.good === true ? "judged good" : of.good === false ? "judged bad" : "not read"}${known(of.rating) ? `, ${of.rating}` : ""}`;
const cutOff = (finish) => (finish === "length" || finish === "cache" ? el("span", { class: "tag off" }, "clipped") : null);

function turns(entry) {
  const list = el("dl", { class: "turns" });
  const add = (name, text, ...marks) => list.append(el("dt", {}, name), el("dd", {}, el("p", { class: "said" }, text.trim() || "(empty)"), el("p", { class: "marks" }, marks)));
  entry.answers.forEach((answer, n) => {
    const chosen = entry.answers.length > 1 && n === entry.chosen ? el("span", { class: "tag" }, "chosen") : null;
    add(n ? "Refinement" : "Response", answer.text, truth(answer.right), chosen, cutOff(answer.finish));
    const feedback = answer.feedback;
    if (feedback) {
      for (const of of feedback.members || [feedback]) add("Feedback", of.text, el("span", { class: "tag quiet" }, judged(of)), cutOff(of.finish));
      if (feedback.members) add("Together", judged(feedback));
    }
    if (answer.judge && (known(answer.judge.good) || answer.judge.unread)) add("Judge", answer.judge.text || judged(answer.judge), el("span", { class: "tag quiet" }, answer.judge.unread || judged(answer.judge)));
  });
  if (entry.error) add("Not run", entry.error);
  return list;
}

const place = (entry) => (entry.set === null ? entry.at : `${entry.at}, ${entry.set}`);

function card(entry, browser) {
  const others = browser.together(entry);
  const more = others.length > 1 ? el("button", { type: "button", onclick: () => sideBySide(entry, others, browser.figures) }, `Side by side (${others.length})`) : null;
  const run = browser.figures.runs.length > 1 ? el("span", { class: "where" }, browser.figures.runs[entry.run].name) : null;
  return el("article", { class: "chain" },
    el("header", {}, run, el("span", { class: "where" }, place(entry)), el("span", { class: "tag" }, entry.kind),
      entry.verdict === "not judged" ? null : el("span", { class: "tag quiet" }, `verdict ${entry.verdict}`),
      entry.kept === true ? el("span", { class: "tag quiet" }, "kept") : entry.kept === false ? el("span", { class: "tag quiet" }, "dropped") : null,
      el("code", { class: "id" }, entry.sample ? `${entry.id}/${entry.sample}` : entry.id), more),
    el("p", { class: "prompt said" }, entry.prompt),
    known(entry.gold) ? el("p", { class: "gold" }, el("span", {}, "Gold "), entry.gold) : null,
    turns(entry));
}

function column(entry) {
  return el("section", { class: "column" }, el("h3", {}, place(entry)), el("p", { class: "marks" }, el("span", { class: "tag" }, entry.kind)), turns(entry));
}

function sideBySide(entry, entries, figures) {
  const close = el("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const dialog = el("dialog", { "aria-label": "One prompt side by side", onclose: () => dialog.remove() },
    el("header", {}, el("p", { class: "prompt said" }, entry.prompt), known(entry.gold) ? el("p", { class: "gold" }, el("span", {}, "Gold "), entry.gold) : null, close),
    unique(entries.map((of) => of.run)).map((run) => [figures.runs.length > 1 ? el("h2", {}, figures.runs[run].name) : null,
      el("div", { class: "columns", tabindex: "0" }, entries.filter((of) => of.run === run).map(column))]));
  document.body.append(dialog);
  dialog.showModal();
}

function words(entry) {
  const found = [entry.prompt, entry.gold || "", entry.id];
  for (const answer of entry.answers) {
    found.push(answer.text, ...(answer.feedback ? [answer.feedback, ...(answer.feedback.members || [])].map((of) => of.text) : []), answer.judge ? answer.judge.text : "");
  }
  return found.join("\n").toLowerCase();
}

class Browser {
  constructor(figures, chains) {
    this.figures = figures;
    this.chains = chains;
    this.shown = PAGE;
    this.byPrompt = new Map();
    for (const entry of chains) {
      const group = this.byPrompt.get(entry.prompt);
      if (group) group.push(entry); else this.byPrompt.set(entry.prompt, [entry]);
    }
    const options = (values, any) => [["", any], ...values.map((of) => [of, of])];
    const of = (key) => unique(chains.map((entry) => entry[key]).filter(known));
    const again = () => { this.shown = PAGE; this.show(); this.remember(); };
    const pick = (label, choices) => select(label, choices, again);
    this.fields = {
      run: pick("Run", [["", "all runs"], ...figures.runs.map((run, i) => [String(i), run.name])]),
      set: pick("Chains", [["", "of the rounds"], ...of("set").map((set) => [set, `evaluation, ${set}`]), ["*", "all"]]),
      at: pick("Round or checkpoint", options(of("at"), "any")),
      kind: pick("What became of it", options(Object.keys(figures.kinds), "any")),
      verdict: pick("Verdict beside gold", options(figures.verdicts, "any")),
      more: pick("Only", [["", "any"], ["clipped", "clipped"], ["wrong", "chosen answer wrong"], ["kept", "kept"], ["dropped", "dropped"], ["differ", "runs differ"]]),
    };
    this.fallback = { set: chains.some((entry) => entry.set === null) ? "" : "*" };
    this.fields.set.input.value = this.fallback.set;
    this.query = el("input", { type: "search", oninput: again, autocomplete: "off", spellcheck: "false" });
    this.status = el("p", { class: "status", role: "status", "aria-live": "polite" });
    this.list = el("div", { class: "list" });
    this.next = el("button", { type: "button", class: "more", onclick: () => { this.shown += PAGE; this.show(); } }, "Show more");
    const several = figures.runs.length > 1;
    const form = el("form", { class: "filters", role: "search", "aria-label": "Chains", onsubmit: (event) => event.preventDefault() },
      Object.entries(this.fields).filter(([name]) => several || name !== "run").map(([, field]) => field.field),
      el("label", { class: "grow" }, el("span", {}, "Search in all texts"), this.query));
    this.root = el("div", { class: "browser" }, form, this.status, this.list, this.next);
    if (!several) this.fields.more.input.querySelector("[value=differ]").remove();
  }

  // Every answer that is here to the same prompt, in the order of runs and checkpoints.
  together(entry) { return this.byPrompt.get(entry.prompt) || []; }

  differs(entry) {
    const first = (of) => of.answers[0]?.right;
    return this.together(entry).some((of) => of.run !== entry.run && of.at === entry.at && of.set === entry.set && known(first(of)) && known(first(entry)) && first(of) !== first(entry));
  }

  has(entry) {
    const value = (name) => this.fields[name].input.value;
    const set = value("set"), more = value("more"), query = this.query.value.trim().toLowerCase();
    if (set !== "*" && (entry.set ?? "") !== set) return false;
    if (value("run") && String(entry.run) !== value("run")) return false;
    for (const name of ["at", "kind", "verdict"]) if (value(name) && entry[name] !== value(name)) return false;
    if (more === "clipped" && !entry.clipped) return false;
    if (more === "wrong" && entry.answers[entry.chosen]?.right !== false) return false;
    if ((more === "kept" || more === "dropped") && entry.kept !== (more === "kept")) return false;
    if (more === "differ" && !this.differs(entry)) return false;
    return !query || (entry.words ??= words(entry)).includes(query);
  }

  show() {
    const found = this.chains.filter((entry) => this.has(entry)), shown = found.slice(0, this.shown);
    this.status.textContent = `${count(found.length)} of the ${count(this.chains.length)} chains in this page` + (found.length > shown.length ? `; the first ${count(shown.length)} are shown` : "");
    this.list.replaceChildren(...shown.map((entry) => card(entry, this)));
    this.next.hidden = found.length <= shown.length;
  }

  // The filters stand in the address, so that a view can be passed on.
  remember() {
    const told = new URLSearchParams();
    for (const [name, field] of Object.entries(this.fields)) if (field.input.value) told.set(name, field.input.value);
    if (this.query.value) told.set("q", this.query.value);
    history.replaceState(null, "", `#${told}`);
  }

  // Takes the filters from the address; whether there were any.
  recall() {
    const told = new URLSearchParams(location.hash.slice(1)), names = Object.keys(this.fields);
    if (![...names, "q"].some((name) => told.has(name))) return false;
    for (const name of names) {
      const { input } = this.fields[name], value = told.get(name) || this.fallback[name] || "";
      input.value = [...input.options].some((option) => option.value === value) ? value : "";
    }
    this.query.value = told.get("q") || "";
    this.shown = PAGE;
    this.show();
    return true;
  }
}

function held(figures) {
  return figures.groups.filter((of) => of.of).map((of) => {
    const run = figures.runs.length > 1 ? `${figures.runs[of.run].name}, ` : "";
    const what = of.set === null ? `chains of ${of.at}` : `rows of ${of.set}, at every checkpoint`;
    return `${run}${of.shown === of.of ? "all" : `${count(of.shown)} of`} ${count(of.of)} ${what}`;
  });
}

function chainsSection(figures, browser) {
  const whole = figures.groups.every((of) => of.shown === of.of);
  const about = ["What was said, prompt by prompt. ✓ and ✗ are by gold answers, which the rounds do not see. The chains of a round are made by the model of the round before."];
  if (!whole) about.push("This page holds a part: up to half of it chains that were cut, failed or spoilt or whose verdict is unread or untrue, the others drawn evenly. `selfevo show` has all of them.".replaceAll("`", ""));
  return section("chains", "Chains", about, el("details", { class: "numbers" }, el("summary", {}, whole ? "What this page holds: everything" : "What this page holds"), el("ul", {}, held(figures).map((line) => el("li", {}, line)))), browser.root);
}
