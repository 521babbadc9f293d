// page: which stage of which run is shown, what is chosen in it, and what the panel says of that.
"use strict";

const $ = (id) => document.getElementById(id);
const world = $("world"), svg = $("graph"), panel = $("panel");
const camera = new Camera(svg, world);
const state = { run: 0, stage: 0, chosen: null, folded: new Map(), part: false, at: -1 };
let placed = { boxes: [], groups: [], wires: [], width: 1, height: 1 };

const stages = () => [...data.stages, ...(data.runs[state.run]?.stages ?? [])];
const stage = () => stages()[state.stage];

// Text from a graph is text, never markup.
const safe = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

for (const s of [...data.stages, ...data.runs.flatMap((r) => r.stages)]) {
  s.moved ??= {};
  s.has = new Set(s.items);
  s.scopes = new Map(); // scope -> how many operations are below it
  for (const i of s.items) items[i].name.split("/").forEach((_, k, parts) => { const scope = parts.slice(0, k).join("/"); s.scopes.set(scope, (s.scopes.get(scope) ?? 0) + 1); });
  s.number = new Map(s.items.map((item, k) => [item, k]));
}
const gradientOf = new Map(); // node -> the nodes that it is, or helps to make, the gradient of
items.forEach((item, i) => {
  for (const made of item.gradient ? [item.gradient.value, ...item.gradient.made] : []) gradientOf.set(made, [...new Set([...(gradientOf.get(made) ?? []), i])]);
});

// ------------------------------------------------------------------ a node through the stages

// A pass makes new nodes of old ones: what a chosen node became, or came from, in another stage.
function follow(item, from, to) {
  const origins = [item, ...Object.keys(from.moved).filter((o) => from.moved[o] === item).map(Number)];
  const also = origins.flatMap((o) => to.name === "operations" ? items[o].operation ?? [] : items[o].node ?? []);
  return [...origins, ...also].map((o) => to.moved[o] ?? o).find((o) => to.has.has(o));
}

const isNew = (item) => {
  const before = stages()[state.stage - 1];
  return state.stage > data.stages.length && before.name !== "operations" && !before.has.has(item) && items[item].kind !== "result";
};

// ------------------------------------------------------------------ showing a stage

function show(keepView = false) {
  const now = stage(), full = boxesOf(now), key = `${state.run} ${now.name}`;
  if (!state.folded.has(key)) state.folded.set(key, foldedAtFirst(full));
  let graph = foldGroups(full, state.folded.get(key));
  const count = graph.boxes.size;
  if (count > MOST) {
    const chosen = [...graph.boxes.values()].find((b) => state.chosen?.item !== undefined && b.item === state.chosen.item);
    graph = neighbourhood(graph, chosen?.key ?? [...graph.boxes.keys()].at(-1));
    notice(`${count.toLocaleString("en")} nodes are too many for one drawing: these are the ${graph.boxes.size} nearest to the chosen one. Search or click to move.`);
  } else notice("");
  placed = place(graph);
  placed.partial = count > MOST;
  drawAll(world, placed, isNew);
  if (!keepView) camera.open(placed);
  tabs();
  say();
  light();
  tell();
}

// In a large graph the outermost groups begin folded, in one of some size the variables with all that belongs to them.
function foldedAtFirst({ boxes, groups }) {
  const isVariable = (key) => [...boxes.values()].some((b) => items[b.item].name === key && items[b.item].kind === "variable");
  const begins = ([key, g]) => boxes.size > MOST ? !g.parent : boxes.size > SOME && isVariable(key);
  return new Set([...groups].filter(begins).map(([key]) => key));
}

function notice(text) {
  $("notice").hidden = !text;
  $("notice").textContent = text;
}

function tabs() {
  const all = stages();
  $("tabs").replaceChildren(...all.map((s, k) => {
    const tab = document.createElement("button");
    const before = all[k - 1];
    tab.role = "tab";
    tab.ariaSelected = String(k === state.stage);
    tab.dataset.stage = s.name;
    tab.classList.toggle("same", k > data.stages.length && !s.kernels.length && s.items.length === before.items.length && s.items.every((i) => before.has.has(i)));
    tab.title = `${s.note} (${k + 1})`;
    tab.innerHTML = `${safe(s.name)}<small>${s.kernels.length || s.items.length}</small>`;
    tab.onclick = () => go(k);
    return tab;
  }));
}

