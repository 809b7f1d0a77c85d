// The causal traces: for one fact the clean run, the corrupted run, and one restored site at a time.

import { announce, byId, choice, el, percent, tokenText } from "explorer/dom";
import { readFloats } from "explorer/graph";
import { change, state } from "explorer/state";

const KIND_NAMES = {
  state: "hidden state",
  mlp: "MLP outputs (a window of layers)",
  attention: "attention outputs (a window of layers)",
  severed_mlp: "hidden state, MLPs severed above",
  severed_attention: "hidden state, attention severed above",
};
const STEPS = 5; // in the legend

let section;
let traces;

export function buildTraces(place, data) {
  [section, traces] = [place, data.traces];
  if (!traces.length) {
    place.replaceChildren(el("p", { class: "note", text: "There are no traces in this page." }));
    return;
  }
  const cut = data.n_traced > traces.length ? `The first ${traces.length} of ${data.n_traced} traced facts are here. ` : "";
  const facts = traces.map((trace, i) => [String(i), `${trace.prompt} →${trace.answer.replace(/^(?! )/, " ")}`]);
  const pick = choice("fact", facts, String(state.fact), (i) => change({ fact: Number(i), site: "" }), "fact");
  const form = el("form", {}, pick, el("span", { id: "kind-choice" }));
  form.addEventListener("submit", (event) => event.preventDefault());
  place.replaceChildren(
    el("p", {}, `${cut}A restored run is the corrupted run with one site set to its clean value; its indirect effect is ` +
      "how much of the answer's probability that brings back (means over noise draws). Point at a site, or use the arrow keys."),
    form,
    el("div", { id: "runs", class: "runs" }),
    el("div", { class: "scroll" }, el("table", { id: "sites", role: "grid" })),
    el("div", { id: "scale", class: "scale" }),
  );
  byId("sites").addEventListener("pointerover", (event) => take(event.target));
  byId("sites").addEventListener("focusin", (event) => take(event.target));
  byId("sites").addEventListener("keydown", key);
}

function take(target) {
  const site = target.closest("td")?.dataset.site;
  if (site) change({ site });
}

const traceOf = () => traces[Math.max(0, Math.min(state.fact, traces.length - 1))];
const kindOf = (trace) => (trace.kinds.includes(state.kind) ? state.kind : trace.kinds[0]);

function effectAt(trace, kind, layer, position) {
  trace.values ??= readFloats(trace.effects);
  return trace.values[(trace.kinds.indexOf(kind) * trace.layers + layer) * trace.tokens.length + position];
}

export function showTraces() {
  if (!traces?.length) return;
  const trace = traceOf();
  const kind = kindOf(trace);
  byId("fact").value = String(traces.indexOf(trace));
  const kinds = trace.kinds.map((name) => [name, KIND_NAMES[name] ?? name]);
  byId("kind-choice").replaceChildren(choice("restored", kinds, kind, (name) => change({ kind: name, site: "" }), "kind"));
  let top = 0;
  let bottom = 0;
  for (let layer = 0; layer < trace.layers; layer++) {
    for (let position = 0; position < trace.tokens.length; position++) {
      const effect = effectAt(trace, kind, layer, position);
      if (effect > top) top = effect;
      if (effect < bottom) bottom = effect;
    }
  }
  const limit = Math.max(top, -bottom, 1e-6);
  grid(trace, kind, limit);
  legend(limit, bottom);
  showSite();
}

