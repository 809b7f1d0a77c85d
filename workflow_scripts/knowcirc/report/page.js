// Tables that sort by a column and show the rows that hold a text. Without this script the page shows all the same.
"use strict";

function compare(a, b, numeric) {
  if (a === "" || b === "") return (a === "") - (b === ""); // what is missing comes last
  return numeric ? Number(a) - Number(b) : a.localeCompare(b);
}

function sortBy(table, place, button) {
  const head = button.parentElement;
  const descending = head.getAttribute("aria-sort") === "ascending";
  const numeric = head.classList.contains("number");
  const value = (row) => row.cells[place].dataset.value;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => {
    const order = compare(value(a), value(b), numeric);
    return descending && value(a) !== "" && value(b) !== "" ? -order : order;
  });
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  table.tBodies[0].append(...rows);
}

function filterBy(table, text, output) {
  const sought = text.trim().toLowerCase();
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    row.hidden = sought !== "" && !row.textContent.toLowerCase().includes(sought);
    shown += !row.hidden;
  }
  output.textContent = `${shown} rows`;
}

for (const figure of document.querySelectorAll("figure")) {
  const table = figure.querySelector("table");
  const tools = figure.querySelector(".tools");
  if (!table || !tools) continue;
  const input = tools.querySelector("input");
  input.addEventListener("input", () => filterBy(table, input.value, tools.querySelector("output")));
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = head.querySelector("button");
    button.addEventListener("click", () => sortBy(table, place, button));
  });
}
