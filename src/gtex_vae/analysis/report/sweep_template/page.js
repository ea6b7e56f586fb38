const draw = (parent, tag, attributes, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
};
const number = v => v === null || v === undefined ? "–" : typeof v !== "number" ? String(v)
  : Number.isInteger(v) ? String(v) : Math.abs(v) >= 1e-3 && Math.abs(v) < 1e4 ? String(+v.toPrecision(4)) : String(+v.toPrecision(3)).includes("e") ? String(+v.toPrecision(3)) : v.toExponential(2).replace(/\.?0+e/, "e");
const mean = values => values.reduce((a, b) => a + b, 0) / values.length;
// matplotlib's viridis without its pale end
const viridis = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#a5d62f"];
const signs = { finished: "✔ finished", failed: "✘ failed", pruned: "✂ pruned", unfinished: "… unfinished", new: "… new" };
let metric = data.metric, order = { key: null, up: true };
const less = () => (data.metrics.find(m => m.name === metric) || {}).less;
const better = (a, b) => less() ? a < b : a > b;
const score = run => run.metrics[metric] ?? null;

// ---- settings: groups of runs that differ only in the seed
function settings() {
  const groups = new Map();
  for (const run of data.runs) {
    if (score(run) === null) continue;
    const name = JSON.stringify(data.keys.map(key => run.values[key]));
    if (!groups.has(name)) groups.set(name, { runs: [], values: run.values });
    groups.get(name).runs.push(run);
  }
  return [...groups.values()].map(group => {
    const scores = group.runs.map(score);
    return { ...group, mean: mean(scores), low: Math.min(...scores), high: Math.max(...scores) };
  });
}
const label = values => data.keys.map(key => `${key}=${number(values[key])}`).join("  ") || "all equal";

// ---- scale from values to pixels: linear, logarithmic if the range exceeds a factor of 10, or categorical for texts
function scale(values, from, to) {
  const known = [...new Set(values.filter(v => v !== null && v !== undefined))];
  if (known.length && known.every(v => typeof v === "number")) {
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const log = low > 0 && high / low >= 10, f = log ? Math.log : v => v;
    const place = v => low === high ? (from + to) / 2 : from + (f(v) - f(low)) / (f(high) - f(low)) * (to - from);
    const few = known.length <= 8 ? [...known].sort((a, b) => a - b)
      : [0, .25, .5, .75, 1].map(t => log ? Math.exp(Math.log(low) + t * Math.log(high / low)) : low + t * (high - low));
    return { place, ticks: few, many: known.length > 8 };
  }
  const names = [...new Set(values.map(v => v ?? null))].sort((a, b) => String(a).localeCompare(String(b), "en", { numeric: true }));
  const step = (to - from) / Math.max(names.length, 1);
  return { place: v => from + step * (names.indexOf(v ?? null) + .5), ticks: names, many: false };
}

// ---- parallel coordinates
function parallel() {
  const found = settings(), holder = $("parallel-plot");
  holder.replaceChildren();
  if (!found.length || !data.keys.length) { holder.append(make("p", "No setting differs between runs with this metric.", "none")); return; }
  const axes = data.keys, gap = Math.max(120, Math.min(330, 960 / axes.length)), width = 160 + gap * axes.length, height = 380;
  const svg = draw(holder, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "parallel coordinates" });
  const x = i => 70 + gap * i, top = 46, bottom = height - 24;
  const scales = axes.map(key => scale(found.map(s => s.values[key]), bottom, top));
  const last = scale(found.flatMap(s => [s.low, s.high, s.mean]), bottom, top), means = found.map(s => s.mean);
  const [low, high] = [Math.min(...means), Math.max(...means)];
  const color = v => viridis[Math.round((high > low ? (v - low) / (high - low) : .5) * 8)];
  const best = found.reduce((a, b) => better(b.mean, a.mean) ? b : a);
  const tip = make("div", "", "tip");
  tip.hidden = true;
  for (const setting of [...found].sort((a, b) => (a === best) - (b === best))) {
    const points = axes.map((key, i) => [x(i), scales[i].place(setting.values[key])]);
    points.push([x(axes.length), last.place(setting.mean)]);
    const line = draw(svg, "path", { class: setting === best ? "line best" : "line", d: "M" + points.map(p => p.map(v => v.toFixed(1)).join(" ")).join("L"), stroke: color(setting.mean) });
    if (setting.runs.length > 1) draw(svg, "line", { class: "interval", x1: x(axes.length) + 5, x2: x(axes.length) + 5, y1: last.place(setting.low), y2: last.place(setting.high), stroke: color(setting.mean), "stroke-width": 3 });
    line.onpointerenter = event => {
      for (const other of svg.querySelectorAll(".line")) other.classList.toggle("dim", other !== line);
      tip.textContent = `${label(setting.values)}: ${number(setting.mean)}` + (setting.runs.length > 1 ? ` (${number(setting.low)} to ${number(setting.high)}, ${setting.runs.length} seeds)` : "");
      tip.hidden = false;
      const box = holder.getBoundingClientRect();
      tip.style.left = `${Math.max(0, Math.min(event.clientX - box.left + 12, box.width - 300))}px`;
      tip.style.top = `${event.clientY - box.top + 12}px`;
    };
    line.onpointerleave = () => { tip.hidden = true; for (const other of svg.querySelectorAll(".line")) other.classList.remove("dim"); };
  }
  [...axes, metric].forEach((key, i) => {
    const own = i < axes.length ? scales[i] : last;
    draw(svg, "line", { class: "axis", x1: x(i), x2: x(i), y1: top, y2: bottom });
    const short = key.length > 24 ? "…" + key.slice(-23) : key;
    draw(draw(svg, "text", { x: x(i), y: i % 2 && gap < 170 ? 14 : 30, "text-anchor": "middle", "font-weight": i < axes.length ? 400 : 700 }, short), "title", {}, key);
    for (const tick of own.ticks) draw(svg, "text", { class: "soft", x: x(i) + (i < axes.length ? -6 : 12), y: own.place(tick) + 4, "text-anchor": i < axes.length ? "end" : "start", "paint-order": "stroke", stroke: "#fff", "stroke-width": 3 }, number(tick));
  });
  holder.append(tip);
}

