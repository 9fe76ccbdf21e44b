// The viewer's page: opens slides in OpenSeadragon, and connects the overlay, the panel and the keys.

import { listenToKeys } from "./keyboard.js";
import { Overlay } from "./overlay.js";
import { byId, fillRadios, fillRanking, fillScale, fillTile, make, markCurrent } from "./panel.js";
import { loadTiles } from "./tiles.js";

const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const state = { collection: null, index: 0, slide: null, tiles: null, layer: 0, opacity: 60, selected: -1, rank: -1 };
let viewer = null;
let overlay = null;
let requests = 0; // slides and magnifications that the user has chosen so far

async function start() {
  state.collection = await fetchJson("slides.json");
  byId("title").textContent = state.collection.title;
  document.title = `${state.collection.title} – dmml view`;
  const options = state.collection.slides.map(({ name, group }, i) => make("option", { value: String(i), textContent: group ? `${group}: ${name}` : name }));
  byId("slides").append(...options);
  byId("slides").addEventListener("change", (event) => openSlide(Number(event.target.value)).catch(fail));
  byId("opacity").addEventListener("input", (event) => setOpacity(Number(event.target.value)));
  byId("zoom-in").addEventListener("click", () => zoom(2));
  byId("zoom-out").addEventListener("click", () => zoom(0.5));
  byId("whole").addEventListener("click", whole);
  byId("show-help").addEventListener("click", help);
  const wanted = Number(location.hash.slice(1)) - 1;
  await openSlide(wanted in state.collection.slides ? wanted : 0);
  document.addEventListener("pointerdown", () => document.body.classList.remove("keyboard"));
  listenToKeys({ pan, zoom, whole, help, toggle, step, readCentre, layer: chooseLayer, magnification: nextMagnification, opacity: (by) => setOpacity(state.opacity + by) });
}

async function fetchJson(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error("the slide cannot be read; the console of dmml view says why");
  return response.json();
}

/** Open a slide. While it loads, the user may choose another: then what arrives late is not shown. */
async function openSlide(index) {
  document.body.dataset.state = "loading";
  const request = ++requests;
  const slide = await fetchJson(`slides/${index}.json`);
  if (request !== requests) return;
  Object.assign(state, { index, slide, tiles: null, selected: -1, rank: -1 });
  overlay?.show(null, null);
  byId("slides").value = String(index);
  history.replaceState(null, "", `#${index + 1}`);
  showNote(slide.note);
  byId("warnings").replaceChildren(...slide.warnings.map((textContent) => make("p", { textContent })));
  byId("warnings").hidden = !slide.warnings.length;
  byId("lines").replaceChildren(...slide.lines.map((textContent) => make("p", { textContent })));
  byId("use").textContent = slide.use;
  byId("use").hidden = !slide.use;
  await openPicture();
  if (request !== requests) return;
  overlay = new Overlay(viewer, byId("overlay"), slide, slide.picture.height / slide.picture.width);
  await chooseMagnification(slide.magnifications.length - 1);
  if (state.slide === slide) document.body.dataset.state = "ready";
}

/** Open the slide's pixels, and wait until OpenSeadragon knows their size. */
function openPicture() {
  const { picture } = state.slide;
  const index = state.index;
  const source = {
    width: picture.width, height: picture.height, tileSize: picture.tileSize, tileOverlap: picture.overlap,
    getTileUrl: (level, x, y) => `slides/${index}/zoom/${level}/${x}_${y}.jpg`,
  };
  const magnified = state.slide.width / picture.width; // a thumbnail is enlarged as far as its slide would be
  if (viewer === null) makeViewer();
  viewer.maxZoomPixelRatio = 4 * magnified;
  viewer.viewport && (viewer.viewport.maxZoomPixelRatio = 4 * magnified);
  return new Promise((resolve) => {
    viewer.addOnceHandler("open", resolve);
    viewer.open(source);
  });
}

