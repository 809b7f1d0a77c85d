// The panel of the selected node: its role, what it attends to, the tokens that it raises, its edges.

import { choice, count, el, percent, short, tokenText } from "explorer/dom";
import { STATUS } from "explorer/scene";
import { change, state } from "explorer/state";

const EDGES = 12; // listed at first
const WORDS = { shared: "shared", a: "only A", b: "only B" };

export function showDetails(panel, page, node) {
  panel.classList.toggle("empty", node < 0);
  if (node < 0) {
    panel.replaceChildren(el("p", { class: "note", text: "No node is selected. Click one, or search." }));
    return;
  }
  const { graph } = page;
  const name = graph.names[node];
  const pinned = page.pins().has(node);
  panel.replaceChildren(
    el("h2", {}, name, " ", el("small", { text: graph.describe(node) === name ? "" : graph.describe(node) })),
    el("p", {}, el("button", { type: "button", onclick: () => page.pin(node) }, pinned ? "Unpin" : "Pin")),
    ...roles(page, name, node),
    ...reading(page, name, node),
    ...edges(page, node),
  );
}

function roles(page, name, node) {
  if (!page.graph.isHead(node)) return [];
  const here = page.roleOf(node);
  const named = page.data.heads.filter((row) => row.head === name);
  const line = el("p", {}, el("strong", { text: here ? `${here} head` : "no role" }), ` ${page.roleSource()}`);
  if (!named.length) return [line];
  const rows = named.map((row) =>
    el("li", {}, `${row.relation}: ${row.role}, on ${percent(row.role_share)} of ${row.n} facts`),
  );
  return [line, el("details", {}, el("summary", { text: `named in ${named.length} relation(s)` }), el("ul", {}, rows))];
}

function reading(page, name, node) {
  const { readings } = page.data;
  if (!readings.length) return [el("p", { class: "note", text: "Attention and tokens: none in this page (see --model)." })];
  const found = readings[Math.min(state.reading, readings.length - 1)];
  const options = readings.map((one, i) => [String(i), one.prompt]);
  const pick = readings.length > 1 ? choice("prompt", options, String(state.reading), (i) => change({ reading: Number(i) })) : null;
  const parts = [el("h3", { text: `On “${found.prompt}” → ${tokenText(found.answer)}` }), pick].filter(Boolean);
  if (node === 0) return parts.concat(lens(found, 0, "The embedding at the last position"));
  if (node === page.graph.logits) return parts.concat(lens(found, page.graph.layers, "The logits"));
  if (page.graph.isHead(node)) parts.push(...attention(found, name));
  const own = found.nodes[name];
  parts.push(
    el("h4", { text: "Raises most at the last position (logit lens)" }),
    el("p", { class: "tokens" }, own.top.map((token) => el("code", { text: tokenText(token) }))),
    el("p", { text: `The answer ranks ${count(own.rank)} there; adds ${short(own.attribution)} to its logit.` }),
  );
  if (!page.graph.isHead(node)) {
    const layer = page.graph.layerOf(node);
    parts.push(...lens(found, layer + 1, `The residual stream after layer ${layer}`));
  }
  return parts;
}

function lens(found, layer, title) {
  const { top, rank, p } = found.lens[layer];
  return [
    el("h4", { text: `${title} says` }),
    el("p", { class: "tokens" }, top.map(([token, share]) => el("code", { text: `${tokenText(token)} ${percent(share)}` }))),
    el("p", { text: `The answer: rank ${count(rank)}, ${percent(p)}.` }),
  ];
}

// Rows of a head start at `first_row` and grow by one token each.
function attentionRow(found, name, position) {
  const n = found.tokens.length;
  const first = found.first_row;
  const before = (m) => (m * (m + 1)) / 2; // tokens in the rows before position m
  const each = before(n) - before(first);
  const start = found.attention_heads.indexOf(name) * each + before(position) - before(first);
  return found.shares.subarray(start, start + position + 1);
}

function attention(found, name) {
  const last = found.tokens.length - 1;
  const from = state.from >= found.first_row && state.from <= last ? state.from : last;
  const row = attentionRow(found, name, from);
  const bars = found.tokens.map((token, i) => {
    const inSubject = found.subject && i >= found.subject[0] && i < found.subject[1];
    const share = i < row.length ? row[i] / 65535 : null;
    const button = el(
      "button",
      {
        type: "button",
        class: inSubject ? "subject" : "",
        disabled: i < found.first_row,
        "aria-pressed": String(i === from),
        title: `attention from position ${i}`,
        onclick: () => change({ from: i === last ? -1 : i }),
      },
      tokenText(token),
    );
    const bar = el("span", { class: "bar", style: `--share:${share ?? 0}` });
    return el("li", {}, button, bar, el("span", { class: "value", text: share === null ? "" : percent(share) }));
  });
  const title = `Attention from ${tokenText(found.tokens[from])} (position ${from})`;
  return [el("h4", { text: title }), el("ol", { class: "attention", start: 0 }, bars)];
}

function edges(page, node) {
  const lists = [
    ["Incoming edges", page.edgesInto(node)],
    ["Outgoing edges", page.edgesOutOf(node)],
  ];
  return lists.flatMap(([title, found]) => {
    const list = el("ul", { class: "edges" }, found.slice(0, EDGES).map((edge) => item(page, edge)));
    const rest = () => list.replaceChildren(...found.map((edge) => item(page, edge)));
    const more = el("button", { type: "button", onclick: () => (rest(), more.remove()) }, `all ${count(found.length)}`);
    return [el("h3", { text: `${title}: ${count(found.length)}` }), list, found.length > EDGES ? more : null];
  }).filter(Boolean);
}

function item(page, { other, label, score, status }) {
  const button = el("button", { type: "button", class: "link", onclick: () => page.select(other) }, label);
  const mark = page.circuits().length > 1 ? ` (${WORDS[STATUS[status]]})` : "";
  return el("li", {}, button, el("span", { class: score < 0 ? "negative" : "positive", text: short(score) }), mark);
}
