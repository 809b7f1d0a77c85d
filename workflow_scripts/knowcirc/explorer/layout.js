// Where nodes and receivers stand: layers upward, heads by index from left to right, then the MLP, half a row higher.

const GUTTER = 34; // for the layers' numbers
const MARGIN = 22;
const LEAST_COLUMN = 20;

export class Layout {
  constructor(graph, width, low, high) {
    Object.assign(this, { graph, low, high });
    this.column = Math.max(LEAST_COLUMN, (width - GUTTER - 8) / (graph.heads + 1.6));
    this.width = Math.max(width, Math.ceil(GUTTER + 8 + this.column * (graph.heads + 1.6)));
    const rows = high - low + 1;
    this.row = Math.max(30, Math.min(64, 1000 / rows));
    this.height = Math.ceil((rows + 1.6) * this.row + 2 * MARGIN);
    this.nodeWidth = Math.min(30, this.column - 4);
    this.nodeHeight = 15;
    this.wideWidth = Math.min(46, this.column * 1.5 - 4);
    this.x = new Float32Array(graph.nNodes);
    this.y = new Float32Array(graph.nNodes);
    for (let node = 0; node < graph.nNodes; node++) [this.x[node], this.y[node]] = this.place(node);
    this.fillReceivers();
  }

  shows(node) {
    const layer = this.graph.layerOf(node);
    return node === 0 || node === this.graph.logits || (layer >= this.low && layer <= this.high);
  }

  yOf(layer) {
    return this.height - MARGIN - this.row * (layer - this.low + 1.1);
  }

  place(node) {
    const { graph } = this;
    const centre = GUTTER + (this.column * (graph.heads + 1.6)) / 2;
    if (node === 0) return [centre, this.height - MARGIN];
    if (node === graph.logits) return [centre, MARGIN];
    const place = graph.placeOf(node);
    const y = this.yOf(graph.layerOf(node));
    if (place === graph.heads) return [GUTTER + this.column * (graph.heads + 0.8), y - 0.45 * this.row];
    return [GUTTER + this.column * (place + 0.5), y];
  }

  widthOf(node) {
    return this.graph.isHead(node) ? this.nodeWidth : this.wideWidth;
  }

  // An input of a head enters below it: queries on the left, keys in the middle, values on the right. One that heads
  // share enters at the bracket below the group.
  fillReceivers() {
    const { graph } = this;
    this.inX = new Float32Array(graph.nDst);
    this.inY = new Float32Array(graph.nDst);
    for (let dst = 0; dst < graph.nDst; dst++) {
      const first = graph.firstOf[dst];
      const shared = graph.countOf[dst] > 1;
      const kind = graph.kindOf[dst];
      const middle = (this.x[first] + this.x[first + graph.countOf[dst] - 1]) / 2;
      const offset = kind > 2 ? 0 : (kind - 1) * (shared ? 5 : this.nodeWidth / 3);
      this.inX[dst] = middle + offset;
      this.inY[dst] = this.y[first] + this.nodeHeight / 2 + (shared ? 5 : 0);
    }
  }

  // The brackets below heads that share keys and values, as pieces of an SVG path.
  brackets() {
    const { graph } = this;
    if (graph.kv === graph.heads) return "";
    const pieces = [];
    const group = graph.heads / graph.kv;
    for (let layer = this.low; layer <= this.high; layer++) {
      for (let k = 0; k < graph.kv; k++) {
        const first = 1 + layer * (graph.heads + 1) + k * group;
        const y = this.y[first] + this.nodeHeight / 2 + 4;
        const [left, right] = [this.x[first] - this.nodeWidth / 2, this.x[first + group - 1] + this.nodeWidth / 2];
        pieces.push(`M${left} ${y - 2}V${y}H${right}V${y - 2}`);
      }
    }
    return pieces.join("");
  }

  // Adds an edge to a canvas path; where `curved`, edges within a column bend, so that they do not hide each other.
  trace(path, src, dst, curved) {
    const x1 = this.x[src];
    const y1 = this.y[src] - this.nodeHeight / 2;
    const x2 = this.inX[dst];
    const y2 = this.inY[dst];
    const upright = curved && Math.abs(x1 - x2) < this.column * 0.6;
    const right = x1 > this.width / 2 ? -1 : 1;
    const bend = upright ? right * Math.min(0.16 * (y1 - y2), 2.5 * this.column) : 0;
    path.moveTo(x1, y1);
    if (upright) path.quadraticCurveTo((x1 + x2) / 2 + bend, (y1 + y2) / 2, x2, y2);
    else path.lineTo(x2, y2);
  }
}