function makeViewer() {
  const gestures = { clickToZoom: false, dblClickToZoom: true };
  viewer = window.OpenSeadragon({
    element: byId("slide"), drawer: "canvas", showNavigationControl: false, showNavigator: byId("stage").clientWidth > 500,
    navigatorPosition: "TOP_RIGHT", navigatorBackground: "#ffffff",
    navigatorSizeRatio: 0.16, gestureSettingsMouse: gestures, gestureSettingsTouch: gestures, gestureSettingsPen: gestures,
    animationTime: still ? 0 : 0.4, visibilityRatio: 0.3, minZoomImageRatio: 0.7, preserveImageSizeOnResize: true,
  });
  viewer.innerTracker.keyDownHandler = null; // the page has keys of its own
  viewer.innerTracker.keyHandler = null;
  viewer.canvas.removeAttribute("tabindex");
  viewer.addHandler("update-viewport", redraw);
  viewer.addHandler("resize", () => requestAnimationFrame(redraw));
  viewer.addHandler("canvas-click", (event) => event.quick && select(tileAt(event.position)));
  byId("stage").addEventListener("pointermove", hover);
  byId("stage").addEventListener("pointerleave", () => (byId("readout").hidden = true));
  const { navigator } = viewer;
  navigator?.element.setAttribute("aria-hidden", "true");
  navigator?.element.querySelectorAll("[tabindex]").forEach((element) => element.removeAttribute("tabindex"));
}

function redraw() {
  overlay?.draw();
  if (overlay) drawScaleBar(overlay.transform().sx / state.slide.mpp);
}