// ---- main effects
function effects() {
  const found = settings(), holder = $("effects-plots"), width = 360, height = 250;
  holder.replaceChildren();
  if (!found.length || !data.keys.length) { holder.append(make("p", "No setting differs between runs with this metric.", "none")); return; }
  const runs = found.flatMap(setting => setting.runs), y = scale(runs.map(score), height - 46, 28);
  for (const key of data.keys) {
    const figure = make("figure"), svg = draw(figure, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `main effect of ${key}` });
    holder.append(figure);
    const x = scale(runs.map(run => run.values[key]), 70, width - 20);
    draw(svg, "text", { x: width / 2 + 20, y: 14, "text-anchor": "middle", "font-weight": 700 }, key);
    draw(svg, "path", { class: "axis", d: `M60 24V${height - 40}H${width - 10}` });
    for (const tick of y.ticks.length > 5 ? [0, .5, 1].map(t => y.ticks[Math.round(t * (y.ticks.length - 1))]) : y.ticks) draw(svg, "text", { class: "soft", x: 55, y: y.place(tick) + 4, "text-anchor": "end" }, number(tick));
    for (const tick of x.ticks) draw(svg, "text", { class: "soft", x: x.place(tick), y: height - 22, "text-anchor": "middle" }, number(tick));
    for (const run of runs) draw(draw(svg, "circle", { class: "run", cx: x.place(run.values[key]), cy: y.place(score(run)), r: 3, fill: "#0072B2", opacity: .35 }), "title", {}, `${run.name}: ${number(score(run))}`);
    if (x.many) continue;  // every run has a value of its own: no means
    const path = [];
    for (const value of x.ticks) {
      const there = runs.filter(run => (run.values[key] ?? null) === value);
      if (!there.length) continue;
      const bySeed = new Map();
      for (const run of there) bySeed.set(run.values.seed, [...(bySeed.get(run.values.seed) || []), score(run)]);
      const means = [...bySeed.values()].map(mean), at = [x.place(value), y.place(mean(there.map(score)))];
      if (means.length > 1) draw(svg, "line", { class: "interval", x1: at[0], x2: at[0], y1: y.place(Math.min(...means)), y2: y.place(Math.max(...means)), stroke: "#D55E00", "stroke-width": 2 });
      for (const end of means.length > 1 ? [Math.min(...means), Math.max(...means)] : []) draw(svg, "line", { x1: at[0] - 8, x2: at[0] + 8, y1: y.place(end), y2: y.place(end), stroke: "#D55E00", "stroke-width": 2 });
      draw(draw(svg, "circle", { class: "mean", cx: at[0], cy: at[1], r: 4.5, fill: "#D55E00" }), "title", {}, `${key}=${number(value)}: ${number(mean(there.map(score)))} over ${there.length} runs`);
      path.push(at);
    }
    if (path.every(([, v]) => Number.isFinite(v)) && typeof x.ticks[0] === "number") draw(svg, "polyline", { points: path.map(p => p.join(",")).join(" "), fill: "none", stroke: "#D55E00", "stroke-width": 1.5 });
  }
}

