// What is looked at, as one object, and as the address's hash: a link restores the view.

export const DEFAULTS = {
  view: "circuits",
  a: "", // id of the first circuit
  b: "", // and of the one beside it
  mode: "overlay", // or side
  n: 300, // strongest edges of each circuit
  low: 0, // layers
  high: -1, // -1: the last
  kinds: "q,k,v,mlp,logits",
  roles: "", // no filter
  status: "shared,a,b",
  node: "",
  pins: "",
  paths: 1, // only what joins the pinned nodes
  reading: 0, // of several prompts
  from: -1, // the position whose attention is shown; -1: the last
  fact: 0,
  site: "", // kind.layer.position
  kind: "",
};

export const state = { ...DEFAULTS };
const listeners = [];

export const listOf = (text) => (text ? text.split(",") : []);

export function subscribe(listener) {
  listeners.push(listener);
}

// Changes some values, puts them into the address, and draws what depends on them.
export function change(values) {
  const changed = new Set(Object.keys(values).filter((name) => state[name] !== values[name]));
  if (!changed.size) return;
  Object.assign(state, values);
  history.replaceState(null, "", `#${written()}`);
  for (const listener of listeners) listener(changed);
}

export function written() {
  const differing = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name]);
  return new URLSearchParams(differing.map(([name, value]) => [name, String(value)])).toString();
}

// The values of a hash; names that are unknown and numbers that are none are left out.
export function read(hash) {
  const values = { ...DEFAULTS };
  for (const [name, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (!(name in DEFAULTS)) continue;
    const value = typeof DEFAULTS[name] === "number" ? Number.parseInt(text, 10) : text;
    if (!Number.isNaN(value)) values[name] = value;
  }
  return values;
}
