// profile: one run of a program: when each thread did what, what memory was for, and what every kernel is.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const LEFT = 74, LANE = 30, MEMORY = 340; // room for names, a thread's height, the arena's height
const state = { program: 0, chosen: null, from: 0, to: 1 }; // the part of the run that the timeline shows

const program = () => data.programs[state.program];
const us = (ns) => (ns / 1e3).toLocaleString("en", { maximumFractionDigits: 1 });
const size = (bytes) => bytes < 1e4 ? `${bytes} bytes` : bytes < 1e7 ? `${(bytes / 1e3).toFixed(0)} KB` : `${(bytes / 1e6).toFixed(1)} MB`;
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
const rate = (amount, ns) => ns ? (amount / ns).toFixed(1) : "";

// Text from a program is text, never markup.
function make(tag, facts = {}, ...inside) {
  const node = /^(g|rect|text|line|path)$/.test(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(facts)) name === "style" ? node.style.setProperty("--hue", value) : node.setAttribute(name, value);
  node.append(...inside);
  return node;
}

// ------------------------------------------------------------------ the timeline

function timeline() {
  const svg = $("timeline"), now = program(), wide = svg.clientWidth - LEFT - 8, span = state.to - state.from;
  svg.style.height = `${now.threads * LANE + 28}px`;
  const x = (ns) => LEFT + (ns / now.ns - state.from) / span * wide;
  const parts = [];
  for (const ns of ticks(state.from * now.ns, state.to * now.ns)) {
    parts.push(make("line", { class: "tick", x1: x(ns), x2: x(ns), y1: 0, y2: now.threads * LANE + 6 }));
    parts.push(make("text", { x: x(ns) + 3, y: now.threads * LANE + 20 }, `${us(ns)} us`));
  }
  now.kernels.forEach((k, i) => {
    for (const [thread, start, end] of k.spans) {
      const [a, b] = [Math.max(x(start), LEFT), Math.min(x(end), LEFT + wide)];
      if (b < LEFT || a > LEFT + wide) continue;
      const place = { x: a, y: thread * LANE + 4, width: Math.max(b - a, 0.6), height: LANE - 6, class: "span", style: hue(i), "data-kernel": i, "data-thread": thread };
      parts.push(make("rect", place));
      if (b - a > 8 * k.name.length + 6) parts.push(make("text", { class: "on", x: a + 4, y: thread * LANE + LANE / 2 + 5 }, k.name));
    }
  });
  for (let t = 0; t < now.threads; t++) parts.push(make("text", { class: "on", x: 10, y: t * LANE + LANE / 2 + 5 }, `thread ${t}`));
  svg.replaceChildren(...parts);
}

const hue = (i) => 47 * program().kernels[i].text % 360; // equal kernels have one colour

function ticks(from, to) {
  const rough = (to - from) / 6, unit = 10 ** Math.floor(Math.log10(rough || 1)), step = [1, 2, 5, 10].find((m) => m * unit >= rough) * unit;
  return Array.from({ length: Math.floor(to / step) - Math.ceil(from / step) + 1 }, (_, k) => (Math.ceil(from / step) + k) * step);
}

function zoom(factor, at) {
  const span = Math.min(1, Math.max(1e-5, (state.to - state.from) * factor)), where = state.from + at * (state.to - state.from);
  move(where - at * span, span);
}

function move(from, span = state.to - state.from) {
  state.from = Math.min(Math.max(from, 0), 1 - span);
  state.to = state.from + span;
  timeline();
  light();
}

$("timeline").addEventListener("wheel", (e) => {
  e.preventDefault();
  const box = $("timeline").getBoundingClientRect();
  zoom(e.deltaY > 0 ? 1.25 : 0.8, Math.min(Math.max((e.clientX - box.left - LEFT) / (box.width - LEFT - 8), 0), 1));
}, { passive: false });

let drag = null;
$("timeline").addEventListener("pointerdown", (e) => { drag = { x: e.clientX, from: state.from, moved: false }; });
addEventListener("pointermove", (e) => {
  if (!drag) return;
  const wide = $("timeline").clientWidth - LEFT - 8, by = (drag.x - e.clientX) / wide * (state.to - state.from);
  drag.moved ||= Math.abs(drag.x - e.clientX) > 3;
  if (drag.moved) move(drag.from + by);
});
addEventListener("pointerup", () => setTimeout(() => { drag = null; }));

// ------------------------------------------------------------------ the arena

function memory() {
  const svg = $("memory"), now = program(), wide = svg.clientWidth - LEFT - 8, steps = Math.max(now.kernels.length, 1), all = Math.max(now.bytes, 1);
  svg.style.height = `${MEMORY + 28}px`;
  const x = (step) => LEFT + step / steps * wide, y = (bytes) => 6 + MEMORY * (1 - bytes / all);
  const parts = [0, 0.25, 0.5, 0.75, 1].flatMap((part) => [
    make("line", { class: "tick", x1: LEFT, x2: LEFT + wide, y1: y(part * all), y2: y(part * all) }),
    make("text", { x: 6, y: y(part * all) + (part === 1 ? 10 : 4) }, size(part * all)),
  ]);
  now.memory.forEach((m, i) => {
    const place = { x: x(m.first), width: x(m.last + 1) - x(m.first), y: y(m.end), height: y(m.start) - y(m.end), class: "life", style: 137 * i % 360, "data-buffer": i };
    parts.push(make("rect", place));
    if (place.width > 7 * m.label.length && place.height > 12) parts.push(make("text", { class: "on", x: place.x + 3, y: place.y + place.height / 2 + 4 }, m.label));
  });
  const live = now.kernels.map((_, k) => now.memory.reduce((sum, m) => sum + (m.first <= k && k <= m.last ? m.end - m.start : 0), 0));
  parts.push(make("path", { class: "live", d: live.map((n, k) => `${k ? "L" : "M"}${x(k)} ${y(n)}L${x(k + 1)} ${y(n)}`).join("") }));
  parts.push(make("text", { x: LEFT, y: MEMORY + 22 }, `step 0 to ${steps - 1}; the line is what is alive: at most ${size(Math.max(0, ...live))} of ${size(now.bytes)}`));
  svg.replaceChildren(...parts);
}

