// Draws the tiles on a canvas over the slide. Only what is in view is drawn, and far out a picture with a pixel per cell.

const MAX_RECTANGLES = 4000; // more tiles in view are drawn as one picture, in which they are shifted by half a tile at most
const GRID = [0, 94, 168];
const MIN_OUTLINED = 7; // side of a tile on the screen, in CSS pixels, from which its outline is drawn

export class Overlay {
  constructor(viewer, canvas, frame, aspect) {
    Object.assign(this, { viewer, canvas, frame, aspect, tiles: null, layer: null, opacity: 0.6, selected: -1 });
  }

  /** Show tiles in the colours of a layer: `colours` is (N × 3), or null for outlines alone. */
  show(tiles, colours) {
    Object.assign(this, { tiles, colours, raster: null });
    this.draw();
  }

  /** The position on the screen of pixel (0, 0) of the slide, and CSS pixels per pixel of the slide. */
  transform() {
    const { OpenSeadragon } = window;
    const start = this.viewer.viewport.pixelFromPoint(new OpenSeadragon.Point(0, 0), true);
    const end = this.viewer.viewport.pixelFromPoint(new OpenSeadragon.Point(1, this.aspect), true);
    return { x: start.x, y: start.y, sx: (end.x - start.x) / this.frame.width, sy: (end.y - start.y) / this.frame.height };
  }

  /** The pixel of the slide at a position on the screen. */
  slidePoint(position) {
    const view = this.transform();
    return { x: (position.x - view.x) / view.sx, y: (position.y - view.y) / view.sy };
  }

  draw() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.tiles?.n || !this.viewer.world.getItemCount()) return;
    const css = this.transform();
    const view = { x: css.x * ratio, y: css.y * ratio, sx: css.sx * ratio, sy: css.sy * ratio };
    const box = [-view.x / view.sx, -view.y / view.sy, (canvas.width - view.x) / view.sx, (canvas.height - view.y) / view.sy];
    if (this.opacity > 0) this.drawTiles(context, view, box, this.tiles.side * css.sx);
    if (this.selected >= 0) this.drawSelected(context, view, ratio);
  }

  drawTiles(context, view, box, side) {
    const visible = [];
    this.tiles.within(...box, (i) => visible.push(i));
    context.globalAlpha = this.opacity;
    if (visible.length > MAX_RECTANGLES) this.drawRaster(context, view);
    else if (this.colours) this.fill(context, view, visible);
    if (!this.colours && visible.length <= MAX_RECTANGLES && side >= MIN_OUTLINED) this.outline(context, view, visible);
    else if (!this.colours && visible.length <= MAX_RECTANGLES) this.fill(context, view, visible);
    context.globalAlpha = 1;
  }

  fill(context, view, visible) {
    for (const i of visible) {
      const [red, green, blue] = this.colours ? this.colours.subarray(3 * i, 3 * i + 3) : GRID;
      context.fillStyle = `rgb(${red},${green},${blue})`;
      context.fillRect(...this.rectangle(view, i));
    }
  }

  outline(context, view, visible) {
    context.strokeStyle = `rgb(${GRID})`;
    context.lineWidth = 1.5;
    context.beginPath();
    for (const i of visible) {
      const [x, y, width, height] = this.rectangle(view, i);
      context.rect(x + 0.5, y + 0.5, width, height);
    }
    context.stroke();
  }

  /** A tile's rectangle on whole pixels, so that adjacent tiles touch without a seam. */
  rectangle(view, i) {
    const { tiles } = this;
    const [x0, y0] = [Math.round(view.x + tiles.x[i] * view.sx), Math.round(view.y + tiles.y[i] * view.sy)];
    const x1 = Math.round(view.x + (tiles.x[i] + tiles.side) * view.sx);
    const y1 = Math.round(view.y + (tiles.y[i] + tiles.side) * view.sy);
    return [x0, y0, Math.max(1, x1 - x0), Math.max(1, y1 - y0)];
  }

  drawRaster(context, view) {
    this.raster ??= rasterOf(this.tiles, this.colours);
    const { tiles, raster } = this;
    const x = view.x + (tiles.left + raster.column * tiles.side) * view.sx;
    const y = view.y + (tiles.top + raster.row * tiles.side) * view.sy;
    context.imageSmoothingEnabled = tiles.side * view.sx < 1;
    const [width, height] = [raster.canvas.width * tiles.side * view.sx, raster.canvas.height * tiles.side * view.sy];
    context.drawImage(raster.canvas, x, y, width, height);
  }

  drawSelected(context, view, ratio) {
    const [x, y, width, height] = this.rectangle(view, this.selected);
    for (const [colour, line] of [["#ffffff", 5], ["#111111", 2.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = line * ratio;
      context.strokeRect(x, y, width, height);
    }
  }
}

/** A canvas with one pixel per cell of the grid, and the column and row of its first pixel. */
function rasterOf(tiles, colours) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < tiles.n; i++) {
    left = Math.min(left, tiles.column[i]);
    right = Math.max(right, tiles.column[i]);
    top = Math.min(top, tiles.row[i]);
    bottom = Math.max(bottom, tiles.row[i]);
  }
  const canvas = document.createElement("canvas");
  canvas.width = right - left + 1;
  canvas.height = bottom - top + 1;
  const image = new ImageData(canvas.width, canvas.height);
  for (let i = 0; i < tiles.n; i++) {
    const pixel = 4 * ((tiles.row[i] - top) * canvas.width + tiles.column[i] - left);
    for (let c = 0; c < 3; c++) image.data[pixel + c] = colours ? colours[3 * i + c] : GRID[c];
    image.data[pixel + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return { canvas, column: left, row: top };
}
