const decode = (text, Kind) => new Kind(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
const show = v => Number.isNaN(v) ? "missing" : Math.abs(v) >= 1e4 || Number.isInteger(v) ? String(Math.round(v)) : String(+v.toPrecision(4));

// ---- the map
const n = data.samples.length;
const maps = Object.fromEntries(Object.entries(data.maps).map(([name, text]) => [name, decode(text, Float32Array)]));
const columns = data.columns.map(column => column.kind === "class"
  ? { ...column, codes: decode(column.codes, Uint16Array) }
  : { ...column, values: decode(column.values, Float32Array) });
const value = (column, i) => column.kind === "class" ? column.levels[column.codes[i]] : show(column.values[i]);
const viridis = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b"];
const state = { method: Object.keys(maps).includes("UMAP") ? "UMAP" : Object.keys(maps)[0], column: columns[0], hidden: new Set(), focus: -1, query: "", hover: -1, zoom: 1, x: 0, y: 0 };
const canvas = $("canvas"), pen = canvas.getContext("2d");
let width = 0, height = 0, px = new Float32Array(n), py = new Float32Array(n), visible = new Uint8Array(n), matches = null;

// outline of each marker, of about equal area and unit radius
const polygon = (corners, turn, radii = [1]) => Array.from({ length: corners }, (_, i) => {
  const angle = turn + 2 * Math.PI * i / corners, r = radii[i % radii.length];
  return [r * Math.cos(angle), r * Math.sin(angle)];
});
const cross = w => [[-w, -1], [w, -1], [w, -w], [1, -w], [1, w], [w, w], [w, 1], [-w, 1], [-w, w], [-1, w], [-1, -w], [-w, -w]];
const turned = points => points.map(([x, y]) => [(x - y) * Math.SQRT1_2, (x + y) * Math.SQRT1_2]);
const shapes = {
  "^": polygon(3, -Math.PI / 2, [1.25]), "v": polygon(3, Math.PI / 2, [1.25]), "s": polygon(4, Math.PI / 4, [1.2]),
  "D": polygon(4, 0, [1.25]), "P": cross(.4), "X": turned(cross(.4)), "*": polygon(10, -Math.PI / 2, [1.35, .58]),
};
const trace = (path, marker, x, y, r) => {
  const shape = shapes[marker];
  if (!shape) { path.moveTo(x + r, y); path.arc(x, y, r, 0, 7); return; }
  shape.forEach(([dx, dy], i) => i ? path.lineTo(x + r * dx, y + r * dy) : path.moveTo(x + r * dx, y + r * dy));
  path.closePath();
};

function place() {
  const xy = maps[state.method];
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < n; i++) {
    x0 = Math.min(x0, xy[2 * i]); x1 = Math.max(x1, xy[2 * i]);
    y0 = Math.min(y0, xy[2 * i + 1]); y1 = Math.max(y1, xy[2 * i + 1]);
  }
  const scale = Math.min((width - 40) / Math.max(x1 - x0, 1e-9), (height - 40) / Math.max(y1 - y0, 1e-9)) * state.zoom;
  for (let i = 0; i < n; i++) {
    px[i] = width / 2 + state.x + (xy[2 * i] - (x0 + x1) / 2) * scale;
    py[i] = height / 2 + state.y - (xy[2 * i + 1] - (y0 + y1) / 2) * scale;
  }
}

function range(column) {
  if (!column.range) {
    const sorted = column.values.filter(v => !Number.isNaN(v)).sort();
    column.range = [sorted[Math.floor(.01 * (sorted.length - 1))], sorted[Math.ceil(.99 * (sorted.length - 1))]];
  }
  return column.range;
}

function groups() {
  const { column } = state;
  if (column.kind === "class") {
    const members = column.levels.map(() => []);
    for (let i = 0; i < n; i++) members[column.codes[i]].push(i);
    return members.map((rows, level) => ({ rows, level, color: column.colors[level], marker: column.markers[level] }));
  }
  const [low, high] = range(column), bins = viridis.map((color, level) => ({ rows: [], level, color, marker: "o" }));
  const missing = { rows: [], level: -2, color: "#b5b5b5", marker: "." };
  for (let i = 0; i < n; i++) {
    const v = column.values[i];
    if (Number.isNaN(v)) missing.rows.push(i);
    else bins[Math.max(0, Math.min(8, Math.floor(9 * (v - low) / (high - low || 1))))].rows.push(i);
  }
  return [missing, ...bins];
}