/** Draw a bar of a round length; `scale` is in CSS pixels per µm. */
function drawScaleBar(scale) {
  const target = 110 / scale;
  const power = 10 ** Math.floor(Math.log10(target));
  const length = [5, 2, 1].map((k) => k * power).find((um) => um <= target);
  byId("scalebar").lastElementChild.style.width = `${length * scale}px`;
  byId("scalebar").firstElementChild.textContent = length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(1))} µm`;
}

// Layers

function layersOf(tiles) {
  const layers = tiles.measurements.map(({ name }, index) => ({ kind: "measurement", name, index }));
  if (tiles.classes.length) layers.push({ kind: "classes", name: "classes" });
  return layers.length ? layers : [{ kind: "grid", name: "tiles" }];
}

async function chooseMagnification(k) {
  const { magnifications } = state.slide;
  if (!magnifications.length) return;
  const name = state.tiles && layersOf(state.tiles)[state.layer]?.name;
  const request = ++requests;
  const tiles = await loadTiles(state.index, magnifications[k]);
  if (request !== requests) return;
  state.tiles = tiles;
  const labels = magnifications.map(({ magnification, n }) => `${magnification}× (${n.toLocaleString("en")} tiles)`);
  fillRadios(byId("magnifications"), "magnification", labels, k, false, chooseMagnification);
  const layers = layersOf(state.tiles);
  select(-1);
  chooseLayer(Math.max(0, layers.findIndex((layer) => layer.name === name)));
}

function nextMagnification() {
  if (!state.tiles) return;
  const { magnifications } = state.slide;
  const k = magnifications.findIndex(({ magnification }) => magnification === state.tiles.magnification);
  if (magnifications.length > 1) chooseMagnification((k + 1) % magnifications.length);
}

function chooseLayer(k) {
  if (!state.tiles) return;
  const layers = layersOf(state.tiles);
  if (!(k in layers)) return;
  Object.assign(state, { layer: k, rank: -1 });
  fillRadios(byId("layers"), "layer", layers.map(({ name }) => name), k, true, chooseLayer);
  fillScale(byId("scale"), state.tiles, layers[k], state.collection.colours);
  fillRanking(byId("ranking"), state.index, state.tiles, ranked(), (i, rank) => fly(i, rank));
  markCurrent(byId("ranking"), state.selected);
  setOpacity(state.opacity);
  overlay.show(state.tiles, coloursOf(state.tiles, layers[k]));
}

/** The measurement by which tiles are listed: the layer's, else the first; −1 if there is none. */
function ranked() {
  const layer = layersOf(state.tiles)[state.layer];
  return layer.kind === "measurement" ? layer.index : state.tiles.measurements.length ? 0 : -1;
}

/** The colour of every tile, N × 3; null for a layer without colours. */
function coloursOf(tiles, layer) {
  if (layer.kind === "grid") return null;
  const colours = new Uint8ClampedArray(3 * tiles.n);
  const none = [150, 150, 150];
  if (layer.kind === "classes") {
    for (let i = 0; i < tiles.n; i++) colours.set(tiles.classes[tiles.category[i]]?.colour ?? none, 3 * i);
    return colours;
  }
  const { limit, diverging } = tiles.measurements[layer.index];
  const map = state.collection.colours[diverging ? "diverging" : "sequential"];
  const values = tiles.values[layer.index];
  for (let i = 0; i < tiles.n; i++) {
    const share = diverging ? (values[i] / limit + 1) / 2 : values[i] / limit;
    const colour = Number.isNaN(share) ? none : map[Math.round(Math.min(1, Math.max(0, share)) * (map.length - 1))];
    colours.set(colour, 3 * i);
  }
  return colours;
}

function setOpacity(percent) {
  state.opacity = Math.min(100, Math.max(0, percent));
  byId("opacity").value = String(state.opacity);
  byId("opacity-value").textContent = `${state.opacity} %`;
  if (!overlay) return;
  overlay.opacity = state.opacity / 100;
  overlay.draw();
}

let opacityBefore = 60;
function toggle() {
  if (state.opacity > 0) opacityBefore = state.opacity;
  setOpacity(state.opacity > 0 ? 0 : opacityBefore);
}

// Tiles

function tileAt(position) {
  const { x, y } = overlay.slidePoint(position);
  return state.tiles ? state.tiles.at(x, y) : -1;
}

function select(i) {
  state.selected = i;
  overlay.selected = i;
  overlay.draw();
  fillTile(byId("tile"), state.index, state.tiles, i);
  markCurrent(byId("ranking"), i);
}

function hover(event) {
  const readout = byId("readout");
  const onSlide = state.tiles && event.pointerType === "mouse" && event.target.closest("#slide");
  const bounds = byId("stage").getBoundingClientRect();
  const i = onSlide && overlay ? tileAt({ x: event.clientX - bounds.left, y: event.clientY - bounds.top }) : -1;
  readout.hidden = i < 0;
  if (i < 0) return;
  const layer = layersOf(state.tiles)[state.layer];
  const value = layer.kind === "measurement" ? `: ${layer.name} ${state.tiles.text(layer.index, i)}` : "";
  const category = state.tiles.classes[state.tiles.category[i]]?.name;
  readout.textContent = `${state.tiles.name(i)}${value}${category ? `, ${category}` : ""}`;
}

function fly(i, rank = -1) {
  const { tiles, slide } = state;
  const margin = 1.5 * tiles.side;
  const aspect = overlay.aspect / slide.height;
  const box = new window.OpenSeadragon.Rect((tiles.x[i] - margin) / slide.width, (tiles.y[i] - margin) * aspect,
    (tiles.side + 2 * margin) / slide.width, (tiles.side + 2 * margin) * aspect);
  viewer.viewport.fitBounds(box, still);
  state.rank = rank;
  select(i);
}

function step(by) {
  if (!state.tiles || ranked() < 0) return;
  const order = state.tiles.order(ranked());
  if (!order.length) return;
  const rank = Math.min(order.length - 1, Math.max(0, state.rank < 0 ? 0 : state.rank + by));
  fly(order[rank], rank);
}

function readCentre() {
  document.body.classList.add("keyboard");
  const stage = byId("stage");
  select(tileAt({ x: stage.clientWidth / 2, y: stage.clientHeight / 2 }));
}

// Moving

function pan(x, y) {
  document.body.classList.add("keyboard"); // shows the centre, whose tile Enter reads
  const bounds = viewer.viewport.getBounds();
  viewer.viewport.panBy(new window.OpenSeadragon.Point(0.15 * x * bounds.width, 0.15 * y * bounds.height), still);
  viewer.viewport.applyConstraints();
}

function zoom(by) {
  viewer.viewport.zoomBy(by, null, still);
  viewer.viewport.applyConstraints();
}

function whole() {
  viewer.viewport.goHome(still);
}

function help() {
  byId("help").showModal();
}

function showNote(text) {
  byId("note").textContent = text ?? "";
  byId("note").hidden = !text;
}

function fail(error) {
  showNote(`This cannot be shown: ${error.message}.`);
  document.body.dataset.state = "failed";
}

start().catch(fail);
