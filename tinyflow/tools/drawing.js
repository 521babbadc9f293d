// drawing: from a stage to boxes, from boxes to places (dagre's work), from places to SVG; and the camera above it.
//
//   box   := key, item, group                one thing drawn; an item has several where it is computed several times
//   group := key, name, parent, kernel?      a kernel, or a name scope; folded, it is drawn as one box
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const items = data.items;
const MOST = 400; // boxes laid out at once: beyond it layout takes seconds, and nobody can read it
const SOME = 40; // boxes: from here on variables begin folded
const MANY = 90; // boxes: from here on long wires are drawn straight
const FAR = 8; // rows: a wire across more of them is long
const NEAR = 120; // of a larger graph, this many around the chosen node
const LEGIBLE = 0.6; // the scale below which nobody reads a label
const svgNS = "http://www.w3.org/2000/svg";
const ruler = document.createElement("canvas").getContext("2d");

function element(name, attributes = {}, ...children) {
  const made = document.createElementNS(svgNS, name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined && value !== false) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function widthOf(text, font) {
  ruler.font = font;
  return ruler.measureText(text).width;
}

// ------------------------------------------------------------------ boxes and groups

// A constant, stretched or not, is drawn as one pill beside each of its users, and a node in each kernel that computes it:
// long wires say nothing.
function boxesOf(stage) {
  const boxes = new Map(), groups = new Map(), wires = new Map();
  const box = (key, item, group) => boxes.set(key, { key, item, group });
  const makers = new Map(); // item -> the box that its value is read from, outside its own kernel
  stage.kernels.forEach((kernel, k) => {
    groups.set(`kernel ${k}`, { key: `kernel ${k}`, name: kernel.name, kernel });
    for (const item of kernel.items) {
      box(`${k}/${item}`, item, `kernel ${k}`);
      if (!makers.has(item) || kernel.stores.includes(item)) makers.set(item, `${k}/${item}`);
    }
  });
  for (const item of stage.items) if (!makers.has(item)) { box(`${item}`, item, scopeOf(items[item], groups, stage)); makers.set(item, `${item}`); }
  const users = new Map();
  for (const b of boxes.values()) for (const x of items[b.item].inputs) users.set(x, (users.get(x) ?? 0) + 1);
  for (const b of [...boxes.values()]) {
    items[b.item].inputs.forEach((x, k) => {
      let from = b.key.includes("/") && boxes.has(`${b.key.split("/")[0]}/${x}`) ? `${b.key.split("/")[0]}/${x}` : makers.get(x);
      if (from === undefined) return;
      if (isConstant(items[b.item])) return; // its number stands in its pill
      if (isConstant(items[x]) && users.get(x) > 1 && !stage.kernels.length) {
        boxes.delete(`${x}`);
        from = `${x}@${b.key}`;
        box(from, x, b.group);
      }
      wires.set(`${from}>${b.key}`, { from, to: b.key, item: x, ordering: items[b.item].ordering.includes(k) });
    });
  }
  const read = new Set([...wires.values()].map((w) => w.from));
  for (const b of [...boxes.values()]) if (isNumber(items[b.item]) && users.has(b.item) && !read.has(b.key)) boxes.delete(b.key);
  return { boxes, groups, wires: [...wires.values()] };
}

const isNumber = (item) => item.op === "constant" || item.op === "size";
const isConstant = (item) => isNumber(item) || (item.op === "expand" && isNumber(items[item.inputs[0]])); // a number of any shape

// "layer/weights/read" lies in the scope layer/weights, in layer. An operation that has a scope of its own name lies in it.
// A scope of two is none: it would be the operation and its number.
function scopeOf(item, groups, stage) {
  if (stage.name !== "operations") return undefined;
  const scope = stage.scopes.get(item.name) > 1 ? item.name : item.name.split("/").slice(0, -1).join("/");
  if (!(stage.scopes.get(scope) > 1)) return undefined;
  let parent;
  for (const part of scope ? scope.split("/") : []) {
    const key = parent ? `${parent}/${part}` : part;
    if (!groups.has(key)) groups.set(key, { key, name: part, parent });
    parent = key;
  }
  return parent;
}

// Folded groups become one box each, wires end at them, and wires inside them go.
function foldGroups({ boxes, groups, wires }, folded) {
  const outermost = (group) => {
    let found;
    for (let g = group; g; g = groups.get(g).parent) if (folded.has(g)) found = g;
    return found;
  };
  const drawn = new Map(), stands = new Map();
  for (const b of boxes.values()) {
    const group = outermost(b.group);
    stands.set(b.key, group ?? b.key);
    if (!group) drawn.set(b.key, b);
    else if (!drawn.has(group)) drawn.set(group, { key: group, folded: groups.get(group), group: groups.get(group).parent, inside: [b.item] });
    else drawn.get(group).inside.push(b.item);
  }
  const kept = new Map();
  for (const w of wires) {
    const from = stands.get(w.from), to = stands.get(w.to);
    if (from !== to) kept.set(`${from}>${to}`, { ...w, from, to, ordering: w.ordering && (kept.get(`${from}>${to}`)?.ordering ?? true) });
  }
  return { boxes: drawn, groups, wires: [...kept.values()] };
}

// Of a graph too large to read: what lies nearest to one box, along wires in both directions.
function neighbourhood({ boxes, groups, wires }, centre) {
  const beside = new Map([...boxes.keys()].map((key) => [key, []]));
  for (const { from, to } of wires) { beside.get(from).push(to); beside.get(to).push(from); }
  const near = new Set([centre]);
  for (const key of near) { // a set grows while it is walked: breadth first
    for (const other of beside.get(key)) if (near.size < NEAR) near.add(other);
  }
  return { boxes: new Map([...boxes].filter(([key]) => near.has(key))), groups, wires: wires.filter((w) => near.has(w.from) && near.has(w.to)) };
}

// ------------------------------------------------------------------ what a box says

const times = (shape) => shape === "()" ? "scalar" : shape.replace(/[(),]+/g, " ").trim().split(/\s+/).join(" × ");

function sizeText(item) {
  const type = item.dtype && item.dtype !== "float32" ? `${item.dtype} ` : "";
  return item.shape ? type + times(item.shape) : item.dtype;
}

function labelOf(item) {
  if (item.nodes) {
    const title = item.name.split("/").pop();
    if (item.attributes && item.shape === "()") return { title: item.attributes, more: /^(const|x|y)(_\d+)?$/i.test(title) ? "" : title, under: "" };
    const op = title.toLowerCase().replace(/_\d+$/, "") === item.op.toLowerCase() ? "" : item.op; // MatMul_1 says that it is a MatMul
    return { title, more: "", under: [op, item.attributes, sizeText(item)].filter(Boolean).join(" · ") };
  }
  if (item.kind === "result") return { title: item.name, more: "", under: `${item.op} · ${sizeText(item)}` };
  if (isConstant(item)) {
    const number = isNumber(item) ? item : items[item.inputs[0]];
    return { title: number.attributes.replace(/^size=/, ""), more: number === item ? "" : sizeText(item), under: "" };
  }
  if (item.name) return { title: item.name, more: "", under: `${item.op} · ${sizeText(item)}` };
  if (item.kind === "movement") return { title: item.op, more: sizeText(item), under: "" }; // costs nothing: one line
  const more = item.attributes.length > 26 ? `${item.attributes.slice(0, 25)}…` : item.attributes;
  return { title: item.op, more: more.replace("->", "→"), under: sizeText(item) };
}

function measured(box) {
  const head = box.folded && items[box.inside.find((i) => items[i].name === box.key)]; // the operation that a scope is called after
  const count = box.folded && `${new Set(box.inside).size} nodes`;
  const label = box.folded ? { title: box.folded.name, more: "", under: head ? `${sizeText(head)} · ${count}` : count } : labelOf(items[box.item]);
  const title = widthOf(label.title, "600 13px system-ui") + (label.more ? 7 + widthOf(label.more, "11.5px monospace") : 0);
  const width = Math.max(title, widthOf(label.under, "11.5px system-ui")) + 26;
  const kind = box.folded ? head?.kind ?? "result" : items[box.item].kind;
  return { ...box, label, kind, width: Math.max(width, label.under ? 72 : 34) + (box.folded ? 14 : 0), height: label.under ? 44 : 26 };
}

// ------------------------------------------------------------------ places

// Layout is slow where wires cross many rows, as those from a forward pass to its gradient do. A long wire that repeats a
// path through other boxes says nothing of where its ends belong: dagre never sees it, and it is drawn straight and faint.
function farWires(boxes, wires) {
  const below = new Map([...boxes.keys()].map((key) => [key, []])), row = new Map();
  for (const w of wires) below.get(w.from).push(w.to);
  const above = new Map([...boxes.keys()].map((key) => [key, 0]));
  for (const w of wires) above.set(w.to, above.get(w.to) + 1);
  const ready = [...above].filter(([, n]) => !n).map(([key]) => key);
  for (const key of ready) { // grows while it is walked: in topological order
    for (const to of below.get(key)) {
      row.set(to, Math.max(row.get(to) ?? 0, (row.get(key) ?? 0) + 1));
      above.set(to, above.get(to) - 1);
      if (!above.get(to)) ready.push(to);
    }
  }
  const span = (w) => (row.get(w.to) ?? 0) - (row.get(w.from) ?? 0);
  const repeats = ({ from, to }) => {
    const seen = new Set(), stack = below.get(from).filter((key) => key !== to);
    while (stack.length) {
      const key = stack.pop();
      if (key === to) return true;
      if (!seen.has(key) && (row.get(key) ?? 0) < row.get(to)) { seen.add(key); stack.push(...below.get(key)); }
    }
    return false;
  };
  return new Set(wires.filter((w) => span(w) > FAR && repeats(w)));
}

function place({ boxes, groups, wires }) {
  const g = new dagre.graphlib.Graph({ compound: true }).setDefaultEdgeLabel(() => ({}));
  g.setGraph({ rankdir: "TB", nodesep: 22, ranksep: 28, edgesep: 14 });
  for (const box of boxes.values()) g.setNode(box.key, measured(box));
  for (const box of boxes.values()) {
    let child = box.key, group = box.group;
    while (group && g.parent(child) !== `group ${group}`) {
      if (!g.hasNode(`group ${group}`)) g.setNode(`group ${group}`, { ...groups.get(group), isGroup: true });
      g.setParent(child, `group ${group}`);
      [child, group] = [`group ${group}`, groups.get(group).parent];
    }
  }
  const far = boxes.size > MANY ? farWires(boxes, wires) : new Set();
  for (const w of wires) if (!far.has(w)) g.setEdge(w.from, w.to, { ...w });
  dagre.layout(g);
  const all = g.nodes().map((key) => g.node(key));
  const depth = (group) => { let d = 0; for (let at = group; at.parent; at = groups.get(at.parent)) d++; return d; };
  const placed = {
    boxes: all.filter((n) => !n.isGroup),
    groups: all.filter((n) => n.isGroup).sort((a, b) => depth(a) - depth(b)), // outer ones are drawn first
    wires: [...g.edges().map((e) => g.edge(e)), ...[...far].map((w) => ({ ...w, far: true, points: [] }))],
    width: Math.max(g.graph().width, 1), height: Math.max(g.graph().height, 1), // of nothing, dagre says -Infinity
  };
  mirrored(placed);
  frame(placed);
  dock(placed);
  return placed;
}

// A group's frame goes round what is in it, with room for its name; dagre's own frame has none.
function frame({ boxes, groups }) {
  for (const group of [...groups].reverse()) { // inner ones first
    const inside = [...boxes.filter((b) => b.group === group.key), ...groups.filter((g) => g.parent === group.key)];
    const side = (sign, length) => (b) => (length === "width" ? b.x : b.y) + sign * b[length] / 2;
    const left = Math.min(...inside.map(side(-1, "width"))) - 12, right = Math.max(...inside.map(side(1, "width"))) + 12;
    const top = Math.min(...inside.map(side(-1, "height"))) - 27, bottom = Math.max(...inside.map(side(1, "height"))) + 11;
    const width = Math.max(right - left, widthOf(group.name, "600 11.5px monospace") + 48);
    Object.assign(group, { x: (left + right) / 2, y: (top + bottom) / 2, width, height: bottom - top });
  }
}

// Wires leave below a box and enter above one, side by side in the order in which they come.
function dock({ boxes, wires }) {
  const at = new Map(boxes.map((b) => [b.key, b])), ends = new Map();
  for (const w of wires) {
    // dagre's first and last corners lie close before the boxes and would make sharp bends: they are left out
    w.points = [at.get(w.from), ...w.points.slice(2, -2), at.get(w.to)].map(({ x, y }) => ({ x, y }));
    for (const [key, end, next, side] of [[`from ${w.from}`, w.points[0], w.points[1], 1], [`to ${w.to}`, w.points.at(-1), w.points.at(-2), -1]]) {
      const box = at.get(side > 0 ? w.from : w.to);
      end.y += side * box.height / 2;
      ends.set(key, [...(ends.get(key) ?? []), { end, next, box, side }]);
    }
  }
  for (const list of ends.values()) {
    const gap = Math.min(16, (list[0].box.width - 22) / list.length);
    list.sort((a, b) => a.next.x - b.next.x).forEach(({ end }, k) => { end.x += list[0].side > 0 ? 0 : (k - (list.length - 1) / 2) * gap; });
  }
}

// dagre does not mind in which order the operands of a box stand; a reader does. The mirror image may have more right.
function mirrored({ boxes, groups, wires, width }) {
  const x = new Map(boxes.map((b) => [b.key, b.x]));
  let right = 0;
  for (const b of boxes) {
    const from = b.item === undefined ? [] : items[b.item].inputs.map((i) => wires.find((w) => w.to === b.key && w.item === i)?.from).filter(Boolean);
    for (let k = 1; k < from.length; k++) right += Math.sign(x.get(from[k]) - x.get(from[k - 1]));
  }
  if (right < 0) for (const place of [...boxes, ...groups, ...wires.flatMap((w) => w.points)]) place.x = width - place.x;
}

// A smooth line through the corners, vertical at each of them.
function path(points) {
  const at = (x, y) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  let d = `M${at(points[0].x, points[0].y)}`;
  for (let k = 1; k < points.length; k++) {
    const [p, q] = [points[k - 1], points[k]], middle = (p.y + q.y) / 2;
    d += Math.abs(p.x - q.x) < 0.5 ? `L${at(q.x, q.y)}` : `C${at(p.x, middle)} ${at(q.x, middle)} ${at(q.x, q.y)}`;
  }
  return d;
}

// ------------------------------------------------------------------ SVG

function drawBox(box, isNew) {
  const y = box.label.under ? -4 : 4.5;
  const title = element("text", { "text-anchor": "middle", y });
  title.append(box.label.title);
  if (box.label.more) title.append(element("tspan", { class: "more", dx: 7 }, box.label.more));
  const made = element("g", {
    class: `box ${box.kind}${box.folded ? " folded" : ""}`, "data-key": box.key, "data-item": box.item,
    transform: `translate(${box.x.toFixed(1)} ${box.y.toFixed(1)})`, tabindex: 0, role: "button", "aria-label": [box.label.title, box.label.more, box.label.under].filter(Boolean).join(" "),
  }, element("rect", { x: -box.width / 2, y: -box.height / 2, width: box.width, height: box.height, rx: box.label.under ? 9 : 13 }), title);
  if (box.label.under) made.append(element("text", { class: "under", "text-anchor": "middle", y: 13 }, box.label.under));
  if (box.folded) made.append(element("text", { class: "fold", x: box.width / 2 - 15, y: -box.height / 2 + 15 }, element("title", {}, "unfold"), "+"));
  if (isNew) made.append(element("circle", { class: "new", cx: box.width / 2 - 3, cy: -box.height / 2 + 3, r: 4.5 }, element("title", {}, "new in this stage")));
  return made;
}

function drawGroup(group) {
  const left = group.x - group.width / 2, top = group.y - group.height / 2;
  return element("g", { class: `group${group.kernel ? " kernel" : ""}`, "data-group": group.key },
    element("rect", { x: left, y: top, width: group.width, height: group.height, rx: 12 }),
    element("text", { x: left + 12, y: top + 17 }, group.name),
    element("text", { class: "fold", x: left + group.width - 17, y: top + 17 }, element("title", {}, "fold into one box"), "−"));
}

function drawAll(world, placed, isNew) {
  world.replaceChildren(
    ...placed.groups.map(drawGroup),
    ...placed.wires.map((w) => element("path", { class: `wire${w.ordering ? " ordering" : ""}${w.far ? " far" : ""}`, d: path(w.points), "data-from": w.from, "data-to": w.to })),
    ...placed.boxes.map((b) => drawBox(b, !b.folded && isNew(b.item))),
  );
}

// ------------------------------------------------------------------ camera

class Camera {
  constructor(svg, world) {
    this.svg = svg; this.world = world; this.x = 0; this.y = 0; this.k = 1;
    this.fingers = new Map();
    svg.addEventListener("wheel", (e) => { e.preventDefault(); this.zoom(Math.exp(-e.deltaY * (e.ctrlKey ? 0.01 : 0.0016)), e.offsetX, e.offsetY); }, { passive: false });
    svg.addEventListener("pointerdown", (e) => { this.fingers.set(e.pointerId, e); this.moved = false; });
    addEventListener("pointermove", (e) => this.drag(e));
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, (e) => { this.fingers.delete(e.pointerId); svg.classList.remove("moving"); });
  }

  drag(e) {
    const before = this.fingers.get(e.pointerId);
    if (!before) return;
    const dx = e.clientX - before.clientX, dy = e.clientY - before.clientY;
    if (!this.moved && Math.hypot(dx, dy) < 4) return; // a click that trembles is a click
    this.moved = true;
    this.svg.classList.add("moving");
    if (this.fingers.size === 2) { // two fingers: what lies between them stays there
      const other = [...this.fingers.values()].find((f) => f.pointerId !== e.pointerId);
      const frame = this.svg.getBoundingClientRect();
      const gap = (f) => Math.hypot(f.clientX - other.clientX, f.clientY - other.clientY);
      this.zoom(gap(e) / Math.max(gap(before), 1), (e.clientX + other.clientX) / 2 - frame.x, (e.clientY + other.clientY) / 2 - frame.y);
    } else this.set(this.x + dx, this.y + dy, this.k);
    this.fingers.set(e.pointerId, e);
  }

  set(x, y, k) {
    cancelAnimationFrame(this.flight);
    [this.x, this.y, this.k] = [x, y, k];
    this.world.setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)}) scale(${k.toFixed(4)})`);
  }

  zoom(factor, x = this.svg.clientWidth / 2, y = this.svg.clientHeight / 2) {
    const k = Math.min(Math.max(this.k * factor, 0.04), 4);
    this.set(x - (x - this.x) * k / this.k, y - (y - this.y) * k / this.k, k);
  }

  fly(x, y, k) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this.set(x, y, k);
    const from = [this.x, this.y, this.k], start = performance.now();
    const frame = (now) => {
      const t = Math.min((now - start) / 240, 1), s = t * t * (3 - 2 * t);
      this.set(...[x, y, k].map((to, i) => from[i] + (to - from[i]) * s));
      if (t < 1) this.flight = requestAnimationFrame(frame);
    };
    cancelAnimationFrame(this.flight);
    this.flight = requestAnimationFrame(frame);
  }

  fit({ width, height }, at = "set") {
    const room = 56, w = this.svg.clientWidth, h = this.svg.clientHeight;
    const k = Math.min((w - room) / width, (h - 2 * room) / height, 1.15);
    this[at]((w - width * k) / 2, (h - height * k) / 2, k);
  }

  // The whole graph where it can be read so, else its beginning.
  open({ width, height, boxes }) {
    this.fit({ width, height });
    if (this.k >= LEGIBLE || !boxes.length) return;
    const room = this.svg.clientWidth, first = boxes.reduce((a, b) => (a.y <= b.y ? a : b));
    this.set(width * LEGIBLE < room ? (room - width * LEGIBLE) / 2 : room / 2 - first.x * LEGIBLE, 64, LEGIBLE);
  }

  centre(x, y) {
    const k = Math.max(this.k, 0.8);
    this.fly(this.svg.clientWidth / 2 - x * k, this.svg.clientHeight / 2 - y * k, k);
  }
}
