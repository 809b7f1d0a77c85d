// The visible edges as a table: what the picture shows, for those who do not see it. Rows are made when it is open.

import { count, el, short } from "explorer/dom";
import { KINDS } from "explorer/graph";
import { STATUS } from "explorer/scene";

const ROWS = 200; // on a page of the table
const WORDS = { shared: "shared", a: "only A", b: "only B" };

export function showTable(place, page, scenes, start = 0) {
  const { graph } = page;
  const two = page.circuits().length > 1;
  const all = scenes.flatMap((scene, which) => Array.from({ length: scene.length }, (_, i) => [scene, i, which]));
  all.sort(([one, i], [other, k]) => Math.abs(other.score[k]) - Math.abs(one.score[i]));
  const link = (node) => el("button", { type: "button", class: "link", onclick: () => page.select(node) }, graph.names[node]);
  const heads = ["sender", "receiver", "kind", "score", ...(two ? ["in"] : []), ...(scenes.length > 1 ? ["of"] : [])];
  const rows = all.slice(start, start + ROWS).map(([scene, i, which]) => {
    const dst = scene.dst[i];
    const cells = [
      link(scene.src[i]),
      graph.countOf[dst] > 1 ? graph.receiverName(dst) : link(graph.firstOf[dst]),
      KINDS[graph.kindOf[dst]],
      short(scene.score[i]),
      ...(two ? [WORDS[STATUS[scene.status[i]]]] : []),
      ...(scenes.length > 1 ? ["AB"[which]] : []),
    ];
    return el("tr", {}, cells.map((cell) => el("td", {}, cell)));
  });
  const end = Math.min(start + ROWS, all.length);
  const turn = (text, to, off) =>
    el("button", { type: "button", disabled: off, onclick: () => showTable(place, page, scenes, to) }, text);
  place.replaceChildren(
    el(
      "p",
      { class: "note" },
      all.length ? `${count(start + 1)} to ${count(end)} of ${count(all.length)} visible edges, by absolute score ` : "no edge is visible ",
      turn("back", Math.max(0, start - ROWS), start === 0),
      turn("further", start + ROWS, end >= all.length),
    ),
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, heads.map((text) => el("th", { scope: "col", text })))),
      el("tbody", {}, rows),
    ),
  );
}
