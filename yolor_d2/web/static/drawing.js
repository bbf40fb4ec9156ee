// Draws predictions on pictures: areas, boxes, labels, and one object in the spotlight.

import { canvasOf, innermost, maskWindow, paintArea, paintBorder, scaleWindow } from "./masks.js";

const FONT = "system-ui, sans-serif";

// Something that was found: an object, a segment or a region.
export class Item {
  // Args: an entry of the prediction, its color [red, green, blue], and whether it is a part of a
  // map, not an object.
  constructor(entry, color, isRegion = false) {
    this.entry = entry;
    this.isRegion = isRegion;
    this.name = entry.category_name;
    this.score = entry.score;
    this.box = entry.bbox; // x, y, width, height
    this.color = color;
  }

  get text() {
    return this.score === undefined ? this.name : `${this.name} ${percent(this.score)}`;
  }

  get window() {
    if (this.#window === undefined) {
      const mask = this.entry.segmentation;
      this.#window = mask ? maskWindow(mask) : null;
    }
    return this.#window;
  }

  // Whether a point of the picture is inside the mask, or else the box.
  contains(x, y) {
    const box = this.window ?? { x: this.box[0], y: this.box[1], width: this.box[2], height: this.box[3] };
    const column = Math.floor(x - box.x), row = Math.floor(y - box.y);
    if (column < 0 || row < 0 || column >= box.width || row >= box.height) return false;
    return !this.window || this.window.inside[row * box.width + column] === 1;
  }

  // Returns area, border and window at a scale; null without a mask.
  shape(scale, line) {
    if (!this.window) return null;
    if (this.#shape?.scale !== scale || this.#shape?.line !== line) {
      const window = scaleWindow(this.window, scale);
      this.#shape = {
        scale, line, window,
        area: paintArea(window, this.color, 6 * line),
        border: paintBorder(window, this.color, line),
      };
    }
    return this.#shape;
  }

  #window = undefined;
  #shape = null;
}

export function percent(share) {
  return `${Math.round(100 * share)} %`;
}

