// Sorts the table of runs by the column that is clicked, and keeps it up to date while it is looked at; ticks and order stay.
const table = document.querySelector("#runs");
let by = null, way = 1;
const value = (row) => row.cells[by].dataset.value ?? row.cells[by].textContent.trim();
function compareRows(a, b) {
  const [one, two] = [value(a), value(b)];
  const known = [one, two].map((text) => text !== "" && text !== "–");
  if (known[0] !== known[1]) return known[0] ? -1 : 1; // what is not known comes last either way
  const [x, y] = [Number(one), Number(two)];
  return way * (Number.isNaN(x) || Number.isNaN(y) ? one.localeCompare(two, undefined, { numeric: true }) : x - y);
}
function sort() {
  if (by !== null) table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compareRows));
}
async function refresh() {
  if (document.hidden) return;
  const answer = await fetch(location.pathname).catch(() => null);
  if (!answer?.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("#runs").tBodies[0];
  const names = new Set([...fresh.rows].map((row) => row.id));
  for (const row of [...table.tBodies[0].rows]) if (!names.has(row.id)) row.remove();
  for (const row of [...fresh.rows]) {
    const old = document.getElementById(row.id);
    if (!old) { table.tBodies[0].append(row); continue; }
    old.querySelector("input").disabled = row.querySelector("input").disabled;
    [...row.cells].forEach((cell, i) => {
      if (i && old.cells[i].outerHTML !== cell.outerHTML) old.cells[i].replaceWith(cell);
    });
  }
  sort();
}
if (table) {
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    if (!i) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      way = by === i ? -way : 1;
      by = i;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      sort();
    });
  });
  setTimeout(async function again() { await refresh(); setTimeout(again, 2000); }, 2000);
}