// ---- tables
function table(header, rows, kinds = {}) {
  const node = make("table"), head = node.createTHead().insertRow(), body = node.createTBody();
  header.forEach((text, i) => { const cell = make("th", undefined, kinds[i] || ""); cell.append(text); head.append(cell); });
  for (const cells of rows) {
    const row = body.insertRow();
    if (cells.kind) row.className = cells.kind;
    cells.forEach((cell, i) => { const place = row.insertCell(); place.append(cell); if (kinds[i]) place.className = kinds[i]; });
  }
  return node;
}
const numeric = (from, to) => Object.fromEntries(Array.from({ length: to - from }, (_, i) => [from + i, "number"]));
function stability() {
  const repeated = settings().filter(setting => setting.runs.length > 1), spread = $("spread"), agreement = $("agreement");
  spread.replaceChildren(); agreement.replaceChildren();
  if (!repeated.length) spread.append(make("p", "No setting was run with several seeds. Add seed=1,2,3 to the sweep.", "none"));
  else {
    spread.append(make("h3", `Spread of ${metric} over seeds`));
    const sd = setting => Math.sqrt(setting.runs.map(run => (score(run) - setting.mean) ** 2).reduce((a, b) => a + b, 0) / (setting.runs.length - 1));
    const folded = make("details"), shown = table(["setting", "seeds", "mean", "standard deviation", "lowest", "highest"],
      repeated.map(s => [label(s.values), String(s.runs.length), number(s.mean), number(sd(s)), number(s.low), number(s.high)]), numeric(1, 6));
    folded.append(make("summary", `${repeated.length} settings`), shown);
    folded.open = repeated.length <= 12;
    spread.append(folded);
  }
  if (!data.stability.length) {
    if (repeated.length) agreement.append(make("p", "To compare embeddings and neighbours of seeds: python -m gtex_vae.summarize sweep=…", "none"));
    return;
  }
  const shown = { latent_cka: "embeddings: linear CKA", latent_procrustes: "embeddings: Procrustes R2", sample_neighbours: "neighbours of samples", sample_chance: "by chance", gene_neighbours: "neighbours of genes", gene_chance: "by chance" };
  agreement.append(make("h3", "Agreement of embeddings and neighbours"));
  agreement.append(table(["setting", "runs", ...Object.values(shown)],
    data.stability.map(pair => [pair.setting || "all equal", `${pair.run_a} – ${pair.run_b}`, ...Object.keys(shown).map(key => number(pair[key]))]), numeric(2, 8)));
  agreement.append(make("p", "On held-out samples, for each pair of seeds. CKA and Procrustes R2 are 1 if the embeddings are equal up to rotation and scale. Neighbours are compared by the Jaccard index of two lists of 15.", "note"));
}
function list() {
  const wanted = $("status").value, rows = data.runs.filter(run => wanted === "all" || run.status === wanted);
  const value = run => order.key === "run" ? data.runs.indexOf(run) : order.key === "status" ? run.status : order.key === "metric" ? score(run) : run.values[order.key] ?? null;
  if (order.key) rows.sort((a, b) => {
    const [u, v] = [value(a), value(b)];
    if (u === null || v === null) return (u === null) - (v === null);
    return (u < v ? -1 : u > v ? 1 : 0) * (order.up ? 1 : -1);
  });
  const seeds = data.runs.some(run => run.values.seed !== null), keys = [...data.keys, ...(seeds ? ["seed"] : [])];
  const heads = ["run", "status", ...keys, "metric", "reason"].map(key => {
    if (key === "reason") return "reason";
    const button = make("button", (key === "metric" ? metric : key) + (order.key === key ? (order.up ? " ▲" : " ▼") : ""));
    button.type = "button";
    button.dataset.key = key;
    button.onclick = () => { order = { key, up: order.key === key ? !order.up : true }; list(); };
    return button;
  });
  const best = bestRun(), cells = rows.map(run => {
    const name = make("span", run.name);
    name.title = run.folder;
    const row = [name, make("span", signs[run.status] || run.status, `status ${run.status}`), ...keys.map(key => number(run.values[key])), number(score(run)), run.reason];
    row.kind = run === best ? "best" : "";
    return row;
  });
  $("table").replaceChildren(table(heads, cells, numeric(2, 3 + keys.length)));
  $("count").textContent = `${rows.length} of ${data.runs.length} runs`;
}
function bestRun() {
  const scored = data.runs.filter(run => run.status === "finished" && score(run) !== null);
  return scored.length ? scored.reduce((a, b) => better(score(b), score(a)) ? b : a) : null;
}
function all() {
  const best = bestRun();
  $("best").textContent = best ? `best: run ${best.name} with ${number(score(best))} (${less() ? "lower" : "higher"} is better)` : "no finished run has this metric";
  parallel(); effects(); stability(); list();
}
for (const { name } of data.metrics) { const option = make("option", name); option.value = name; $("metric").append(option); }
for (const name of ["all", ...new Set(data.runs.map(run => run.status))]) { const option = make("option", name); option.value = name; $("status").append(option); }
if (metric) $("metric").value = metric;
$("metric").onchange = event => { metric = event.target.value; all(); };
$("status").onchange = list;
all();
