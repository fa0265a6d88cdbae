"use strict";
// Sorting and filtering of rows that are all there already: nothing is made, nothing is loaded.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const field = (id) => document.getElementById(id);
  const value = (id) => (field(id) ? field(id).value : "");
  const number = (cell) =>
    cell && cell.dataset.value !== undefined ? Number(cell.dataset.value) : null;

  // As the page itself writes them (words.py).
  const rounded = (number, digits) => {
    const whole = Math.floor(Math.abs(number) * 10 ** digits + 0.5 + 1e-9) / 10 ** digits;
    return (number < 0 && whole ? -whole : whole).toFixed(digits);
  };
  const percent = (share) => {
    const text = rounded(100 * share, 1);
    if (share < 1 && text === "100.0") return ">99.9";
    if (share > 0 && text === "0.0") return "<0.1";
    return text;
  };
  const signed = (share) => rounded(share, 2).replace("-", "−");

  // ------------------------------------------------------------------ sorting

  const key = (row, at) => {
    const cell = row.cells[at];
    if (cell.matches(".model")) return cell.dataset.value;
    return number(cell);
  };

  const turn = (head) => {
    const small = head.matches(".model, .rank"); // these begin with the least
    const down = head.ariaSort ? head.ariaSort === "ascending" : !small;
    all("thead th", head.closest("table")).forEach((one) => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    sort(head);
  };

  const sort = (head) => {
    const table = head.closest("table");
    const at = head.cellIndex;
    const words = head.matches(".model");
    const down = head.ariaSort === "descending";
    const rows = all("tbody tr", table).map((row, place) => [key(row, at), place, row]);
    rows.sort(([a, i], [b, j]) => {
      if (a === null || b === null) return (a === null) - (b === null) || i - j; // none: last
      const order = words ? a.localeCompare(b) : a - b;
      return (down ? -order : order) || i - j;
    });
    table.tBodies[0].append(...rows.map(([, , row]) => row));
  };

  all(".board thead th").forEach((head) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => turn(head));
  });

  // ------------------------------------------------------------------ filtering

  const means = all(".board tbody td.mean");
  const ranks = all(".board td.rank");
  all(".board tbody").forEach((body) => {
    all("tr", body).forEach((row, place) => { row.dataset.place = place; });
  });
  all(".order").forEach((one) => { one.dataset.whole = one.textContent; });
  means.forEach((cell) => {
    const mark = cell.querySelector(".partial");
    cell.dataset.partial = mark ? "yes" : "";
    if (mark) mark.remove();
    cell.dataset.whole = cell.textContent;
    cell.dataset.wholeValue = cell.dataset.value ?? "";
    cell.dataset.best = cell.classList.contains("best") ? "yes" : "";
  });
  ranks.forEach((cell) => { cell.dataset.wholeValue = cell.dataset.value ?? ""; });

  const setValue = (cell, figure) => {
    if (figure === null || figure === "") delete cell.dataset.value;
    else cell.dataset.value = figure;
  };

  const figures = (row) => [...row.cells].filter((cell) => cell.dataset.shape && !cell.hidden);

  // How many of the settings shown have a figure of any row.
  const filled = (table) => {
    const found = new Set();
    for (const row of table.tBodies[0].rows)
      figures(row).forEach((cell) => { if (number(cell) !== null) found.add(cell.cellIndex); });
    return found.size;
  };

  const setMean = (cell, text, partial) => {
    cell.textContent = text;
    if (!partial) return;
    const mark = document.createElement("span");
    mark.className = "mark-of partial";
    mark.title = "over fewer settings than other rows";
    mark.textContent = "¶";
    cell.append(mark);
  };

  // The mean is over the settings that are shown; ranks stand for all of them, or for a single one.
  const summarise = (row, table, whole, most) => {
    const shown = figures(row);
    const mean = row.querySelector("td.mean");
    const rank = row.querySelector("td.rank");
    if (whole) {
      setMean(mean, mean.dataset.whole, mean.dataset.partial);
      setValue(mean, mean.dataset.wholeValue);
    } else {
      const known = shown.map(number).filter((one) => one !== null);
      const figure = known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
      const write = table.dataset.mean === "existence" ? signed : percent;
      setMean(mean, figure === null ? "–" : write(figure), known.length && known.length < most);
      setValue(mean, figure);
    }
    mean.classList.toggle("best", whole && mean.dataset.best === "yes");
    if (!rank) return;
    const single = !whole && shown.length === 1 ? shown[0].dataset.rank : undefined;
    rank.textContent = whole ? rank.dataset.rank : single ?? "–";
    const best = single ? single.split("–").map(Number) : null;
    setValue(rank, whole ? rank.dataset.wholeValue : best ? best[0] + (best[1] ?? best[0]) / 1000 : null);
  };

  const meanChance = (table, whole) => {
    const cell = table.querySelector("tfoot td.mean");
    cell.dataset.whole ??= cell.textContent;
    cell.textContent = whole ? cell.dataset.whole : "";
  };

  // Best first by what is shown, in all tables of a group alike but those that a reader has sorted.
  const reorder = (group, whole) => {
    const tables = all(".board", group);
    const by = group.dataset.sort;
    const column = tables[0].querySelector(`thead th[data-shape="${CSS.escape(by)}"]`);
    const asBuilt = whole || (column && !column.hidden);
    const rows = [...tables[0].tBodies[0].rows].map((row) => {
      const known = figures(row).filter((cell) => number(cell) !== null).length;
      const mean = number(row.querySelector("td.mean"));
      return { place: Number(row.dataset.place), known: by === "youden" ? known > 0 : known, mean };
    });
    rows.sort((a, b) => (asBuilt ? 0 : b.known - a.known || b.mean - a.mean) || a.place - b.place);
    for (const table of tables) {
      const body = table.tBodies[0];
      const head = table.querySelector("th[aria-sort]");
      const of = new Map([...body.rows].map((row) => [Number(row.dataset.place), row]));
      body.append(...rows.map(({ place }) => of.get(place)));
      if (head) sort(head);
    }
    const order = group.querySelector(".order");
    const lacks = !asBuilt && by !== "youden" && rows.some(({ known }) => known && known < rows[0].known);
    order.textContent = asBuilt ? order.dataset.whole
      : `Best mean ${by === "youden" ? "J" : "Exact"} over the settings shown first.`
        + (lacks ? " Rows that lack one stand below the others." : "");
  };

  // Notes on ranks that are shown, and sources of rows that are.
  const tell = (states) => {
    if (states.has("one") && !states.has("single")) states.add("whole"); // the same for its one setting
    all("[data-when]").forEach((one) => { one.hidden = !states.has(one.dataset.when); });
    const used = new Set(
      all(".group:not([hidden]) tbody tr:not([hidden]) a.mark-of").map((one) => one.getAttribute("href")),
    );
    const sources = all(".sources li");
    sources.forEach((one) => { one.hidden = !used.has(`#${one.id}`); });
    if (field("sources")) field("sources").hidden = !used.size;
  };

  const apply = () => {
    const text = value("filter-model").trim().toLowerCase();
    const needles = value("filter-needles");
    const scorer = value("filter-scorer");
    const published = field("filter-published");
    const ticks = all(".filter-shape");
    const shapes = new Set(ticks.filter((one) => one.checked).map((one) => one.value));
    const fits = (cell) => !ticks.length || shapes.has(cell.dataset.shape);
    const some = ticks.length && shapes.size > 1 && shapes.size < ticks.length;
    let rows = 0, found = 0;
    const states = new Set();
    for (const group of all(".group")) {
      const of = group.dataset;
      const kept =
        (!needles || of.needles === needles) &&
        (of.published === "yes" ? !published || published.checked : !scorer || of.scorer === scorer);
      let left = 0;
      all(".board", group).forEach((table, first) => {
        const columns = all("thead th[data-shape]", table);
        const whole = columns.every(fits);
        all("[data-shape]", table).forEach((cell) => { cell.hidden = !fits(cell); });
        const most = filled(table);
        for (const row of all("tbody tr", table)) {
          const named = !text || row.dataset.model.includes(text);
          row.hidden = !(named && (whole || figures(row).some((cell) => !cell.matches(".none"))));
          summarise(row, table, whole, most);
          if (first === 0) {
            rows += 1;
            left += !row.hidden;
          }
        }
        meanChance(table, whole);
      });
      group.hidden = !kept || !left;
      if (group.hidden) continue;
      found += left;
      const columns = all("thead th[data-shape]", group.querySelector(".board"));
      const shown = columns.filter(fits).length;
      const whole = shown === columns.length;
      reorder(group, whole);
      if (group.querySelector("td.rank")) states.add(whole && columns.length > 1 ? "whole" : shown === 1 ? (whole ? "one" : "single") : "some");
    }
    tell(states);
    field("found").textContent =
      found === rows ? `All ${rows} rows are shown.`
      : found ? `${found} of ${rows} rows are shown.`
      : "No row fits.";
    if (found && some && ranks.length)
      field("found").textContent += " Ranks stand for all settings or for one: choose one for its own.";
  };

  const filters = field("filters");
  filters.hidden = false;
  filters.addEventListener("input", apply);
  filters.addEventListener("submit", (event) => event.preventDefault());
  field("show-all").addEventListener("click", () => {
    filters.reset();
    apply();
  });
  filters.reset(); // a browser may have kept what was chosen before
  apply();
})();