function go(k) {
  if (k < 0 || k >= stages().length) return;
  const from = stage(), to = stages()[k];
  const item = state.chosen?.item === undefined ? undefined : follow(state.chosen.item, from, to);
  state.stage = k;
  state.chosen = item === undefined ? null : { item };
  show();
}

// Under the tabs: what this stage is, and what the pass did.
function say() {
  const now = stage(), before = stages()[state.stage - 1];
  const fresh = now.items.filter(isNew).length;
  const gone = before && state.stage > data.stages.length ? before.items.filter((i) => !now.has.has(i) && items[i].kind !== "result").length : 0;
  const parts = [now.kernels.length ? `<b>${now.kernels.length} kernels</b>` : `<b>${now.items.length} ${now.name === "operations" ? "operations" : "nodes"}</b>`];
  if (fresh) parts.push(`<i>${fresh} new</i>`);
  if (gone) parts.push(`${gone} gone`);
  if (!fresh && !gone && state.stage > data.stages.length && !now.kernels.length) parts.push("nothing changed");
  $("note").innerHTML = `${safe(now.note)}<br>${parts.join(" · ")}`;
  const kinds = [...new Set(now.items.map((i) => items[i].kind))].sort();
  $("legend").innerHTML = kinds.map((k) => `<li class="${k}">${k}</li>`).join("");
}

// ------------------------------------------------------------------ light on what is chosen

function gradientIn(item, to) {
  const node = items[item].nodes ? items[item].node : [item, ...Object.keys(stage().moved).filter((o) => stage().moved[o] === item).map(Number)].find((o) => items[o].gradient);
  const own = node === undefined ? undefined : items[node].gradient;
  if (!own) return { value: undefined, made: [] };
  const here = (o) => follow(o, data.stages.at(-1), to);
  const made = (items[item].nodes ?? [node]).flatMap((n) => items[n].gradient?.made ?? []);
  const image = [...new Set(made.map(here))].filter((o) => o !== undefined);
  return { value: here(own.value), loss: here(own.loss), made: image };
}

function light() {
  for (const e of world.children) e.classList.remove("lit", "self", "in", "out", "gradient", "line", "part");
  world.classList.toggle("chosen", Boolean(state.chosen));
  const part = state.part && !state.chosen && state.stage < data.stages.length;
  world.classList.toggle("run", part);
  const of = (e) => Number(e.dataset.item);
  const boxes = [...world.querySelectorAll(".box")], wires = [...world.querySelectorAll(".wire")];
  const byKey = new Map(boxes.map((b) => [b.dataset.key, b]));
  const mark = (test, ...classes) => boxes.filter(test).forEach((b) => b.classList.add(...classes));
  if (part) {
    const inside = new Set(data.runs[state.run].items);
    mark((b) => inside.has(of(b)) || b.dataset.item === undefined, "part");
    for (const w of wires) if (byKey.get(w.dataset.from)?.classList.contains("part") && byKey.get(w.dataset.to)?.classList.contains("part")) w.classList.add("part");
  }
  if (!state.chosen) return;
  const { item, line, group } = state.chosen;
  if (item !== undefined) {
    mark((b) => of(b) === item, "lit", "self");
    for (const w of wires) {
      const from = byKey.get(w.dataset.from), to = byKey.get(w.dataset.to);
      if (from.classList.contains("self")) { w.classList.add("lit", "out"); to.classList.add("lit"); }
      if (to.classList.contains("self")) { w.classList.add("lit", "in"); from.classList.add("lit"); }
    }
    const { value, made } = gradientIn(item, stage());
    const gradient = new Set([value, ...made].filter((o) => o !== item));
    mark((b) => gradient.has(of(b)), "lit", "gradient");
  } else if (line !== undefined) mark((b) => b.dataset.item !== undefined && lineOf(items[of(b)]) === line, "lit", "line");
  else {
    mark((b) => b.dataset.key === group || within(placed.boxes.find((p) => p.key === b.dataset.key)?.group, group), "lit");
    for (const g of world.querySelectorAll(".group")) g.classList.toggle("self", g.dataset.group === group);
    for (const w of wires) if (byKey.get(w.dataset.from)?.classList.contains("lit") && byKey.get(w.dataset.to)?.classList.contains("lit")) w.classList.add("lit");
  }
}

