// The tiles of one magnification: their numbers, which of them lie in a rectangle, and their order by a measurement.

const BUCKET = 16; // cells per side of a bucket, in which tiles are looked up

/** Fetch the tiles of a slide at a magnification; `description` is its entry in the slide's JSON. */
export async function loadTiles(index, description) {
  const response = await fetch(`slides/${index}/tiles/${description.magnification}x.bin`);
  if (!response.ok) throw new Error(`the tiles at ${description.magnification}x cannot be read`);
  return new Tiles(description, new Float32Array(await response.arrayBuffer()));
}

export class Tiles {
  constructor(description, numbers) {
    Object.assign(this, description);
    const column = (i) => numbers.subarray(i * this.n, (i + 1) * this.n);
    [this.x, this.y, this.column, this.row, this.category] = [0, 1, 2, 3, 4].map(column);
    this.values = this.measurements.map((_, i) => column(5 + i));
    // Where column 0 and row 0 begin: 0 unless the slide has bounds, or tiles of another tool are shifted.
    this.left = this.n ? this.x[0] - this.column[0] * this.side : 0;
    this.top = this.n ? this.y[0] - this.row[0] * this.side : 0;
    this.buckets = new Map();
    this.orders = new Map();
    for (let i = 0; i < this.n; i++) {
      const key = bucketKey(Math.floor(this.column[i] / BUCKET), Math.floor(this.row[i] / BUCKET));
      if (!this.buckets.has(key)) this.buckets.set(key, []);
      this.buckets.get(key).push(i);
    }
  }

  /** Call `visit` with every tile that may overlap a rectangle, in pixels of the slide. */
  within(x0, y0, x1, y1, visit) {
    const bucket = (value, start) => Math.floor(Math.floor((value - start) / this.side) / BUCKET);
    const [left, right] = [bucket(x0 - 2 * this.side, this.left), bucket(x1 + 2 * this.side, this.left)];
    const [top, bottom] = [bucket(y0 - 2 * this.side, this.top), bucket(y1 + 2 * this.side, this.top)];
    if ((right - left + 1) * (bottom - top + 1) > this.buckets.size) {
      for (const tiles of this.buckets.values()) tiles.forEach(visit);
      return;
    }
    for (let row = top; row <= bottom; row++) {
      for (let column = left; column <= right; column++) this.buckets.get(bucketKey(column, row))?.forEach(visit);
    }
  }

  /** The tile at a point, in pixels of the slide; −1 if there is none. */
  at(x, y) {
    let result = -1;
    this.within(x, y, x, y, (i) => {
      const inside = x >= this.x[i] && x < this.x[i] + this.side && y >= this.y[i] && y < this.y[i] + this.side;
      if (inside) result = i;
    });
    return result;
  }

  /** Tiles from the highest to the lowest value of a measurement, without those that have none. */
  order(measurement) {
    if (!this.orders.has(measurement)) {
      const values = this.values[measurement];
      const measured = Array.from(values.keys()).filter((i) => !Number.isNaN(values[i]));
      this.orders.set(measurement, measured.sort((a, b) => values[b] - values[a] || a - b));
    }
    return this.orders.get(measurement);
  }

  name(i) {
    return `${this.magnification}x ${this.column[i]},${this.row[i]}`;
  }

  /** A value as text: contributions with their sign, others without. */
  text(measurement, i) {
    const value = this.values[measurement][i];
    return Number.isNaN(value) ? "not measured" : formatted(value, this.measurements[measurement].diverging);
  }
}

/** Three significant digits; a sign if the number is a difference. */
export function formatted(value, signed) {
  const digits = Number(Math.abs(value).toPrecision(3));
  const text = digits !== 0 && digits < 0.001 ? digits.toExponential() : String(digits);
  const sign = value < 0 && digits !== 0 ? "−" : signed && digits !== 0 ? "+" : "";
  return sign + text;
}

function bucketKey(column, row) {
  return column * 1_000_003 + row;
}
