// One picture of a circuit: edges on a canvas, nodes as SVG above it that take the focus.

import { count, el, svg } from "explorer/dom";
import { Layout } from "explorer/layout";
import { FIRST, SECOND, SHARED, degrees } from "explorer/scene";

const LEVELS = 5; // widths and opacities
const STROKE = 800; // edges in one stroke: more, or fewer, take a browser longer
const MOST_CURVES = 3000; // more edges are drawn as lines, in half the time
const ROLE_MARKS = { mover: "M", relation: "R", mixture: "X" };
const LETTERS = ["", "only in A", "only in B"];

export class Picture {
  // `events` has select(node), pin(node), clear(); `graph` is the model's.
  constructor(graph, events) {
    Object.assign(this, { graph, events, selected: -1, focusable: -1 });
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.over = el("canvas", { "aria-hidden": "true" });
    this.svg = svg("svg", { role: "group" });
    this.plot = el("div", { class: "plot" }, this.canvas, this.over, this.svg);
    this.caption = el("figcaption");
    this.root = el("figure", {}, this.caption, el("div", { class: "scroll" }, this.plot));
    const nodeOf = (event) => Number(event.target.closest("[data-node]")?.dataset.node ?? -1);
    this.svg.addEventListener("click", (event) => this.take(nodeOf(event)));
    this.svg.addEventListener("focusin", (event) => this.take(nodeOf(event)));
    this.svg.addEventListener("dblclick", (event) => nodeOf(event) >= 0 && events.pin(nodeOf(event)));
    this.svg.addEventListener("pointerover", (event) => this.highlight(nodeOf(event)));
    this.svg.addEventListener("pointerleave", () => this.highlight(-1));
    this.svg.addEventListener("keydown", (event) => this.key(event, nodeOf(event)));
  }

  take(node) {
    if (node >= 0) this.events.select(node);
  }

  // What is seen: a scene with look {title, pins, selected, byStatus, roleOf, alive, low, high}.
  show(scene, look) {
    Object.assign(this, { scene, look, selected: look.selected });
    this.caption.textContent = look.title;
    const width = Math.max(280, this.root.clientWidth || 800);
    const key = [width, look.low, look.high].join();
    if (key !== this.laidOut) {
      this.laidOut = key;
      this.layOut(width, look);
    }
    this.degrees = degrees(this.graph, scene);
    this.drawEdges(this.canvas, null);
    this.markNodes();
    this.highlight(-1);
  }

  layOut(width, look) {
    const { graph } = this;
    this.layout = new Layout(graph, width, look.low, look.high);
    const { height, nodeHeight } = this.layout;
    const scale = Math.min(2, window.devicePixelRatio || 1);
    for (const canvas of [this.canvas, this.over]) {
      [canvas.width, canvas.height] = [this.layout.width * scale, height * scale];
      Object.assign(canvas.style, { width: `${this.layout.width}px`, height: `${height}px` });
    }
    this.scale = scale;
    Object.assign(this.plot.style, { width: `${this.layout.width}px`, height: `${height}px` });
    this.svg.setAttribute("viewBox", `0 0 ${this.layout.width} ${height}`);
    this.elements = new Map();
    const shown = [];
    for (let layer = look.low; layer <= look.high; layer++) {
      shown.push(svg("text", { class: "layer", x: 24, y: this.layout.yOf(layer) + 4, text: layer }));
    }
    shown.push(svg("path", { class: "bracket", d: this.layout.brackets() }));
    for (let node = 0; node < graph.nNodes; node++) {
      if (!this.layout.shows(node)) continue;
      const [x, y, w] = [this.layout.x[node], this.layout.y[node], this.layout.widthOf(node)];
      const box = svg("rect", { x: x - w / 2, y: y - nodeHeight / 2, width: w, height: nodeHeight, rx: 3 });
      const label = svg("text", { x, y: y + 3.5 });
      const element = svg("g", { "data-node": node, role: "button", tabindex: -1 }, box, label);
      this.elements.set(node, { element, label });
      shown.push(element);
    }
    this.svg.replaceChildren(...shown);
  }

  labelOf(node, role) {
    const { graph } = this;
    if (!graph.isHead(node)) return graph.names[node];
    const mark = ROLE_MARKS[role] ?? "";
    if (this.layout.nodeWidth < 20) return mark;
    return mark ? `${graph.placeOf(node)} ${mark}` : String(graph.placeOf(node));
  }