const groupNamed = (key) => placed.groups.find((g) => g.key === key);
function within(group, outer) {
  for (let g = group; g; g = groupNamed(g)?.parent) if (g === outer) return true;
  return false;
}

function choose(chosen, centre = false) {
  state.chosen = chosen;
  if (chosen?.item !== undefined && !placed.boxes.some((b) => b.item === chosen.item)) unfold(chosen.item);
  else if (placed.partial && chosen?.item !== undefined) show(true);
  light();
  tell();
  const box = placed.boxes.find((b) => b.item === chosen?.item);
  if (centre && box && chosen.item !== undefined) camera.centre(box.x, box.y);
}

// An operation has its nodes in another stage, and a node its operation.
function visit(item) {
  state.stage = data.stages.findIndex((s) => s.has.has(item));
  state.chosen = { item };
  show();
  choose({ item }, true);
}

function unfold(item) {
  const full = boxesOf(stage()), folded = state.folded.get(`${state.run} ${stage().name}`);
  const box = [...full.boxes.values()].find((b) => b.item === item);
  for (let g = box?.group; g; g = full.groups.get(g).parent) folded.delete(g);
  show(true);
}

function fold(group) {
  const folded = state.folded.get(`${state.run} ${stage().name}`);
  if (!folded.delete(group)) folded.add(group);
  show();
}

// ------------------------------------------------------------------ the panel

const lineOf = (item) => item.where.file ? `${item.where.file}:${item.where.line}` : "";
const textOf = (i) => { const { title, more, under } = labelOf(items[i]); return [title, more || (items[i].name ? "" : under)].filter(Boolean).join(" "); };
const link = (i, kind = "") => `<button class="${kind}" data-item="${i}"><span class="dot ${items[i].kind}"></span>${safe(textOf(i))}</button>`;
const links = (list, kind) => `<div class="links">${list.map((i) => link(i, kind)).join("")}</div>`;
const section = (title, body) => body ? `<h3>${title}</h3>${body}` : "";
const facts = (rows) => `<dl>${rows.filter(([, v]) => v).map(([k, v]) => `<dt>${k}</dt><dd data-fact="${k}">${v}</dd>`).join("")}</dl>`;

function tell() {
  const { item, group } = state.chosen ?? {};
  panel.innerHTML = item !== undefined ? aboutItem(item) : group !== undefined ? aboutGroup(group) : aboutStage();
  panel.scrollTop = 0;
  for (const b of panel.querySelectorAll("[data-item]")) b.onclick = () => b.classList.contains("there") ? visit(Number(b.dataset.item)) : choose({ item: Number(b.dataset.item) }, true);
  for (const b of panel.querySelectorAll("[data-line]")) b.onclick = () => choose(state.chosen?.line === b.dataset.line ? null : { line: b.dataset.line });
  for (const b of panel.querySelectorAll("[data-group]")) b.onclick = () => choose({ group: b.dataset.group });
  for (const b of panel.querySelectorAll("[data-stage]")) b.onclick = () => { go(stages().findIndex((s) => s.name === b.dataset.stage)); };
}

function aboutItem(i) {
  const item = items[i], now = stage(), { title, more } = labelOf(item);
  const users = now.items.filter((u) => items[u].inputs.includes(i));
  const number = item.nodes || item.kind === "result" ? "" : `%${now.number.get(i)}`;
  return `<h2>${safe(title)} ${more ? `<code>${safe(more)}</code>` : ""}</h2><span class="chip dot ${item.kind}">${item.kind}</span>`
    + facts([["op", safe(item.op)], ["shape", safe(item.shape)], ["dtype", safe(item.dtype)], ["name", safe(item.name)], ["label", item.label === item.name ? "" : safe(item.label ?? "")], ["number", number],
      ["attributes", item.name === item.attributes ? "" : safe(item.attributes)], ])
    + section("Of the operation", item.operation === undefined ? "" : links([item.operation], "there"))
    + section("User code", item.where.file ? `<p data-fact="line">${safe(lineOf(item))}</p><pre class="one">${safe(item.where.code)}</pre>` : "")
    + section("Inputs", item.inputs.length ? links(item.inputs) : "")
    + section("Used by", users.length ? links(users) : "")
    + section("Made of", item.nodes?.length ? links(item.nodes, "there") : "")
    + gradientText(i) + kernelText(now.kernels.filter((k) => k.items.includes(i)));
}