function draw() {
  const ratio = window.devicePixelRatio || 1;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const size = Math.max(1.8, Math.min(5, 120 / Math.sqrt(n))) * Math.min(2, Math.sqrt(state.zoom));
  let shown = 0;
  visible.fill(0);
  const parts = groups().filter(part => !state.hidden.has(part.level));
  parts.sort((a, b) => (a.level === state.focus) - (b.level === state.focus));
  for (const late of matches ? [false, true] : [true]) for (const part of parts) {
    const path = new Path2D();
    for (const i of part.rows) {
      if (matches && Boolean(matches[i]) !== late) continue;
      if (!matches || matches[i]) { visible[i] = 1; shown++; }
      if (px[i] < -9 || py[i] < -9 || px[i] > width + 9 || py[i] > height + 9) continue;
      trace(path, part.marker, px[i], py[i], part.marker === "." ? size * .6 : size);
    }
    pen.globalAlpha = (state.focus >= 0 && part.level !== state.focus) || !late ? .1 : .82;
    pen.fillStyle = part.color;
    pen.fill(path);
  }
  pen.globalAlpha = 1;
  if (state.hover >= 0) {
    pen.beginPath(); pen.arc(px[state.hover], py[state.hover], size + 4, 0, 7);
    pen.lineWidth = 2; pen.strokeStyle = "#000"; pen.stroke();
  }
  $("shown").textContent = `${shown.toLocaleString("en")} of ${n.toLocaleString("en")} samples`;
}
let asked = false;
const redraw = () => { if (!asked) { asked = true; requestAnimationFrame(() => { asked = false; draw(); }); } };
const move = () => { place(); redraw(); };

function swatch(marker, color) {
  const ns = "http:" + "//www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg");
  svg.setAttribute("width", 14); svg.setAttribute("height", 14); svg.setAttribute("viewBox", "-1.5 -1.5 3 3");
  const shape = shapes[marker], node = document.createElementNS(ns, shape ? "polygon" : "circle");
  if (shape) node.setAttribute("points", shape.map(p => p.map(v => v.toFixed(3)).join(",")).join(" "));
  else node.setAttribute("r", marker === "." ? .6 : 1);
  node.setAttribute("fill", color);
  svg.append(node);
  return svg;
}

function legend() {
  const box = $("legend"), { column } = state;
  box.replaceChildren();
  document.querySelector(".legend-buttons").hidden = column.kind !== "class";
  if (column.kind === "number") {
    const [low, high] = range(column), bar = make("div", undefined, "scale"), ends = make("div", undefined, "ends");
    bar.style.background = `linear-gradient(to right, ${viridis.join(",")})`;
    ends.append(make("span", `≤ ${show(low)}`), make("span", `≥ ${show(high)}`));
    const missing = column.values.reduce((count, v) => count + Number.isNaN(v), 0);
    box.append(make("p", column.name), bar, ends);
    if (missing) box.append(make("p", `grey: ${missing} missing`, "note"));
    return;
  }
  for (const part of groups()) {
    const entry = make("button");
    entry.type = "button";
    entry.dataset.level = part.level;
    entry.setAttribute("aria-pressed", !state.hidden.has(part.level));
    entry.append(swatch(part.marker, part.color), make("span", column.levels[part.level]), make("i", part.rows.length));
    entry.onclick = () => {
      state.hidden.has(part.level) ? state.hidden.delete(part.level) : state.hidden.add(part.level);
      entry.setAttribute("aria-pressed", !state.hidden.has(part.level));
      redraw();
    };
    entry.onmouseenter = () => { state.focus = part.level; redraw(); };
    entry.onmouseleave = () => { state.focus = -1; redraw(); };
    box.append(entry);
  }
}

function tip() {
  const box = $("tip"), i = state.hover;
  box.hidden = i < 0;
  if (i < 0) return;
  box.replaceChildren(make("b", data.samples[i]));
  for (const column of columns) {
    const line = make("div");
    line.append(make("span", `${column.name} `), value(column, i));
    box.append(line);
  }
  box.style.left = px[i] < width * .6 ? `${px[i] + 14}px` : "auto";
  box.style.right = px[i] < width * .6 ? "auto" : `${width - px[i] + 14}px`;
  box.style.top = `${Math.max(4, Math.min(py[i] - 20, height - box.offsetHeight - 4))}px`;
}

