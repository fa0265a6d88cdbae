"use strict";
// Drawing haystacks: photos from the sheets in the page, cells framed in SVG above them.

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = 320; // units of a drawing's longer side: frames and labels keep their size
const SMALL = 110; // the same for small drawings

function bytesOf(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// One data set's photos. Everything is read when it is first asked for.
class Album {
  constructor(number, bits) {
    this.number = number;
    this.bits = bits;
    const block = document.getElementById(`album-${number}`);
    this.about = block && JSON.parse(atob(block.textContent));
    this.pictures = new Map();
  }

  get hasPhotos() { return Boolean(this.about); }

  // Which photo stands at a place of the packed haystacks.
  photoAt(place) {
    this.stacks ??= bytesOf(`stacks-${this.number}`);
    let value = 0;
    for (let bit = place * this.bits; bit < (place + 1) * this.bits; bit += 1) {
      value = value * 2 + ((this.stacks[bit >> 3] >> (7 - (bit & 7))) & 1);
    }
    return value;
  }

  // Where a photo's tile is: its file and its box there; null where it is only a colour.
  tile(photo) {
    let [tier, place, first] = [0, photo, 0];
    if (this.about.sheets.length > 1 && photo >= this.about.close) {
      [tier, place, first] = [1, photo - this.about.close, this.about.sheets[0][4]];
    } else if (photo >= this.about.close) {
      return null;
    }
    const [width, height, across, each] = this.about.sheets[tier];
    const within = place % each;
    return {
      file: first + Math.floor(place / each),
      x: (within % across) * width,
      y: Math.floor(within / across) * height,
      width,
      height,
    };
  }

  colour(photo) {
    this.colours ??= bytesOf(`colours-${this.number}`);
    const at = 3 * (photo - this.about.close);
    return `rgb(${this.colours[at]} ${this.colours[at + 1]} ${this.colours[at + 2]})`;
  }

  picture(file) {
    if (!this.pictures.has(file)) {
      const blob = new Blob([bytesOf(`sheet-${this.number}-${file}`)], { type: this.about.kind });
      this.pictures.set(file, createImageBitmap(blob));
    }
    return this.pictures.get(file);
  }

  // Draw photos row by row on a canvas; width and height are those of one, in pixels.
  async draw(canvas, photos, cols, width, height) {
    canvas.width = cols * width;
    canvas.height = Math.ceil(photos.length / cols) * height;
    const paint = canvas.getContext("2d");
    paint.imageSmoothingQuality = "high";
    await Promise.all(photos.map(async (photo, i) => {
      const [x, y] = [(i % cols) * width, Math.floor(i / cols) * height];
      const tile = this.tile(photo);
      if (!tile) {
        paint.fillStyle = this.colour(photo);
        paint.fillRect(x, y, width, height);
        return;
      }
      const picture = await this.picture(tile.file);
      paint.drawImage(picture, tile.x, tile.y, tile.width, tile.height, x, y, width, height);
    }));
    canvas.dataset.drawn = "true";
  }

  get shape() { return this.about.sheets[0][1] / this.about.sheets[0][0]; }
}

function drawn(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// A label's plate: the true cell's above it, the given cell's below; inside where cells are wide.
function plate(mark, x, y, wide, high, width, height) {
  const [long, tall] = [7.4 * mark.text.length + 10, 18];
  const left = Math.min(Math.max(0, x + wide / 2 - long / 2), width - long);
  const [above, below, inner] = [y - tall + 1, y + high - 1, wide > 90];
  let top;
  if (mark.name === "given") {
    top = inner ? below - tall - 4 : below + tall <= height ? below : above;
  } else {
    top = inner ? y + 4 : above >= 0 ? above : below;
  }
  return [
    drawn("rect", { class: `plate ${mark.name}`, x: left, y: top, width: long, height: tall, rx: 4 }),
    drawn("text", { class: `plate ${mark.name}`, x: left + long / 2, y: top + 13 }, mark.text),
  ];
}

// Frames over one image of rows x cols cells whose height is `shape` times their width.
function frames(marks, rows, cols, shape, side) {
  const scale = side / Math.max(cols, rows * shape);
  const [wide, high] = [scale, scale * shape];
  const [width, height] = [cols * wide, rows * high];
  const svg = drawn("svg", { class: "marks", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  for (const mark of marks) {
    const [x, y] = [wide * mark.column, high * mark.row];
    const place = { x: x + 2, y: y + 2, width: wide - 4, height: high - 4 };
    svg.append(drawn("rect", { class: "ground", ...place }));
    svg.append(drawn("rect", { class: `frame ${mark.name}`, ...place }));
  }
  for (const mark of marks) {
    svg.append(...plate(mark, wide * mark.column, high * mark.row, wide, high, width, height));
  }
  return svg;
}
