// @ts-check
// The tables of a report are sorted by their headings; without this script they can be read as they are.

/**
 * What a cell is sorted by: its number if it has one, else its text.
 * @param {HTMLTableRowElement} row
 * @param {number} column
 */
function keyOf(row, column) {
  const cell = row.cells[column];
  return cell.dataset.v === undefined ? (cell.textContent ?? "").trim() : Number(cell.dataset.v);
}

/**
 * The rows in order; equal ones keep theirs, in both directions.
 * @param {HTMLTableRowElement[]} rows
 * @param {number} column
 * @param {boolean} up
 */
function sorted(rows, column, up) {
  const keys = new Map(rows.map((row) => [row, keyOf(row, column)]));
  const direction = up ? 1 : -1;
  return [...rows].sort((first, second) => {
    const [a, b] = [keys.get(first) ?? "", keys.get(second) ?? ""];
    if (typeof a === "number" && typeof b === "number") return direction * (a - b);
    return direction * String(a).localeCompare(String(b), undefined, { numeric: true });
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  const body = /** @type {HTMLTableElement} */ (table).tBodies[0];
  const headings = [.../** @type {HTMLTableElement} */ (table).rows[0].cells];
  for (const [column, heading] of headings.entries()) {
    if (heading.dataset.sort === "no") continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const up = heading.ariaSort === null ? heading.dataset.sort !== "down" : heading.ariaSort === "descending";
      for (const each of headings) each.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...sorted([...body.rows], column, up));
    });
  }
}
