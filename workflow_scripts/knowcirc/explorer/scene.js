// Which edges are visible: the filters, the difference of two circuits, and the paths between pinned nodes.

import { KINDS } from "explorer/graph";

export const SHARED = 0;
export const FIRST = 1;
export const SECOND = 2;
export const STATUS = ["shared", "a", "b"];

// The visible edges of one picture, as arrays: src, dst, score, status.
export class Scene {
  constructor(capacity) {
    this.src = new Uint16Array(capacity);
    this.dst = new Uint16Array(capacity);
    this.score = new Float32Array(capacity);
    this.status = new Uint8Array(capacity);
    this.length = 0;
  }

  add(src, dst, score, status) {
    const i = this.length++;
    [this.src[i], this.dst[i], this.score[i], this.status[i]] = [src, dst, score, status];
  }
}

// Filters: n, low, high (layers), kinds (set), roles (set, or null), status (set of STATUS).
// `circuits` has one or two; `own` says which of them the picture shows: [0], [1] or [0, 1].
export function sceneOf(graph, circuits, own, filters, roleOf) {
  const scene = new Scene(own.reduce((sum, i) => sum + circuits[i].held, 0));
  const ok = nodesPassing(graph, filters, roleOf);
  const kinds = KINDS.map((kind) => filters.kinds.has(kind));
  const seen = own.length > 1 ? new Set() : null;
  for (const which of own) {
    const circuit = circuits[which];
    const other = circuits.length > 1 ? circuits[1 - which] : null;
    const end = Math.min(filters.n, circuit.held);
    for (let i = 0; i < end; i++) {
      const src = circuit.src[i];
      const dst = circuit.dst[i];
      if (!kinds[graph.kindOf[dst]] || !ok.inside[src] || !ok.inside[graph.firstOf[dst]]) continue;
      if (ok.role && !ok.role[src] && !anyReader(graph, dst, ok.role)) continue;
      const status = other === null || other.has(src, dst) ? SHARED : which + 1;
      if (other !== null && !filters.status.has(STATUS[status])) continue;
      if (seen !== null) {
        const key = src * graph.nDst + dst;
        if (seen.has(key)) continue;
        seen.add(key);
      }
      scene.add(src, dst, circuit.score[i], status);
    }
  }
  return scene;
}

function nodesPassing(graph, filters, roleOf) {
  const inside = new Uint8Array(graph.nNodes);
  const role = filters.roles === null ? null : new Uint8Array(graph.nNodes);
  for (let node = 0; node < graph.nNodes; node++) {
    const layer = graph.layerOf(node);
    const apart = node === 0 || node === graph.logits;
    inside[node] = apart || (layer >= filters.low && layer <= filters.high) ? 1 : 0;
    if (role !== null) role[node] = filters.roles.has(roleOf(node)) ? 1 : 0;
  }
  return { inside, role };
}

export function anyReader(graph, dst, marks) {
  const first = graph.firstOf[dst];
  for (let node = first; node < first + graph.countOf[dst]; node++) if (marks[node]) return true;
  return false;
}

// The scene's edges that lie on a path from one of the nodes to another of them.
// Senders come before their readers in number, so one pass in their order finds what is reached, one back what leads on.
export function joining(graph, scene, nodes) {
  const order = bySender(graph, scene);
  const reached = new Uint8Array(graph.nNodes);
  const leading = new Uint8Array(graph.nNodes);
  for (const node of nodes) reached[node] = leading[node] = 1;
  for (const i of order) {
    if (!reached[scene.src[i]]) continue;
    const first = graph.firstOf[scene.dst[i]];
    for (let node = first; node < first + graph.countOf[scene.dst[i]]; node++) reached[node] = 1;
  }
  for (let k = order.length - 1; k >= 0; k--) {
    const i = order[k];
    if (anyReader(graph, scene.dst[i], leading)) leading[scene.src[i]] = 1;
  }
  const found = new Scene(scene.length);
  for (let i = 0; i < scene.length; i++) {
    if (reached[scene.src[i]] && anyReader(graph, scene.dst[i], leading)) {
      found.add(scene.src[i], scene.dst[i], scene.score[i], scene.status[i]);
    }
  }
  return found;
}

function bySender(graph, scene) {
  const starts = new Uint32Array(graph.nNodes + 1);
  for (let i = 0; i < scene.length; i++) starts[scene.src[i] + 1]++;
  for (let node = 0; node < graph.nNodes; node++) starts[node + 1] += starts[node];
  const order = new Uint32Array(scene.length);
  for (let i = 0; i < scene.length; i++) order[starts[scene.src[i]]++] = i;
  return order;
}

// How many visible edges enter and leave each node. What heads share enters those of them that lead on, where any does.
export function degrees(graph, scene) {
  const into = new Uint16Array(graph.nNodes);
  const out = new Uint16Array(graph.nNodes);
  for (let i = 0; i < scene.length; i++) out[scene.src[i]]++;
  for (let i = 0; i < scene.length; i++) {
    const dst = scene.dst[i];
    const all = graph.countOf[dst] === 1 || !anyReader(graph, dst, out);
    const first = graph.firstOf[dst];
    for (let node = first; node < first + graph.countOf[dst]; node++) if (all || out[node]) into[node]++;
  }
  return { into, out };
}