for (const name of Object.keys(maps)) {
  const button = make("button", name);
  button.type = "button";
  button.dataset.method = name;
  button.setAttribute("aria-pressed", name === state.method);
  button.onclick = () => {
    state.method = name;
    document.querySelectorAll("#methods button").forEach(b => b.setAttribute("aria-pressed", b === button));
    whole();
  };
  $("methods").append(button, " ");
}
columns.forEach((column, i) => { const option = make("option", column.name); option.value = i; $("color-by").append(option); });
$("color-by").onchange = event => { state.column = columns[event.target.value]; state.hidden.clear(); state.focus = -1; legend(); redraw(); };
const whole = () => { Object.assign(state, { zoom: 1, x: 0, y: 0, hover: -1 }); tip(); move(); };
$("reset-view").onclick = whole;
const toggleAll = on => { state.hidden = new Set(on ? [] : state.column.levels.keys()); legend(); redraw(); };
$("show-all").onclick = () => toggleAll(true);
$("show-none").onclick = () => toggleAll(false);
$("find-sample").oninput = event => {
  const query = event.target.value.trim().toLowerCase();
  const texts = columns.filter(column => column.kind === "class")
    .map(column => ({ codes: column.codes, hit: column.levels.map(level => level.toLowerCase().includes(query)) }));
  matches = query ? data.samples.map((s, i) => s.toLowerCase().includes(query) || texts.some(t => t.hit[t.codes[i]])) : null;
  redraw();
};
let drag = null;
canvas.onpointerdown = event => { drag = [event.clientX - state.x, event.clientY - state.y]; canvas.setPointerCapture(event.pointerId); };
canvas.onpointerup = canvas.onpointercancel = () => { drag = null; };
canvas.onpointermove = event => {
  if (drag) { state.x = event.clientX - drag[0]; state.y = event.clientY - drag[1]; state.hover = -1; tip(); move(); return; }
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  let best = 144, found = -1;
  for (let i = 0; i < n; i++) {
    const d = (px[i] - x) ** 2 + (py[i] - y) ** 2;
    if (visible[i] && d < best) { best = d; found = i; }
  }
  if (found !== state.hover) { state.hover = found; tip(); redraw(); }
};
canvas.onpointerleave = () => { state.hover = -1; tip(); redraw(); };
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left - width / 2, y = event.clientY - box.top - height / 2;
  const zoom = Math.max(1, Math.min(60, state.zoom * Math.exp(-event.deltaY / 400))), factor = zoom / state.zoom;
  Object.assign(state, zoom === 1 ? { zoom, x: 0, y: 0, hover: -1 } : { zoom, x: x - (x - state.x) * factor, y: y - (y - state.y) * factor, hover: -1 });
  tip(); move();
}, { passive: false });
function fit() {
  const box = canvas.parentNode, ratio = window.devicePixelRatio || 1;
  width = box.clientWidth; height = box.clientHeight;
  canvas.width = width * ratio; canvas.height = height * ratio;
  place(); draw();
}
legend(); fit();
new ResizeObserver(fit).observe(canvas.parentNode);  // scroll bars do not fire the window's resize event
window.addEventListener("beforeprint", fit);

// ---- gene neighbours
const genes = data.genes, neighbours = decode(genes.neighbours, Uint32Array), cosine = decode(genes.cosine, Int16Array);
const r2 = Object.fromEntries(Object.entries(genes.r2).map(([name, text]) => [name, decode(text, Float32Array)]));
const number = v => Number.isNaN(v) ? "–" : v.toFixed(3);
const lower = genes.names.map((name, i) => [name.toLowerCase(), genes.ids[i].toLowerCase()]);
function lookup(query) {
  const whole = lower.findIndex(names => names.includes(query));
  return whole >= 0 ? whole : lower.findIndex(names => names.some(name => name.startsWith(query)));
}
function table(header, rows) {
  const node = make("table"), head = node.createTHead().insertRow(), body = node.createTBody();
  header.forEach((text, i) => head.append(make("th", text, i > 1 ? "number" : "")));
  for (const cells of rows) {
    const row = body.insertRow();
    cells.forEach((cell, i) => {
      const place = row.insertCell();
      place.append(cell);
      if (i > 1) place.className = "number";
    });
  }
  return node;
}
function go(i) { $("gene").value = genes.names[i] || genes.ids[i]; showGene(i); }
function showGene(i) {
  const rows = [];
  for (let j = i * genes.k; j < (i + 1) * genes.k; j++) {
    const other = neighbours[j], link = make("button", genes.names[other] || genes.ids[other], "link"), bar = make("span", undefined, "bar");
    link.type = "button";
    link.onclick = () => go(other);
    bar.style.width = `${Math.max(0, cosine[j] / 100)}px`;
    rows.push([link, genes.ids[other], (cosine[j] / 10000).toFixed(3), bar, number(r2.r2_model[other])]);
  }
  const own = make("p");
  own.append(make("b", `${genes.names[i]} `), `${genes.ids[i]} · reconstruction R2 ${number(r2.r2_model[i])} (PCA ${number(r2.r2_pca[i])}) · imputation R2 ${number(r2.imputation_model[i])} (PCA ${number(r2.imputation_pca[i])})`);
  if (!isFinite(r2.r2_model[i])) own.append(" · constant over the held-out samples: its neighbours are not meaningful");
  $("gene-result").replaceChildren(own, table(["gene", "id", "cosine", "", "R2"], rows));
}
$("gene").oninput = event => {
  const query = event.target.value.trim().toLowerCase(), list = $("gene-list");
  list.replaceChildren();
  $("gene-note").textContent = "";
  if (!query) return;
  for (let i = 0, found = 0; i < lower.length && found < 12; i++) {
    if (!lower[i].some(name => name.startsWith(query))) continue;
    const option = make("option");
    option.value = genes.names[i] || genes.ids[i];
    list.append(option);
    found++;
  }
  const i = lookup(query);
  if (i >= 0) showGene(i);
  else { $("gene-result").replaceChildren(); $("gene-note").textContent = "no such gene in this model"; }
};
if (genes.k) {
  // start with a well reconstructed gene: genes that hardly vary are all similar
  let best = -1;
  for (let i = 0; i < lower.length; i++) {
    if (r2.r2_model[i] > 0.5 && (best < 0 || cosine[i * genes.k] > cosine[best * genes.k])) best = i;
  }
  go(Math.max(best, 0));
}
