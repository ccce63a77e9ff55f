// Where the time went, and what a run was told.

function costSection({ phases }) {
  if (!phases.length) return null;
  const most = Math.max(...phases.map((of) => of.seconds), 1e-9), total = phases.reduce((sum, of) => sum + of.seconds, 0);
  const rows = phases.map((of) => {
    if (of.trained) {
      return [of.phase, duration(of.seconds), bar([[of.seconds / most, "deep", `fine-tuning ${duration(of.seconds)}`]], { label: duration(of.seconds) }),
        known(of.tokens) ? `${count(of.tokens / Math.max(of.seconds, 1e-9))}` : "–", "–", "–"];
    }
    const other = Math.max(0, of.seconds - of.extend_seconds - of.decode_seconds);
    const parts = [[of.decode_seconds / most, 0, `decoding ${duration(of.decode_seconds)}`], [of.extend_seconds / most, "light", `prefilling ${duration(of.extend_seconds)}`], [other / most, "soft", `host and compiling ${duration(other)}`]];
    const floor = of.floor > 0 ? of.floor : null;
    return [of.phase, duration(of.seconds), bar(parts, { floor: known(floor) ? floor / most : null, label: `${duration(of.seconds)}: ${parts.map((part) => part[2]).join(", ")}` }),
      of.decoded ? count(of.decoded / Math.max(of.seconds, 1e-9)) : "–", of.slot_steps ? `${fixed(100 * of.busy / of.slot_steps, 0)} %` : "–",
      known(floor) && of.decode_seconds ? `${fixed(of.decode_seconds / floor)} ×` : "–"];
  });
  return section("costs", "Where the time went", [`${duration(total)} in all. The mark on a bar is the floor of its decoding: what its steps would take at the rates of products and reads that were measured on that machine.`,
    "Tokens a second: drawn, or trained on. Busy: slots that draw. Over floor: decoding as a multiple of its floor; below 1 the rates were measured while the machine had other work, so that they are too low."],
    swatches([[0, "decoding"], ["light", "prefilling"], ["soft", "host and compiling"], ["deep", "fine-tuning"], ["floor", "floor of decoding"]]),
    table("phases", ["", "time", "", "tokens/s", "busy", "over floor"], rows, { hidden: true, kinds: ["", "", "widest", "", "", ""] }));
}

const written = (value) => (value === null ? "null" : typeof value === "string" ? value : JSON.stringify(value));

function configSection({ config }) {
  const own = config.filter((of) => of.own);
  return section("config", "Config", ["What this run was told other than the default, or without one."],
    table("keys that are set", ["key", "value", "default"], own.map((of) => [el("code", {}, of.key), el("code", { class: "value" }, written(of.value)), el("code", { class: "value" }, "default" in of ? written(of.default) : "–")]), { hidden: true, kinds: ["", "text", "text"] }),
    el("details", {}, el("summary", {}, `All ${config.length} keys`), table("all keys", ["key", "value"], config.map((of) => [el("code", {}, of.key), el("code", { class: "value" }, written(of.value))]), { hidden: true, kinds: ["", "text"] })));
}
