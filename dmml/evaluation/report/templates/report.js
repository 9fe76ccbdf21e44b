"use strict";
// Tables: a click on the name of a column sorts by it; a second click reverses the order.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (!body || body.rows.length < 3) continue;
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "descending" ||
        (!header.hasAttribute("aria-sort") && !header.classList.contains("number"));
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", down ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => [row, sortKey(row.cells[column])]);
      rows.sort(([, a], [, b]) => compare(a, b, down ? 1 : -1));
      body.append(...rows.map(([row]) => row));
    });
  });
}
function sortKey(cell) {
  if (cell.dataset.order !== undefined) return Number(cell.dataset.order);
  const text = cell.firstChild ? cell.firstChild.textContent.trim() : "";
  return text === "—" || text === "" ? null : text;
}
function compare(a, b, sign) { // undefined values stay at the end in either order
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
}

// Plots: the tooltip of a mark, or the values of all curves at the position of the pointer.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
const ruler = document.createElement("div");
ruler.className = "ruler";
document.body.append(tip);
function showTip(lines, x, y) {
  tip.textContent = lines.join("\n");
  tip.hidden = false;
  const width = tip.offsetWidth, height = tip.offsetHeight;
  const left = Math.min(Math.max(x + 14, 4), document.documentElement.clientWidth - width - 4);
  tip.style.left = left + window.scrollX + "px";
  tip.style.top = (y - height - 12 < 4 ? y + 18 : y - height - 12) + window.scrollY + "px";
}
function hideTip() { tip.hidden = true; ruler.remove(); }
function valueAt(line, x) {
  let index = null;
  for (let i = 0; i < line.x.length; i++) {
    if (line.step ? line.x[i] <= x : index === null || Math.abs(line.x[i] - x) < Math.abs(line.x[index] - x)) index = i;
  }
  if (line.step && x > line.x[line.x.length - 1]) return null;
  return index === null ? null : line.y[index];
}
for (const drawing of document.querySelectorAll(".drawing")) {
  const curves = drawing.dataset.readout ? JSON.parse(drawing.dataset.readout) : null;
  // The browser would show a title of the SVG a second time.
  for (const title of drawing.querySelectorAll("g > title")) {
    title.parentNode.dataset.tooltip = title.textContent;
    title.remove();
  }
  const onPointer = (event) => {
    const mark = event.target.closest("[data-tooltip]");
    if (mark) { ruler.remove(); showTip([mark.dataset.tooltip], event.clientX, event.clientY); return; }
    if (!curves) { hideTip(); return; }
    const frame = drawing.getBoundingClientRect();
    const [x0, y0, x1, y1] = curves.box;
    const share = ((event.clientX - frame.left) / frame.width - x0) / (x1 - x0);
    const height = (event.clientY - frame.top) / frame.height;
    if (share < 0 || share > 1 || height < y0 || height > y1) { hideTip(); return; }
    const [low, high] = curves.range;
    let x = low + share * (high - low);
    const whole = curves.heading.startsWith("epoch");
    if (whole) x = Math.max(0, Math.round(x));
    const lines = curves.lines.map((line) => [line.name, valueAt(line, x)]).filter(([, value]) => value !== null)
      .map(([name, value]) => `${name}: ${Number(value.toPrecision(3))}`);
    if (!lines.length) { hideTip(); return; }
    showTip([curves.heading.replace("{}", whole ? String(x) : Math.max(0, x).toFixed(1)), ...lines], event.clientX, event.clientY);
    ruler.style.left = 100 * (x0 + (x1 - x0) * (x - low) / (high - low)) + "%";
    ruler.style.top = 100 * y0 + "%";
    ruler.style.height = 100 * (y1 - y0) + "%";
    drawing.append(ruler);
  };
  drawing.addEventListener("pointermove", onPointer);
  drawing.addEventListener("pointerdown", onPointer);
  drawing.addEventListener("pointerleave", hideTip);
}
window.addEventListener("scroll", hideTip, { passive: true });

// Layers of a plot, and plots of one kind: all of them, or the chosen one.
function choice(label, names, select, start) {
  const row = document.createElement("div");
  row.className = "choice";
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", label);
  const buttons = names.map((name) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => choose(name));
    row.append(button);
    return button;
  });
  function choose(name) {
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.textContent === name)));
    select(name);
  }
  choose(start);
  return row;
}
for (const figure of document.querySelectorAll("figure[data-layers]")) {
  const names = figure.dataset.layers.split("|");
  const select = (name) => {
    for (const part of figure.querySelectorAll("[data-layer]")) {
      part.style.display = name === "all" || part.dataset.layer === name ? "" : "none";
    }
  };
  figure.insertBefore(choice("Curve", ["all", ...names], select, "all"), figure.querySelector(".drawing"));
}
for (const group of document.querySelectorAll("[data-choose]")) {
  const items = [...group.children];
  if (items.length < 2) continue;
  const names = items.map((item) => item.dataset.name);
  const select = (name) => items.forEach((item) => item.classList.toggle("unchosen", item.dataset.name !== name));
  group.before(choice(group.dataset.choose, names, select, names[0]));
}

// Nothing can be unfolded on paper, so everything but the configurations is opened. Buttons in the column names would
// be missing where a browser repeats these names on the next sheet, so the names are printed without them.
window.addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details.printed")) folded.open = true;
  for (const button of document.querySelectorAll("thead button")) {
    button.before(...button.childNodes);
    button.hidden = true;
  }
});
window.addEventListener("afterprint", () => {
  for (const button of document.querySelectorAll("thead button")) {
    button.append(...[...button.parentNode.childNodes].filter((node) => node !== button));
    button.hidden = false;
  }
});
