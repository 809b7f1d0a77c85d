// The controls of the circuits: which circuits, how they stand beside each other, filters, search, pins.

import { byId, checkbox, choice, count, el, short } from "explorer/dom";
import { KINDS } from "explorer/graph";
import { change, listOf, state } from "explorer/state";

export const ROLES = ["mover", "relation", "mixture"];
const STEPS = 1000; // of the slider, logarithmic in the number of edges
const HITS = 12;
const KIND_NAMES = { q: "queries", k: "keys", v: "values", mlp: "MLPs", logits: "logits" };

export function buildControls(form, page) {
  form.addEventListener("submit", (event) => event.preventDefault());
  form.replaceChildren(
    el("fieldset", {}, el("legend", { text: "Circuits" }), circuits(page)),
    el("fieldset", {}, el("legend", { text: "Edges" }), slider(page), layers(page), boxes("kinds", "into", KINDS, KIND_NAMES)),
    el("fieldset", {}, el("legend", { text: "Nodes" }), boxes("roles", "only at heads", ROLES), search(page), pins(page)),
  );
}

function circuits(page) {
  const groups = new Map();
  for (const { id, title, group, method } of page.data.circuits) {
    const text = group.includes(method) ? title : `${title} (${method})`;
    groups.set(group, [...(groups.get(group) ?? []), [id, text]]);
  }
  const options = [...groups];
  const modes = [["overlay", "overlaid"], ["side", "side by side"]];
  const two = el("span", { id: "two" }, choice("shown", modes, state.mode, (mode) => change({ mode }), "mode"), statuses());
  return [
    choice("A", options, state.a, (a) => change({ a }), "a"),
    choice("B", [["", "none"], ...options], state.b, (b) => change({ b }), "b"),
    two,
  ];
}

const statuses = () => boxes("status", "edges", ["shared", "a", "b"], { shared: "shared", a: "only A", b: "only B" });

// Checkboxes whose chosen names stand in the state with commas between them.
function boxes(name, label, names, texts = {}) {
  const toggle = (one, on) => {
    const chosen = new Set(listOf(state[name]));
    on ? chosen.add(one) : chosen.delete(one);
    change({ [name]: names.filter((each) => chosen.has(each)).join() });
  };
  const list = names.map((one) =>
    checkbox(texts[one] ?? one, listOf(state[name]).includes(one), (on) => toggle(one, on), `${name}-${one}`),
  );
  return el("span", { class: "boxes", role: "group", "aria-label": label }, el("span", { text: label }), list);
}

const mostOf = (page) => Math.max(1, ...page.circuits().map((circuit) => circuit.held));

function slider(page) {
  const oninput = (event) => {
    const share = Number(event.target.value) / STEPS;
    change({ n: Math.round(mostOf(page) ** share) });
  };
  const input = el("input", { type: "range", id: "n", min: 0, max: STEPS, step: 1, oninput, "aria-describedby": "n-text" });
  return el("label", { class: "wide" }, "strongest", input, el("output", { id: "n-text", for: "n" }));
}

function layers(page) {
  const last = page.graph.layers - 1;
  const number = (id, value, set) =>
    el("input", { type: "number", id, min: 0, max: last, value, onchange: (event) => set(Number(event.target.value) || 0) });
  const within = (value) => Math.max(0, Math.min(last, value));
  return el(
    "label",
    {},
    "layers",
    number("low", 0, (low) => change({ low: within(low) })),
    "to",
    el("span", { class: "unseen", text: "last layer" }),
    number("high", last, (high) => change({ high: within(high) === last ? -1 : within(high) })),
  );
}

function search(page) {
  const hits = el("ul", { id: "hits", "aria-label": "nodes found" });
  const go = (node) => {
    hits.replaceChildren();
    page.select(node);
    page.focus(node);
  };
  const oninput = (event) => {
    const found = page.search(event.target.value).slice(0, HITS);
    const none = event.target.value.trim() && !found.length ? [el("li", { text: "no such node" })] : [];
    const buttons = found.map((node) => el("button", { type: "button", onclick: () => go(node) }, page.graph.names[node]));
    hits.replaceChildren(...buttons.map((button) => el("li", {}, button)), ...none);
  };
  const onkeydown = (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    const [node] = page.search(event.target.value);
    if (node !== undefined) go(node);
  };
  const field = { type: "search", id: "search", placeholder: "a15.h3, m20, mover", oninput, onkeydown, autocomplete: "off" };
  return el("span", { class: "search" }, el("label", {}, "search", el("input", field)), hits);
}

function pins() {
  const box = checkbox("only paths between pins", state.paths === 1, (on) => change({ paths: on ? 1 : 0 }), "paths");
  return el("span", { class: "pins" }, el("span", { id: "pins" }), box);
}

// Sets the controls to the state, after a link or a change elsewhere.
export function updateControls(page, scenes) {
  for (const name of ["a", "b", "mode"]) byId(name).value = state[name];
  byId("two").hidden = !state.b;
  for (const [name, names] of [["kinds", KINDS], ["roles", ROLES], ["status", ["shared", "a", "b"]]]) {
    for (const one of names) byId(`${name}-${one}`).checked = listOf(state[name]).includes(one);
  }
  byId("paths").checked = state.paths === 1;
  byId("low").value = state.low;
  byId("high").value = page.high();
  const most = mostOf(page);
  const n = Math.max(1, Math.min(state.n, most));
  byId("n").value = most > 1 ? Math.round((STEPS * Math.log(n)) / Math.log(most)) : STEPS;
  const [first] = page.circuits();
  byId("n-text").textContent = first.scored
    ? `${count(n)} of ${count(most)}: |score| ≥ ${short(Math.abs(first.score[Math.min(n, first.held) - 1]))}`
    : `${count(n)} of ${count(most)} (no scores)`;
  const shown = scenes.reduce((sum, scene) => sum + scene.length, 0);
  byId("n").setAttribute("aria-valuetext", `${count(n)} strongest; ${count(shown)} edges visible`);
  const chips = [...page.pins()].map((node) =>
    el("button", { type: "button", title: "unpin", onclick: () => page.pin(node) }, `${page.graph.names[node]} ×`),
  );
  byId("pins").replaceChildren(...(chips.length ? ["pinned ", ...chips] : ["no node is pinned"]));
}
