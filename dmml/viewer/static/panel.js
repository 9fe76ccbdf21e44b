// The parts of the panel: choices, the colour scale, the values of a tile, and the lists of top and bottom tiles.

import { formatted } from "./tiles.js";

const LISTED = 8; // tiles in each list

export const byId = (id) => document.getElementById(id);

/** Make an element with properties and children. */
export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** Fill a fieldset with radio buttons; `choose` is called with the index of the one that the user picks. */
export function fillRadios(fieldset, name, labels, current, keys, choose) {
  fieldset.querySelectorAll("label").forEach((label) => label.remove());
  labels.forEach((text, i) => {
    const input = make("input", { type: "radio", name, value: String(i), checked: i === current });
    input.addEventListener("change", () => choose(i));
    const key = keys && i < 9 ? [make("kbd", { textContent: String(i + 1), ariaHidden: "true" })] : [];
    fieldset.append(make("label", {}, input, make("span", { textContent: text }), ...key));
  });
  fieldset.hidden = labels.length === 0;
}

/** Draw the colour scale of a layer with its values, or the classes with their numbers of tiles. */
export function fillScale(figure, tiles, layer, colourMaps) {
  figure.replaceChildren();
  if (layer.kind === "classes") {
    const rows = tiles.classes.map(({ name, colour, n }) => {
      const square = make("i");
      square.style.background = `rgb(${colour})`;
      return make("li", {}, square, name, make("span", { textContent: n.toLocaleString("en") }));
    });
    figure.append(make("ul", {}, ...rows));
  } else if (layer.kind === "measurement") {
    const { limit, diverging } = tiles.measurements[layer.index];
    const colours = colourMaps[diverging ? "diverging" : "sequential"];
    const canvas = make("canvas", { width: colours.length, height: 1 });
    const image = new ImageData(colours.length, 1);
    colours.forEach((colour, i) => image.data.set([...colour, 255], 4 * i));
    canvas.getContext("2d").putImageData(image, 0, 0);
    const ends = diverging ? [-limit, 0, limit] : [0, limit / 2, limit];
    const labels = ends.map((value) => make("span", { textContent: formatted(value, diverging) }));
    figure.append(canvas, make("div", { className: "ends" }, ...labels));
  } else {
    figure.append(make("span", { textContent: `${tiles.n.toLocaleString("en")} tiles`, className: "hint" }));
  }
}

/** Show the values of a tile; −1 clears them. */
export function fillTile(container, slide, tiles, i) {
  if (i < 0) {
    const hint = "Click or tap a tile, or press Enter, to read its values.";
    container.replaceChildren(make("p", { className: "hint", textContent: hint }));
    return;
  }
  const edges = [tiles.x[i], tiles.y[i]].map((edge) => Math.round(edge).toLocaleString("en")).join("; ");
  const about = [make("p", { className: "name", textContent: tiles.name(i) })];
  if (tiles.category[i] >= 0) about.push(make("p", { textContent: tiles.classes[tiles.category[i]].name }));
  about.push(make("p", { className: "hint", textContent: `left and top edge, px: ${edges}` }));
  const rows = tiles.measurements.flatMap(({ name }, k) => [make("dt", { textContent: name }), make("dd", { textContent: tiles.text(k, i) })]);
  const picture = make("img", { src: pictureOf(slide, tiles, i), alt: "The tile's pixels" });
  container.replaceChildren(picture, ...about, make("dl", {}, ...rows));
}

/** List the tiles of highest and lowest value of a measurement; `choose` is called with a tile and its rank. */
export function fillRanking(section, slide, tiles, measurement, choose) {
  section.hidden = measurement < 0;
  if (measurement < 0) return;
  const order = tiles.order(measurement);
  const { name } = tiles.measurements[measurement];
  byId("ranking-of").textContent = `By ${name}, of ${order.length.toLocaleString("en")} tiles.`;
  const listed = (ranks) => ranks.map((rank) => {
    const i = order[rank];
    const value = tiles.text(measurement, i);
    const label = `Rank ${rank + 1}, tile ${tiles.name(i)}, ${name} ${value}`;
    const picture = make("img", { src: pictureOf(slide, tiles, i), alt: "", loading: "lazy" });
    const button = make("button", { type: "button", ariaLabel: label, title: label }, picture, value);
    button.dataset.tile = i;
    button.addEventListener("click", () => choose(i, rank));
    return make("li", {}, button);
  });
  const n = Math.min(LISTED, Math.ceil(order.length / 2));
  byId("top").replaceChildren(...listed([...Array(n).keys()]));
  byId("bottom").replaceChildren(...listed([...Array(n).keys()].map((k) => order.length - 1 - k)));
}

/** Mark the buttons of the selected tile. */
export function markCurrent(section, i) {
  section.querySelectorAll("button").forEach((button) => {
    if (Number(button.dataset.tile) === i) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  });
}

function pictureOf(slide, tiles, i) {
  return `slides/${slide}/tiles/${tiles.magnification}x/${i}.jpg`;
}
