// The page: reads its data, holds what the parts share, and draws what a change of the state asks for.

import { buildControls, ROLES, updateControls } from "explorer/controls";
import { showDetails } from "explorer/details";
import { announce, byId, count } from "explorer/dom";
import { Circuit, Graph, readShorts } from "explorer/graph";
import { Picture } from "explorer/picture";
import { degrees, joining, sceneOf } from "explorer/scene";
import { change, DEFAULTS, listOf, read, state, subscribe } from "explorer/state";
import { showTable } from "explorer/table";
import { buildTraces, showSite, showTraces } from "explorer/traces";

const data = JSON.parse(byId("data").textContent);
const graph = new Graph(data.graph);
const known = new Map(data.circuits.map((packed) => [packed.id, packed]));
const decoded = new Map();
const rolesOf = new Map(); // relation: node: role
let scenes = [];
let pictures = [];

for (const reading of data.readings) reading.shares = readShorts(reading.attention);
for (const { relation, head, role } of data.heads) {
  if (!rolesOf.has(relation)) rolesOf.set(relation, new Map());
  rolesOf.get(relation).set(graph.numbers.get(head), role);
}

function circuitOf(id) {
  if (!decoded.has(id)) decoded.set(id, new Circuit(known.get(id), graph));
  return decoded.get(id);
}

const page = {
  data,
  graph,
  circuits: () => [state.a, state.b].filter((id) => known.has(id)).map(circuitOf),
  high: () => (state.high < 0 ? graph.layers - 1 : Math.min(state.high, graph.layers - 1)),
  pins: () => new Set(listOf(state.pins).map((name) => graph.numbers.get(name)).filter((node) => node !== undefined)),
  selected: () => graph.numbers.get(state.node) ?? -1,
  select: (node) => change({ node: graph.names[node] }),
  focus: (node) => pictures[0]?.focus(node),
  roleOf,
  roleSource: () => (named() ? `in relation ${page.circuits()[0].relation}` : data.readings.length ? "on the prompt" : ""),
  pin(node) {
    const pins = page.pins();
    const on = !pins.delete(node);
    if (on) pins.add(node);
    change({ pins: [...pins].map((each) => graph.names[each]).join() });
    announce(`${graph.describe(node)} ${on ? "pinned" : "unpinned"}; ${pins.size} pinned; ${count(visible())} edges visible`);
  },
  // Nodes by name, by part of a name, or by role.
  search(text) {
    const exact = graph.find(text);
    const plain = text.trim().toLowerCase();
    if (!plain) return [];
    const all = Array.from({ length: graph.nNodes }, (_, node) => node).filter((node) => node !== exact);
    const having = all.filter((node) => ROLES.some((role) => role.startsWith(plain) && roleOf(node) === role));
    const named = all.filter((node) => graph.names[node].startsWith(plain) && !having.includes(node));
    return [...(exact >= 0 ? [exact] : []), ...having, ...named];
  },
  edgesInto: (node) => edgesOf((circuit, i) => graph.reads(node, circuit.dst[i]), (circuit, i) => circuit.src[i]),
  edgesOutOf: (node) => edgesOf((circuit, i) => circuit.src[i] === node, (circuit, i) => graph.firstOf[circuit.dst[i]]),
};

const named = () => rolesOf.get(page.circuits()[0]?.relation);

// By the relation of circuit A, where its heads are named; else on the prompt.
function roleOf(node) {
  const reading = data.readings[Math.min(state.reading, data.readings.length - 1)];
  return named()?.get(node) ?? (named() ? null : (reading?.nodes[graph.names[node]]?.role ?? null));
}

// Edges of the whole circuits (not of the filters) that pass a test, the strongest first.
function edgesOf(passes, otherOf) {
  const circuits = page.circuits();
  const found = [];
  circuits.forEach((circuit, which) => {
    const beside = circuits[1 - which];
    for (let i = 0; i < circuit.held; i++) {
      if (!passes(circuit, i)) continue;
      const shared = !beside || beside.has(circuit.src[i], circuit.dst[i]);
      if (shared && which === 1) continue; // said with the first
      const label = `${graph.names[circuit.src[i]]} → ${graph.receiverName(circuit.dst[i])}`;
      found.push({ other: otherOf(circuit, i), label, score: circuit.score[i], status: shared ? 0 : which + 1 });
    }
  });
  return found.sort((one, other) => Math.abs(other.score) - Math.abs(one.score));
}

const visible = () => scenes.reduce((sum, scene) => sum + scene.length, 0);

function buildScenes() {
  const circuits = page.circuits();
  const roles = new Set(listOf(state.roles));
  const sets = { kinds: new Set(listOf(state.kinds)), status: new Set(listOf(state.status)), roles: roles.size ? roles : null };
  const filters = { n: state.n, low: state.low, high: page.high(), ...sets };
  const own = circuits.length < 2 ? [[0]] : state.mode === "side" ? [[0], [1]] : [[0, 1]];
  const pins = page.pins();
  scenes = own.map((each) => {
    const scene = sceneOf(graph, circuits, each, filters, roleOf);
    return pins.size > 1 && state.paths ? joining(graph, scene, pins) : scene;
  });
}