function gradientText(i) {
  const item = items[i], { value, made } = gradientIn(i, stage());
  const sources = [...new Set((gradientOf.get(i) ?? []).map((o) => follow(o, data.stages.at(-1), stage())))].filter((o) => o !== undefined && o !== i);
  let text = item.row.length ? `<p>The row of <code>${safe(item.op)}</code> brings, of g, the gradient of its output y:</p><pre data-fact="row">${safe(item.row.join("\n"))}</pre>` : "";
  const below = item.nodes ? [...new Set(item.nodes.flatMap((n) => items[n].gradient ? [items[n].gradient.value, ...items[n].gradient.made] : []))] : [];
  if (below.length) text += `<p>In the graph of nodes its gradient is made of</p>${links(below, "gradient there")}`;
  else if (value !== undefined) text += `<p>In this graph its gradient is</p>${links([value], "gradient")}`;
  if (made.length && !item.nodes) text += `<p>and to pass it on, these nodes were made:</p>${links(made, "gradient")}`;
  if (sources.length) text += `<p>It was made for the gradient of</p>${links(sources)}`;
  return section("Gradient", text);
}

// Long lines of loops break, and what is broken off stands further in than its line.
const loopsText = (text) => text.split("\n").map((line) => {
  const depth = line.length - line.trimStart().length;
  return `<span style="padding-left:${depth + 2}ch">${safe(line.trim()) || "&nbsp;"}</span>`;
}).join("");

const kernelBody = (k) => `<pre class="loops" data-fact="loops">${loopsText(k.loops)}</pre><details><summary>LLVM IR</summary><pre>${safe(data.texts[k.ir])}</pre></details>`;

function kernelText(kernels) {
  return kernels.map((k) => section("Kernel", `<div class="links"><button data-group="kernel ${stage().kernels.indexOf(k)}">${safe(k.name)}</button></div>${kernelBody(k)}`)).join("");
}

function aboutGroup(key) {
  const group = groupNamed(key) ?? placed.boxes.find((b) => b.key === key)?.folded;
  if (!group) return aboutStage();
  const inside = group.kernel ? group.kernel.items : stage().items.filter((i) => items[i].name === key || items[i].name.startsWith(`${key}/`));
  return `<h2>${safe(group.kernel ? group.name : key)}</h2><p>${group.kernel ? "A kernel" : "A name scope"} of ${inside.length} nodes</p>`
    + (group.kernel ? section("Loops", kernelBody(group.kernel)) : "") + section("Nodes", links(inside.slice(0, 200)));
}

function aboutStage() {
  const now = stage(), lines = new Map();
  for (const i of now.items) if (lineOf(items[i])) lines.set(lineOf(items[i]), { ...items[i].where, count: (lines.get(lineOf(items[i]))?.count ?? 0) + 1 });
  const files = [...new Set([...lines.values()].map((l) => l.file))];
  const code = files.map((file) => `<p>${safe(file)}</p><div class="rows">${[...lines].filter(([, l]) => l.file === file).sort(([, a], [, b]) => a.line - b.line)
    .map(([key, l]) => `<button data-line="${safe(key)}" class="${state.chosen?.line === key ? "on" : ""}" title="${safe(l.code)}"><span>${String(l.line).padStart(3)}  ${safe(l.code)}</span><small>${l.count}</small></button>`).join("")}</div>`);
  const kernels = now.kernels.map((k, n) => `<button data-group="kernel ${n}"><span>${safe(k.name)}</span><small>${k.items.length}</small></button>`).join("");
  return `<h2>${safe(now.name)}</h2><p>${safe(now.note)}</p>`
    + section("Kernels", kernels && `<div class="rows">${kernels}</div>`)
    + section(`User code, and how many ${now.name === "operations" ? now.name : "nodes"} each line made`, code.join(""))
    + section("Keys", `<div class="keys"><span><kbd>/</kbd></span>search<span><kbd>1</kbd> … <kbd>9</kbd></span>the stages<span><kbd>↑</kbd> <kbd>↓</kbd></span>to an input, to a user
      <span><kbd>f</kbd> <kbd>+</kbd> <kbd>−</kbd></span>fit, zoom<span><kbd>Esc</kbd></span>let go</div>`);
}

// ------------------------------------------------------------------ search