// ------------------------------------------------------------------ the kernels

function kernels() {
  const now = program(), order = now.kernels.map((_, k) => k).sort((a, b) => now.kernels[b].ns - now.kernels[a].ns);
  $("kernels").tBodies[0].replaceChildren(...order.map((i) => {
    const k = now.kernels[i], cells = [k.name, k.ns ? us(k.ns) : "skipped", percent(k.ns / now.ns), rate(k.flops, k.ns), rate(k.bytes, k.ns), percent(k.share), k.label, k.where];
    return make("tr", { "data-kernel": i, tabindex: 0 }, ...cells.map((text) => make("td", {}, text)));
  }));
}

function choose(i) {
  const k = program().kernels[i], panel = $("panel");
  state.chosen = i;
  if (i === null) {
    panel.replaceChildren(make("h2", {}, "kernels"), make("p", {}, "Click a kernel in the timeline or in the list, or a buffer in the memory."));
  } else {
    const facts = {
      time: k.ns ? `${us(k.ns)} us, ${percent(k.ns / program().ns)} of the run` : "skipped", line: k.where, arithmetic: `${(k.flops / 1e6).toFixed(2)} MFLOP, ${rate(k.flops, k.ns)} GFLOP/s`,
      memory: `${size(k.bytes)}, ${rate(k.bytes, k.ns)} GB/s`, floor: `${percent(k.share)} of ${(data.floors.flops / 1e9).toFixed(0)} GFLOP/s and ${(data.floors.bytes / 1e9).toFixed(1)} GB/s`,
    };
    const list = make("dl", {}, ...Object.entries(facts).flatMap(([name, text]) => [make("dt", {}, name), make("dd", { "data-fact": name }, text)]));
    const loops = k.loops || "The program was compiled before the flag PROFILE was set.";
    panel.replaceChildren(
      make("h2", {}, make("code", {}, k.name)), make("p", {}, k.label), list,
      make("h3", {}, "loops"), make("pre", { class: "loops", "data-fact": "loops" }, ...loops.split("\n").map((line) => make("span", {}, line))),
      make("h3", {}, "machine code"), make("pre", { "data-fact": "code" }, data.texts[k.text]),
    );
  }
  light();
}

function light() {
  for (const part of document.querySelectorAll("[data-kernel]")) part.classList.toggle("self", Number(part.dataset.kernel) === state.chosen);
  program().memory.forEach((m, i) => $("memory").querySelector(`[data-buffer="${i}"]`).classList.toggle("self", m.first === state.chosen));
}

function hint(target) {
  const now = program(), { kernel, thread, buffer } = target.dataset;
  if (buffer !== undefined) {
    const m = now.memory[buffer];
    return `${m.label}: ${size(m.end - m.start)} at ${size(m.start)}, steps ${m.first} to ${m.last}\n${m.where}`;
  }
  const [, start, end] = now.kernels[kernel].spans.find(([t]) => t === Number(thread));
  return `${now.kernels[kernel].name} on thread ${thread}: ${us(end - start)} us from ${us(start)}\n${now.kernels[kernel].label}`;
}

document.addEventListener("pointerover", (e) => {
  const target = e.target.closest(".span, .life");
  $("hint").hidden = !target;
  if (!target) return;
  $("hint").textContent = hint(target);
  $("hint").style.left = `${Math.min(e.clientX + 14, innerWidth - 320)}px`;
  $("hint").style.top = `${e.clientY + 16}px`;
});
document.addEventListener("click", (e) => {
  const target = e.target.closest("[data-kernel], [data-buffer]");
  if (!target || drag?.moved) return;
  choose(target.dataset.buffer === undefined ? Number(target.dataset.kernel) : program().memory[target.dataset.buffer].first);
});
document.addEventListener("keydown", (e) => {
  if (e.key === "Escape") choose(null);
  if (e.key === "Enter" && e.target.dataset?.kernel !== undefined) choose(Number(e.target.dataset.kernel));
});

// ------------------------------------------------------------------ a program

function show(which) {
  Object.assign(state, { program: which, from: 0, to: 1 });
  const now = program();
  $("facts").textContent = `${us(now.ns)} us · ${now.kernels.length} kernels · ${now.threads} threads · ${size(now.bytes)} of temporaries`;
  timeline();
  memory();
  kernels();
  choose(null);
}

$("title").textContent = data.title;
$("program").append(...data.programs.map((p, k) => make("option", { value: k }, `${p.runs} × ${us(p.total / p.runs)} us: ${p.kernels.length} kernels`)));
$("program").addEventListener("change", () => show(Number($("program").value)));
addEventListener("resize", () => { timeline(); memory(); light(); });
show(0);