  markNodes() {
    const { into, out } = this.degrees;
    let first = -1;
    for (const [node, { element, label }] of this.elements) {
      const live = into[node] + out[node] > 0;
      const role = this.look.roleOf(node);
      const status = this.statusOf(node);
      const pinned = this.look.pins.has(node);
      const classes = [
        live ? "live" : "idle",
        role ? `role-${role}` : "",
        status ? ["", "only-a", "only-b"][status] : "",
        pinned ? "pinned" : "",
        node === this.selected ? "selected" : "",
      ];
      set(element, "class", classes.filter(Boolean).join(" "));
      const text = this.labelOf(node, role);
      if (label.textContent !== text) label.textContent = text;
      const said = [this.graph.describe(node), role ?? "", status ? LETTERS[status] : ""].filter(Boolean);
      set(element, "aria-label", `${said.join(", ")}, edges: ${count(into[node])} in, ${count(out[node])} out`);
      set(element, "aria-pressed", String(pinned));
      set(element, "aria-hidden", String(!live));
      set(element, "tabindex", "-1");
      if (live && first < 0) first = node;
    }
    this.focusable = this.elements.has(this.selected) ? this.selected : first;
    this.elements.get(this.focusable)?.element.setAttribute("tabindex", "0");
    this.svg.setAttribute("aria-label", `${this.look.title}: ${count(this.scene.length)} edges; arrow keys go from node to node`);
  }

  // Which of two circuits a node is in: 0 both (or there is one circuit).
  statusOf(node) {
    const [a, b] = this.look.alive;
    if (!b || a[node] === b[node]) return SHARED;
    return a[node] ? FIRST : SECOND;
  }

  // Draws all edges of the scene, or those of one node; edges alike in colour and width in one stroke.
  drawEdges(canvas, node) {
    const { graph, scene, layout } = this;
    const context = canvas.getContext("2d");
    context.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    context.clearRect(0, 0, layout.width, layout.height);
    const style = getComputedStyle(this.root);
    const names = this.look.byStatus ? ["--shared", "--only-a", "--only-b"] : ["--positive", "--negative"];
    const colours = names.map((name) => style.getPropertyValue(name).trim());
    const edges = colours.map(() => Array.from({ length: LEVELS }, () => []));
    const chosen = [];
    let strongest = 0;
    for (let i = 0; i < scene.length; i++) {
      if (node !== null && scene.src[i] !== node && !graph.reads(node, scene.dst[i])) continue;
      chosen.push(i);
      strongest = Math.max(strongest, Math.abs(scene.score[i]));
    }
    for (const i of chosen) {
      const share = strongest ? Math.sqrt(Math.abs(scene.score[i]) / strongest) : 0.4;
      const level = Math.min(LEVELS - 1, Math.floor(share * LEVELS));
      const colour = this.look.byStatus ? scene.status[i] : scene.score[i] < 0 ? 1 : 0;
      edges[colour][level].push(i);
    }
    const curved = chosen.length <= MOST_CURVES;
    const least = node === null ? 0.25 * Math.min(1, 25 / Math.sqrt(chosen.length + 1)) : 0.5; // fainter in a crowd
    for (let level = 0; level < LEVELS; level++) {
      for (const [colour, of] of edges.entries()) {
        const share = (level + 0.5) / LEVELS;
        context.strokeStyle = colours[colour];
        context.globalAlpha = least + (1 - least) * share;
        context.lineWidth = (node === null ? 0.7 : 1.2) + 3.3 * share * share;
        for (let start = 0; start < of[level].length; start += STROKE) {
          context.beginPath();
          for (const i of of[level].slice(start, start + STROKE)) layout.trace(context, scene.src[i], scene.dst[i], curved);
          context.stroke();
        }
      }
    }
  }

  // Brings the edges of a node forward: the one under the pointer, else the selected one.
  highlight(node) {
    const shown = node >= 0 ? node : this.selected;
    if (shown === this.highlighted && node >= 0) return;
    this.highlighted = shown;
    const any = shown >= 0 && this.elements.has(shown);
    this.canvas.classList.toggle("dimmed", any);
    if (any) this.drawEdges(this.over, shown);
    else this.over.getContext("2d").clearRect(0, 0, this.over.width, this.over.height);
  }

  key(event, node) {
    if (event.ctrlKey || event.metaKey || event.altKey || node < 0) return;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (event.key in moves) {
      event.preventDefault();
      this.focus(this.next(node, ...moves[event.key]));
    } else if (event.key === "Enter") {
      event.preventDefault();
      this.events.pin(node);
    }
  }

  focus(node) {
    const found = this.elements.get(node);
    if (!found) return;
    found.element.focus({ preventScroll: true });
    found.element.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  // The next live node sideways in its layer, or the nearest one of the next layer that has any.
  next(node, sideways, up) {
    const { graph, layout } = this;
    const { into, out } = this.degrees;
    const live = [...this.elements.keys()].filter((other) => other !== node && into[other] + out[other] > 0);
    const layer = graph.layerOf(node);
    if (sideways) {
      const row = live.filter((other) => graph.layerOf(other) === layer && (other - node) * sideways > 0);
      return sideways > 0 ? (row[0] ?? node) : (row.at(-1) ?? node);
    }
    const beyond = live.filter((other) => (graph.layerOf(other) - layer) * up > 0);
    const nearest = Math.min(...beyond.map((other) => Math.abs(graph.layerOf(other) - layer)));
    const row = beyond.filter((other) => Math.abs(graph.layerOf(other) - layer) === nearest);
    row.sort((one, other) => Math.abs(layout.x[one] - layout.x[node]) - Math.abs(layout.x[other] - layout.x[node]));
    return row[0] ?? node;
  }
}

function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}
