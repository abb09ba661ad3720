// A field above every list marked data-filter; rows (data-rows) that do not hold all of its words are hidden, and what is folded opens.
// Without scripts there is no field, and everything is there.
for (const list of document.querySelectorAll("[data-filter]")) {
  const field = Object.assign(document.createElement("input"), { type: "search", className: "filter", name: "filter", placeholder: list.dataset.filter });
  const count = document.createElement("output");
  field.setAttribute("aria-label", list.dataset.filter);
  list.prepend(field, count);
  field.addEventListener("input", () => {
    const rows = [...list.querySelectorAll(list.dataset.rows)];
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = (document.getElementById(row.dataset.of ?? "") ?? row).textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    list.querySelectorAll("details.rest").forEach((one) => { one.open = words.length > 0; });
    const shown = rows.filter((row) => !row.hidden && !row.dataset.of).length;
    count.textContent = words.length ? ` ${shown} of ${rows.filter((row) => !row.dataset.of).length}` : "";
  });
}
// Where a browser does not unfold what a link leads to.
addEventListener("hashchange", () => {
  const target = document.getElementById(location.hash.slice(1));
  const folded = target?.closest("details:not([open])");
  if (folded) { folded.open = true; target.scrollIntoView(); }
});
