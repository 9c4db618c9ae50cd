// Tables of every page: copied as CSV or LaTeX, and sorted by a click on a heading.
(() => {
  "use strict";
  const tables = JSON.parse(document.getElementById("table-data").textContent);
  const said = document.getElementById("said");

  // Copy buttons, also where the browser withholds the clipboard from files
  async function copy(text) {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* the older way below */ }
    const area = document.createElement("textarea");
    area.className = "hidden";
    area.setAttribute("aria-hidden", "true");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
  for (const button of document.querySelectorAll("button.copy")) {
    const name = button.textContent;
    button.addEventListener("click", async () => {
      const text = button.dataset.table ? tables[button.dataset.table][button.dataset.as] : button.previousElementSibling.textContent;
      const answer = (await copy(text)) ? "Copied" : "Can't copy here";
      button.textContent = answer;
      said.textContent = answer;
      setTimeout(() => { button.textContent = name; said.textContent = ""; }, 1500);
    });
  }

  // A figure comes before its interval and its unit; words are sorted as words, and what is undefined comes last.
  const number = (text) => { const found = text.replace(/,/g, "").match(/^[+-]?\d+(\.\d+)?/); return found ? Number(found[0]) : null; };
  function compare(a, b) {
    const [x, y] = [number(a), number(b)];
    if (x === null && y === null) return a.localeCompare(b, undefined, { numeric: true });
    return x === null ? 1 : y === null ? -1 : x - y;
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].sort((a, b) => compare(a.cells[column].textContent.trim(), b.cells[column].textContent.trim()));
        table.tBodies[0].append(...(down ? rows.reverse() : rows));
        said.textContent = `Sorted by ${button.textContent}, ${down ? "largest" : "smallest"} first`;
      });
    });
  }
})();