function drawPictures() {
  const circuits = page.circuits();
  const host = byId("pictures");
  if (pictures.length !== scenes.length) {
    pictures = scenes.map(() => new Picture(graph, { select: page.select, pin: page.pin }));
    host.replaceChildren(...pictures.map((picture) => picture.root));
    host.className = pictures.length > 1 ? "two" : "";
  }
  const titleOf = (circuit) => `${circuit.title} (${circuit.method})`;
  scenes.forEach((scene, i) => {
    const titles = scenes.length > 1 ? [`${"AB"[i]}: ${titleOf(circuits[i])}`] : circuits.map((each, k) => (circuits.length > 1 ? `${"AB"[k]}: ` : "") + titleOf(each));
    pictures[i].show(scene, {
      title: `${titles.join("  |  ")} – ${count(scene.length)} edges visible`,
      pins: page.pins(),
      selected: page.selected(),
      byStatus: circuits.length > 1,
      alive: circuits.map((circuit) => circuit.alive),
      roleOf,
      low: Math.min(state.low, page.high()),
      high: page.high(),
    });
  });
}

function showNotes() {
  const notes = page.circuits().filter((circuit) => circuit.held < circuit.edges);
  const cut = notes.map((one) => `${one.title}: the strongest ${count(one.held)} of ${count(one.edges)} edges are in this page.`);
  const left = data.left_out.length ? [`Left out for the page's size: ${data.left_out.join("; ")}.`] : [];
  const about = page.circuits().map(({ edges, method, about: lines }) => {
    const rest = lines.map(([name, text]) => `${name}: ${text}`);
    return [`${count(edges)} of ${count(data.graph.edges)} edges`, `method ${method}`, ...rest].join(" · ");
  });
  byId("notes").textContent = [...about.map((text, i) => (about.length > 1 ? `${"AB"[i]}: ${text}.` : `${text}.`)), ...cut, ...left].join(" ");
  const legend = state.b ? [["shared", "shared"], ["only-a", "only A"], ["only-b", "only B"]] : [["positive", "score > 0"], ["negative", "score < 0"]];
  byId("notes").append(...legend.map(([name, text]) => Object.assign(document.createElement("span"), { className: `key ${name}`, textContent: text })));
}

function draw(changed) {
  const has = (...names) => changed === null || names.some((name) => changed.has(name));
  if (has("view")) {
    for (const view of ["circuits", "traces"]) {
      byId(view).hidden = state.view !== view;
      byId(`tab-${view}`).setAttribute("aria-selected", String(state.view === view));
    }
  }
  if (state.view === "traces") {
    if (has("view", "fact", "kind")) showTraces();
    else if (has("site")) showSite();
    return;
  }
  const edges = has("view", "a", "b", "mode", "n", "low", "high", "kinds", "roles", "status", "pins", "paths", "reading");
  if (edges) buildScenes();
  if (edges || has("node")) drawPictures();
  if (edges) updateControls(page, scenes);
  if (has("view", "a", "b")) showNotes();
  if (has("view", "a", "b", "node", "pins", "reading", "from")) showDetails(byId("details"), page, page.selected());
  if (byId("edge-table").open && edges) showTable(byId("edge-table").lastElementChild, page, scenes);
  if (changed?.has("node") && page.selected() >= 0) sayNode(page.selected());
  else if (changed && edges) announce(`${count(visible())} edges visible`);
}

function sayNode(node) {
  const { into, out } = degrees(graph, scenes[0]);
  const role = roleOf(node) ? `, ${roleOf(node)} head` : "";
  announce(`${graph.names[node]}, ${graph.describe(node)}${role}: edges: ${count(into[node])} in, ${count(out[node])} out`);
}

function restore() {
  const values = read(location.hash);
  if (!known.has(values.a)) values.a = data.circuits[0].id;
  if (!known.has(values.b)) values.b = "";
  const within = (value, last) => Math.max(0, Math.min(value, last));
  values.low = within(values.low, graph.layers - 1);
  values.n = Math.max(1, values.n);
  values.reading = within(values.reading, Math.max(0, data.readings.length - 1));
  Object.assign(state, values);
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    change({ view: "circuits" });
    byId("filters").open = true;
    byId("search").focus();
  } else if (event.key === "Escape") {
    const pins = state.pins;
    change({ node: "", pins: "", site: "" });
    byId("hits").replaceChildren();
    announce(pins ? "selection and pins cleared" : "selection cleared");
  }
});

for (const view of ["circuits", "traces"]) {
  byId(`tab-${view}`).addEventListener("click", () => change({ view }));
}
byId("edge-table").addEventListener("toggle", (event) => {
  if (event.target.open) showTable(event.target.lastElementChild, page, scenes);
});
addEventListener("hashchange", () => {
  restore();
  draw(null);
});
let resizing = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(() => state.view === "circuits" && drawPictures());
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => state.view === "circuits" && drawPictures());

if (matchMedia("(max-width: 900px)").matches) byId("filters").open = false; // the picture comes first there
restore();
DEFAULTS.a = data.circuits[0].id; // links name it only where it is another
buildControls(byId("controls"), page);
buildTraces(byId("traces"), data);
subscribe(draw);
draw(null);
document.documentElement.dataset.ready = "yes";
