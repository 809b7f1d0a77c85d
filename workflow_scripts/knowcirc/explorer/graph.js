// The graph of a model as the circuits number it: senders and receivers, which nodes they belong to, and names.

export const KINDS = ["q", "k", "v", "mlp", "logits"];

export class Graph {
  constructor({ layers, heads, kv }) {
    Object.assign(this, { layers, heads, kv });
    this.width = heads + 2 * kv + 1; // receivers in a layer
    this.nSrc = 1 + layers * (heads + 1);
    this.nDst = layers * this.width + 1;
    this.logits = this.nSrc; // as a node: after all senders
    this.nNodes = this.nSrc + 1;
    this.names = ["input"];
    for (let layer = 0; layer < layers; layer++) {
      for (let head = 0; head < heads; head++) this.names.push(`a${layer}.h${head}`);
      this.names.push(`m${layer}`);
    }
    this.names.push("logits");
    this.numbers = new Map(this.names.map((name, node) => [name, node]));
    this.fillReceivers();
  }

  // For each receiver its kind, and the nodes that compute from it: `count` of them from `first` on.
  fillReceivers() {
    const group = this.heads / this.kv;
    this.kindOf = new Uint8Array(this.nDst);
    this.firstOf = new Uint16Array(this.nDst);
    this.countOf = new Uint8Array(this.nDst).fill(1);
    for (let dst = 0; dst < this.nDst - 1; dst++) {
      const layer = Math.floor(dst / this.width);
      const place = dst % this.width;
      const start = 1 + layer * (this.heads + 1);
      if (place < this.heads) this.firstOf[dst] = start + place;
      else if (place === this.width - 1) [this.kindOf[dst], this.firstOf[dst]] = [3, start + this.heads];
      else {
        this.kindOf[dst] = place < this.heads + this.kv ? 1 : 2;
        this.firstOf[dst] = start + ((place - this.heads) % this.kv) * group;
        this.countOf[dst] = group;
      }
    }
    [this.kindOf[this.nDst - 1], this.firstOf[this.nDst - 1]] = [4, this.logits];
  }

  // -1 for the input, the number of layers for the logits.
  layerOf(node) {
    if (node === 0) return -1;
    return node === this.logits ? this.layers : Math.floor((node - 1) / (this.heads + 1));
  }

  // A head's index, the number of heads for an MLP; -1 for input and logits.
  placeOf(node) {
    return node === 0 || node === this.logits ? -1 : (node - 1) % (this.heads + 1);
  }

  isHead(node) {
    const place = this.placeOf(node);
    return place >= 0 && place < this.heads;
  }

  // Whether a node computes from a receiver.
  reads(node, dst) {
    const first = this.firstOf[dst];
    return node >= first && node < first + this.countOf[dst];
  }

  receiverName(dst) {
    const kind = KINDS[this.kindOf[dst]];
    const name = this.names[this.firstOf[dst]];
    if (kind === "mlp" || kind === "logits") return name;
    if (this.countOf[dst] === 1) return `${name}<${kind}>`;
    const layer = this.layerOf(this.firstOf[dst]);
    return `a${layer}.h${this.placeOf(this.firstOf[dst]) / this.countOf[dst]}<${kind}>`;
  }

  describe(node) {
    if (node === 0) return "input";
    if (node === this.logits) return "logits";
    const place = this.placeOf(node);
    const layer = this.layerOf(node);
    return place === this.heads ? `MLP of layer ${layer}` : `head ${place} of layer ${layer}`;
  }

  // The node of a name, also a15.3, A15H3, mlp20; -1 if there is none.
  find(text) {
    const plain = text.trim().toLowerCase().replace(/\s/g, "");
    const head = plain.match(/^[al]?(\d+)[.h:]+(\d+)$/);
    const mlp = plain.match(/^m(?:lp)?(\d+)$/);
    const name = head ? `a${Number(head[1])}.h${Number(head[2])}` : mlp ? `m${Number(mlp[1])}` : plain;
    return this.numbers.get(name) ?? -1;
  }
}

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

export const readShorts = (text) => new Uint16Array(bytesOf(text).buffer);
export const readFloats = (text) => new Float32Array(bytesOf(text).buffer);

// A circuit's edges, the strongest first, and which pairs of sender and receiver are among them.
export class Circuit {
  constructor(packed, graph) {
    Object.assign(this, packed);
    this.src = readShorts(packed.src);
    this.dst = readShorts(packed.dst);
    this.score = readFloats(packed.score);
    this.nDst = graph.nDst;
    this.held = this.src.length;
    this.members = new Set();
    for (let i = 0; i < this.held; i++) this.members.add(this.src[i] * this.nDst + this.dst[i]);
    this.alive = new Uint8Array(graph.nNodes);
    for (let i = 0; i < this.held; i++) this.alive[this.src[i]] = 1;
    if (this.held) this.alive[graph.logits] = 1;
  }

  has(src, dst) {
    return this.members.has(src * this.nDst + dst);
  }
}
