// Elements, numbers as texts, and the live region. Texts enter the page here alone, through textContent.

const SVG = "http://www.w3.org/2000/svg";

// An element with attributes, listeners (on...) and children: elements or texts.
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

// A number with three significant digits.
export function short(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e4 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(3)));
}

export const percent = (p) => (p > 0 && p < 0.0005 ? "<0.1 %" : `${(100 * p).toFixed(1)} %`);

export const count = (n) => n.toLocaleString("en-US");

// A token as it is written in figures: spaces at its ends as ␣, line breaks as escapes.
export function tokenText(token) {
  const shown = token.replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length));
  return shown.replace(/[\n\r\t]/g, (c) => ({ "\n": "\\n", "\r": "\\r", "\t": "\\t" })[c]) || "(empty)";
}

// Tells screen readers what is selected.
export function announce(text) {
  const live = byId("live");
  if (live.textContent !== text) live.textContent = text;
}

// A named choice with its label: options are [value, text] or, under a heading, [heading, [[value, text], ...]].
export function choice(label, options, value, onchange, id) {
  const option = ([name, text]) => el("option", { value: name, text, selected: name === value });
  const entries = options.map(([name, rest]) =>
    Array.isArray(rest) ? el("optgroup", { label: name }, rest.map(option)) : option([name, rest]),
  );
  return el("label", {}, label, el("select", { id, onchange: (event) => onchange(event.target.value) }, entries));
}

export function checkbox(label, checked, onchange, id) {
  const box = el("input", { type: "checkbox", id, checked, onchange: (event) => onchange(event.target.checked) });
  return el("label", { class: "check" }, box, label);
}