export function cssColor([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}

// Draws on a canvas.
//
// Args:
//   picture: an image element.
//   size: {width, height} of the prediction, to which all items refer.
//   scale: pixels of the canvas for a pixel of the prediction.
//   unit: pixels of the canvas for a pixel of the page, for lines and text.
//   view: {areas, boxes, labeled, selected, opacity}; the first three are lists of items. The
//     selected item, if there is one, is drawn alone.
export function draw(canvas, picture, size, scale, unit, view) {
  canvas.width = Math.round(size.width * scale);
  canvas.height = Math.round(size.height * scale);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const line = Math.max(1, Math.round(2 * unit));
  if (view.selected) {
    spotlight(context, view.selected, scale, line);
    drawLabels(context, [view.selected], scale, unit);
    return;
  }
  for (const item of largeFirst(view.areas)) drawArea(context, item, scale, line, view.opacity);
  for (const item of largeFirst(view.boxes)) drawBox(context, item, scale, line);
  drawLabels(context, view.labeled, scale, unit);
}

// Returns a canvas with the picture and the caption below.
export function withCaption(canvas, text, unit) {
  if (!text) return canvas;
  const size = Math.round(16 * unit), margin = Math.round(10 * unit);
  const measuring = canvas.getContext("2d");
  measuring.font = `${size}px ${FONT}`;
  const lines = wrapped(measuring, text, canvas.width - 2 * margin);
  const step = Math.round(1.4 * size);
  const whole = canvasOf(canvas.width, canvas.height + 2 * margin + step * lines.length);
  const context = whole.getContext("2d");
  context.fillStyle = "#fafaf8";
  context.fillRect(0, 0, whole.width, whole.height);
  context.drawImage(canvas, 0, 0);
  context.fillStyle = "#202024";
  context.font = `${size}px ${FONT}`;
  context.textBaseline = "middle";
  lines.forEach((words, number) => {
    context.fillText(words, margin, canvas.height + margin + (number + 0.5) * step);
  });
  return whole;
}

function largeFirst(items) {
  return [...items].sort((a, b) => b.box[2] * b.box[3] - a.box[2] * a.box[3]);
}

function drawArea(context, item, scale, line, opacity) {
  const shape = item.shape(scale, line);
  if (!shape) return;
  const { x, y } = shape.window;
  context.save();
  context.globalAlpha = opacity;
  context.drawImage(shape.area, x, y);
  context.globalAlpha = 1;
  halo(context, line);
  context.drawImage(shape.border, x, y);
  context.restore();
}

function drawBox(context, item, scale, line) {
  const [x, y, width, height] = item.box.map((side) => side * scale);
  context.save();
  halo(context, line);
  context.lineWidth = line;
  context.strokeStyle = cssColor(item.color);
  context.strokeRect(x + line / 2, y + line / 2, Math.max(width - line, 1), Math.max(height - line, 1));
  context.restore();
}

// A thin dark glow, so that lines stay visible on objects of their own color.
function halo(context, line) {
  context.shadowColor = "rgb(0 0 0 / 75%)";
  context.shadowBlur = line;
}

function spotlight(context, item, scale, line) {
  const { width, height } = context.canvas;
  const veil = canvasOf(width, height);
  const dark = veil.getContext("2d");
  dark.fillStyle = "rgb(0 0 0 / 65%)";
  dark.fillRect(0, 0, width, height);
  dark.globalCompositeOperation = "destination-out";
  const shape = item.shape(scale, line);
  if (shape) {
    // The area is striped: drawing it several times makes its pixels opaque.
    for (let times = 0; times < 8; times++) dark.drawImage(shape.area, shape.window.x, shape.window.y);
  } else {
    dark.fillRect(...item.box.map((side) => side * scale));
  }
  context.drawImage(veil, 0, 0);
  if (shape) drawArea(context, item, scale, line, 0);
  else drawBox(context, item, scale, 2 * line);
}

// Labels never cover each other; those without a free place are left out, lowest score first.
function drawLabels(context, items, scale, unit) {
  const size = Math.round(13 * unit), margin = Math.round(5 * unit), height = Math.round(20 * unit);
  context.font = `600 ${size}px ${FONT}`;
  context.textBaseline = "middle";
  const { width: right, height: bottom } = context.canvas;
  const taken = [];
  for (const item of items) {
    const width = Math.ceil(context.measureText(item.text).width) + 2 * margin;
    const place = placesOf(item, scale, width, height)
      .map(([x, y]) => [Math.max(0, Math.min(x, right - width)), Math.max(0, Math.min(y, bottom - height))])
      .find(([x, y]) => taken.every(([left, top, other]) =>
        x + width <= left || left + other <= x || y + height <= top || top + height <= y));
    if (!place || width > right || height > bottom) continue;
    const [x, y] = place.map(Math.round);
    taken.push([x, y, width]);
    context.fillStyle = cssColor(item.color);
    context.fillRect(x, y, width, height);
    context.fillStyle = isLight(item.color) ? "#16181d" : "#ffffff";
    context.fillText(item.text, x + margin, y + height / 2 + unit / 2);
  }
}

// Returns the corners where a label can be, best first: around the box of an object, or inside a
// region.
function placesOf(item, scale, width, height) {
  if (item.isRegion) {
    const shape = item.shape(scale, 2);
    if (!shape) return [];
    const { x, y } = innermost(shape.window);
    return [0, -1, 1, -2, 2].map((rows) => [x - width / 2, y + (rows - 0.5) * height]);
  }
  const [left, top, w, h] = item.box.map((side) => side * scale);
  const lefts = [left, left + w - width, left + (w - width) / 2];
  const around = [top - height, top + h, top, top + h - height].flatMap((y) => lefts.map((x) => [x, y]));
  return [...around, [left + w, top], [left - width, top]];
}

function isLight([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue >= 140;
}

function wrapped(context, text, width) {
  const lines = [];
  for (const word of text.split(/\s+/)) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && context.measureText(longer).width <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}