function matches(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const score = (i) => {
    const item = items[i], name = item.name.toLowerCase(), op = item.op.toLowerCase();
    const all = [name, op, item.label, item.attributes, item.dtype, item.shape, item.where.code].join(" ").toLowerCase();
    if (!words.every((w) => all.includes(w))) return 0;
    return name === text ? 5 : op === text ? 4 : name.startsWith(words[0]) ? 3 : op.startsWith(words[0]) ? 2 : 1;
  };
  return stage().items.map((i) => [score(i), i]).filter(([s]) => s).sort(([a], [b]) => b - a).map(([, i]) => i);
}

function find() {
  const text = $("search").value.trim(), all = text ? matches(text) : [], some = all.slice(0, 30);
  state.at = some.length ? Math.min(Math.max(state.at, 0), some.length - 1) : -1;
  $("found").hidden = !text;
  $("found").innerHTML = (some.map((i, k) => `<li data-item="${i}" class="${k === state.at ? "at" : ""}"><span class="dot ${items[i].kind}"></span>${safe(textOf(i))}<code>${safe(lineOf(items[i]).split("/").pop())} ${safe(items[i].where.code)}</code></li>`).join("")
    || `<li class="none">nothing here is called so</li>`) + (all.length > some.length ? `<li class="none">and ${all.length - some.length} more</li>` : "");
  for (const li of $("found").querySelectorAll("[data-item]")) li.onpointerdown = (e) => { e.preventDefault(); take(Number(li.dataset.item)); };
  $("found").querySelector(".at")?.scrollIntoView({ block: "nearest" });
}

function take(item) {
  $("found").hidden = true;
  $("search").blur();
  choose({ item }, true);
}

$("search").oninput = () => { state.at = 0; find(); };
$("search").onfocus = find;
$("search").onblur = () => { $("found").hidden = true; };
$("search").onkeydown = (e) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
  if (step) { e.preventDefault(); state.at += step; find(); }
  if (e.key === "Enter") { const at = $("found").querySelector(".at"); if (at) take(Number(at.dataset.item)); }
  if (e.key === "Escape") { $("search").value = ""; $("search").blur(); }
  e.stopPropagation();
};

// ------------------------------------------------------------------ mouse and keys

svg.addEventListener("click", (e) => {
  if (camera.moved) return;
  const box = e.target.closest(".box"), group = e.target.closest(".group");
  if (e.target.classList.contains("fold")) fold(group?.dataset.group ?? box.dataset.key);
  else if (box?.dataset.item !== undefined) choose({ item: Number(box.dataset.item) });
  else if (box) choose({ group: box.dataset.key });
  else choose(group ? { group: group.dataset.group } : null);
});
svg.addEventListener("dblclick", (e) => {
  const box = e.target.closest(".box.folded");
  if (box) fold(box.dataset.key);
});
for (const b of $("zoom").children) b.onclick = () => DO[b.dataset.do]();

const DO = { in: () => camera.zoom(1.3), out: () => camera.zoom(1 / 1.3), fit: () => camera.fit(placed, "fly") };
const step = (to) => { if (to !== undefined) choose({ item: to }, true); };
const KEYS = {
  "/": () => { $("search").focus(); $("search").select(); },
  Escape: () => choose(null), f: DO.fit, 0: DO.fit, "+": DO.in, "=": DO.in, "-": DO.out,
  ArrowUp: () => step(items[state.chosen?.item]?.inputs.find((i) => stage().has.has(i))),
  ArrowDown: () => step(stage().items.find((u) => state.chosen?.item !== undefined && items[u].inputs.includes(state.chosen.item))),
  Enter: () => { const box = document.activeElement?.closest(".box"); if (box?.dataset.item) choose({ item: Number(box.dataset.item) }); else if (box) fold(box.dataset.key); },
};
addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches("input, select")) return;
  const act = KEYS[e.key] ?? (/^[1-9]$/.test(e.key) ? () => go(Number(e.key) - 1) : undefined);
  if (act && (e.key !== "Enter" || e.target.closest(".box"))) { e.preventDefault(); act(); }
});

$("title").textContent = data.title;
$("runs").hidden = data.runs.length < 2;
$("run").replaceChildren(...data.runs.map((r, k) => new Option(r.name, k)));
$("run").onchange = () => {
  const name = stage().name;
  state.run = Number($("run").value);
  state.part = true;
  state.chosen = null;
  state.stage = Math.max(stages().findIndex((s) => s.name === name), 0);
  show();
};
addEventListener("resize", () => camera.fit(placed));
show();
