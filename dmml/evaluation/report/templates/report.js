"use strict";
// Tables: a click on a column's name sorts by it, a second one turns the order round.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (!body || body.rows.length < 3) continue;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "descending" ||
        (!head.hasAttribute("aria-sort") && !head.classList.contains("number"));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => [row, told(row.cells[column])]);
      rows.sort(([, a], [, b]) => compare(a, b, down ? 1 : -1));
      body.append(...rows.map(([row]) => row));
    });
  });
}
function told(cell) {
  if (cell.dataset.order !== undefined) return Number(cell.dataset.order);
  const text = cell.firstChild ? cell.firstChild.textContent.trim() : "";
  return text === "—" || text === "" ? null : text;
}
function compare(a, b, sign) { // what is undefined stays at the end, whichever way
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
}

// Pictures: the words of a mark, or the values of all curves at the pointer's place.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
const ruler = document.createElement("div");
ruler.className = "ruler";
document.body.append(tip);
function say(lines, x, y) {
  tip.textContent = lines.join("\n");
  tip.hidden = false;
  const width = tip.offsetWidth, height = tip.offsetHeight;
  const left = Math.min(Math.max(x + 14, 4), document.documentElement.clientWidth - width - 4);
  tip.style.left = left + window.scrollX + "px";
  tip.style.top = (y - height - 12 < 4 ? y + 18 : y - height - 12) + window.scrollY + "px";
}
function hush() { tip.hidden = true; ruler.remove(); }
function at(line, x) {
  let found = null;
  for (let i = 0; i < line.x.length; i++) {
    if (line.step ? line.x[i] <= x : found === null || Math.abs(line.x[i] - x) < Math.abs(line.x[found] - x)) found = i;
  }
  if (line.step && x > line.x[line.x.length - 1]) return null;
  return found === null ? null : line.y[found];
}
for (const drawing of document.querySelectorAll(".drawing")) {
  const curves = drawing.dataset.readout ? JSON.parse(drawing.dataset.readout) : null;
  // A title of the SVG itself would be shown by the browser a second time.
  for (const title of drawing.querySelectorAll("g > title")) {
    title.parentNode.dataset.words = title.textContent;
    title.remove();
  }
  const answer = (event) => {
    const mark = event.target.closest("[data-words]");
    if (mark) { ruler.remove(); say([mark.dataset.words], event.clientX, event.clientY); return; }
    if (!curves) { hush(); return; }
    const frame = drawing.getBoundingClientRect();
    const [x0, y0, x1, y1] = curves.box;
    const share = ((event.clientX - frame.left) / frame.width - x0) / (x1 - x0);
    const height = (event.clientY - frame.top) / frame.height;
    if (share < 0 || share > 1 || height < y0 || height > y1) { hush(); return; }
    const [low, high] = curves.range;
    let x = low + share * (high - low);
    const whole = curves.at.startsWith("epoch");
    if (whole) x = Math.max(0, Math.round(x));
    const lines = curves.lines.map((line) => [line.name, at(line, x)]).filter(([, value]) => value !== null)
      .map(([name, value]) => `${name}: ${Number(value.toPrecision(3))}`);
    if (!lines.length) { hush(); return; }
    say([curves.at.replace("{}", whole ? String(x) : Math.max(0, x).toFixed(1)), ...lines], event.clientX, event.clientY);
    ruler.style.left = 100 * (x0 + (x1 - x0) * (x - low) / (high - low)) + "%";
    ruler.style.top = 100 * y0 + "%";
    ruler.style.height = 100 * (y1 - y0) + "%";
    drawing.append(ruler);
  };
  drawing.addEventListener("pointermove", answer);
  drawing.addEventListener("pointerdown", answer);
  drawing.addEventListener("pointerleave", hush);
}
window.addEventListener("scroll", hush, { passive: true });

// Layers of a picture and pictures of one kind: all, or the one that is chosen.
function choice(label, names, pick, start) {
  const row = document.createElement("div");
  row.className = "choice";
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", label);
  const buttons = names.map((name) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => press(name));
    row.append(button);
    return button;
  });
  function press(name) {
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.textContent === name)));
    pick(name);
  }
  press(start);
  return row;
}
for (const figure of document.querySelectorAll("figure[data-layers]")) {
  const names = figure.dataset.layers.split("|");
  const pick = (name) => {
    for (const part of figure.querySelectorAll("[data-layer]")) {
      part.style.display = name === "all" || part.dataset.layer === name ? "" : "none";
    }
  };
  figure.insertBefore(choice("Horizon", ["all", ...names], pick, "all"), figure.querySelector(".drawing"));
}
for (const group of document.querySelectorAll("[data-choose]")) {
  const items = [...group.children];
  if (items.length < 2) continue;
  const names = items.map((item) => item.dataset.name);
  const pick = (name) => items.forEach((item) => item.classList.toggle("unchosen", item.dataset.name !== name));
  group.before(choice(group.dataset.choose, names, pick, names[0]));
}

// On paper nothing can be unfolded: what a reader needs is, all but the configurations. Nor is a button painted in the
// column names that a browser repeats on the next sheet: their words stand there without one.
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