function grid(trace, kind, limit) {
  const layers = Array.from({ length: trace.layers }, (_, layer) => layer);
  const every = layers.length > 16 ? 5 : 1;
  const header = layers.map((layer) => el("th", { scope: "col", text: layer % every ? "" : layer, "aria-label": `layer ${layer}` }));
  const rows = trace.tokens.map((token, position) => {
    const cells = layers.map((layer) => {
      const effect = effectAt(trace, kind, layer, position);
      const site = `${kind}.${layer}.${position}`;
      if (Number.isNaN(effect)) return el("td", { class: "none", title: "not run" });
      const share = Math.abs(effect) / limit;
      const label = `${tokenText(token)}, layer ${layer}: ${points(effect)}`;
      const attributes = { "data-site": site, class: effect < 0 ? "less" : "more", style: `--share:${share.toFixed(3)}` };
      return el("td", { ...attributes, tabindex: -1, role: "gridcell", "aria-label": label });
    });
    const mark = trace.in_subject[position] ? "subject" : "";
    return el("tr", {}, el("th", { scope: "row", class: mark, text: tokenText(token) + (mark ? "*" : "") }), cells);
  });
  byId("sites").replaceChildren(
    el("caption", { text: `Indirect effect of ${KIND_NAMES[kind] ?? kind}, by token (* subject) and layer` }),
    el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "token" }), header)),
    el("tbody", {}, rows),
  );
}

const points = (effect) => `${effect >= 0 ? "+" : "−"}${Math.abs(100 * effect).toFixed(1)} pp`;

function legend(limit, bottom) {
  const steps = Array.from({ length: STEPS + 1 }, (_, i) => i / STEPS);
  const below = steps.slice(1).filter((share) => (share - 1 / STEPS) * limit < -bottom - 0.001);
  const all = [...below.reverse().map((share) => -share), ...steps];
  const cells = all.map((share) =>
    el("span", {}, el("i", { class: share < 0 ? "less" : "more", style: `--share:${Math.abs(share)}` }), points(share * limit)),
  );
  byId("scale").replaceChildren(el("b", { text: "colour: p(answer) restored less corrupted, linear" }), ...cells);
}

// The site of the state, else the one of the largest effect.
function siteOf(trace, kind) {
  const [name, layer, position] = state.site.split(".");
  const found = { layer: Number(layer), position: Number(position) };
  const valid = name === kind && found.layer < trace.layers && found.position < trace.tokens.length;
  if (valid && !Number.isNaN(effectAt(trace, kind, found.layer, found.position))) return found;
  let best = { layer: 0, position: 0 };
  let most = -Infinity;
  for (let layer = 0; layer < trace.layers; layer++) {
    for (let position = 0; position < trace.tokens.length; position++) {
      const effect = effectAt(trace, kind, layer, position);
      if (effect > most) [most, best] = [effect, { layer, position }];
    }
  }
  return best;
}

export function showSite() {
  if (!traces?.length) return;
  const trace = traceOf();
  const kind = kindOf(trace);
  const { layer, position } = siteOf(trace, kind);
  const effect = effectAt(trace, kind, layer, position);
  const answer = tokenText(trace.answer.replace(/^(?! )/, " "));
  const run = (name, p) =>
    el("div", {}, el("span", { text: name }), el("span", { class: "bar", style: `--share:${p}` }), el("strong", { text: percent(p) }));
  const where = `${KIND_NAMES[kind] ?? kind}, token ${tokenText(trace.tokens[position])} (position ${position}), layer ${layer}`;
  byId("runs").replaceChildren(
    el("p", {}, `p(${answer}) `, el("span", { id: "where", text: `restored: ${where}; effect ${points(effect)}` })),
    run("clean run", trace.clean),
    run("corrupted run", trace.corrupted),
    run("restored run", trace.corrupted + effect),
  );
  for (const cell of byId("sites").querySelectorAll("td.at")) {
    cell.classList.remove("at");
    cell.setAttribute("tabindex", "-1");
  }
  const cell = byId("sites").querySelector(`td[data-site="${CSS.escape(`${kind}.${layer}.${position}`)}"]`);
  cell?.classList.add("at");
  cell?.setAttribute("tabindex", "0");
  if (section.contains(document.activeElement)) {
    announce(`${where}: ${percent(trace.corrupted)} corrupted, ${percent(trace.corrupted + effect)} restored, ${percent(trace.clean)} clean`);
  }
}

function key(event) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const [across, down] = moves[event.key];
  const trace = traceOf();
  const kind = kindOf(trace);
  const { layer, position } = siteOf(trace, kind);
  const next = `${kind}.${layer + across}.${position + down}`;
  const cell = byId("sites").querySelector(`td[data-site="${CSS.escape(next)}"]`);
  if (cell) cell.focus();
}
