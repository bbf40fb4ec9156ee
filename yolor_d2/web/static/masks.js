// Masks in COCO's compressed run lengths, and their shapes at the size at which they are shown.

// Returns the lengths of alternating runs of 0 and 1.
export function decodeCounts(text) {
  const counts = [];
  for (let at = 0; at < text.length;) {
    let value = 0, shift = 0, code;
    do {
      code = text.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16 && shift < 32) value |= -1 << shift;
    if (counts.length > 2) value += counts[counts.length - 2];
    counts.push(value);
  }
  return counts;
}

// Returns the smallest window with all pixels of a mask: {x, y, width, height, inside, edges}, where
// inside has 1 for its pixels, by rows, and edges says which sides are the picture's: [left, top,
// right, bottom]. Null for an empty mask.
export function maskWindow(rle) {
  const [height, columns] = rle.size; // of the picture; runs go down its columns
  const runs = [];
  let left = Infinity, right = -1, top = Infinity, bottom = -1;
  let at = 0;
  decodeCounts(rle.counts).forEach((count, number) => {
    if (number % 2 && count) {
      runs.push(at, at + count);
      const first = Math.floor(at / height), last = Math.floor((at + count - 1) / height);
      left = Math.min(left, first);
      right = Math.max(right, last);
      top = Math.min(top, first === last ? at % height : 0);
      bottom = Math.max(bottom, first === last ? (at + count - 1) % height : height - 1);
    }
    at += count;
  });
  if (!runs.length) return null;
  const width = right - left + 1, rows = bottom - top + 1;
  const inside = new Uint8Array(width * rows);
  for (let run = 0; run < runs.length; run += 2) {
    for (let pixel = runs[run]; pixel < runs[run + 1]; pixel++) {
      inside[(pixel % height - top) * width + Math.floor(pixel / height) - left] = 1;
    }
  }
  const edges = [left === 0, top === 0, right === columns - 1, bottom === height - 1];
  return { x: left, y: top, width, height: rows, inside, edges };
}

// Returns a window enlarged or reduced by a factor, with smooth borders, in pixels of the screen.
export function scaleWindow(window, scale) {
  const padded = withMargin(window);
  const x = Math.floor((window.x - 1) * scale), y = Math.floor((window.y - 1) * scale);
  const width = Math.ceil((window.x + window.width + 1) * scale) - x;
  const height = Math.ceil((window.y + window.height + 1) * scale) - y;
  const scaled = canvasOf(width, height).getContext("2d", { willReadFrequently: true });
  scaled.imageSmoothingQuality = "high";
  scaled.drawImage(
    padded, (window.x - 1) * scale - x, (window.y - 1) * scale - y,
    padded.width * scale, padded.height * scale,
  );
  const { data } = scaled.getImageData(0, 0, width, height);
  const inside = new Uint8Array(width * height);
  for (let pixel = 0; pixel < inside.length; pixel++) inside[pixel] = data[4 * pixel + 3] >> 7;
  return { x, y, width, height, inside };
}

// Returns a canvas with the pixels of a window; the color is [red, green, blue]. Stripes tell the
// color of a class from the color of the object below.
export function paintArea({ width, height, inside }, [red, green, blue], period) {
  return painted(width, height, (pixel) => {
    if (!inside[pixel]) return 0;
    const place = (pixel % width + Math.floor(pixel / width)) % period;
    return 2 * place < period ? 255 : 110;
  }, red, green, blue);
}

// Returns a canvas with the border of a window, inside its pixels. Edges of the picture are none.
export function paintBorder({ width, height, inside }, [red, green, blue], line) {
  const steps = [];
  for (let angle = 0; angle < 16; angle++) {
    const x = Math.round(line * Math.cos(angle * Math.PI / 8));
    const y = Math.round(line * Math.sin(angle * Math.PI / 8));
    steps.push([x, y]);
  }
  return painted(width, height, (pixel) => {
    if (!inside[pixel]) return 0;
    const x = pixel % width, y = Math.floor(pixel / width);
    const isBorder = steps.some(([dx, dy]) => {
      const column = Math.max(0, Math.min(x + dx, width - 1));
      const row = Math.max(0, Math.min(y + dy, height - 1));
      return !inside[row * width + column];
    });
    return isBorder ? 255 : 0;
  }, red, green, blue);
}

// Returns the innermost point of a window, {x, y, depth}, from distances to its border.
export function innermost({ x, y, width, height, inside }) {
  const step = Math.max(1, Math.round(Math.max(width, height) / 160));
  const columns = Math.ceil(width / step) + 2, rows = Math.ceil(height / step) + 2;
  const far = new Float32Array(columns * rows); // 0 outside
  const isInside = (column, row) =>
    inside[Math.min((row - 1) * step, height - 1) * width + Math.min((column - 1) * step, width - 1)];
  const relax = (place, neighbors) => {
    for (const [other, cost] of neighbors) far[place] = Math.min(far[place], far[other] + cost);
  };
  for (let row = 1; row < rows - 1; row++) {
    for (let column = 1; column < columns - 1; column++) {
      if (!isInside(column, row)) continue;
      const place = row * columns + column;
      far[place] = Infinity;
      relax(place, [[place - 1, 1], [place - columns, 1], [place - columns - 1, 1.4], [place - columns + 1, 1.4]]);
    }
  }
  let best = 0;
  for (let row = rows - 2; row > 0; row--) {
    for (let column = columns - 2; column > 0; column--) {
      const place = row * columns + column;
      if (!far[place]) continue;
      relax(place, [[place + 1, 1], [place + columns, 1], [place + columns + 1, 1.4], [place + columns - 1, 1.4]]);
      if (far[place] > far[best]) best = place;
    }
  }
  return {
    x: x + (best % columns - 1) * step,
    y: y + (Math.floor(best / columns) - 1) * step,
    depth: far[best] * step,
  };
}

export function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

// Returns a canvas that is opaque inside a window, with a margin of a pixel: empty, but at edges of
// the picture the continuation of the mask.
function withMargin({ width, height, inside, edges: [left, top, right, bottom] }) {
  const columns = width + 2;
  return painted(columns, height + 2, (pixel) => {
    let x = pixel % columns - 1, y = Math.floor(pixel / columns) - 1;
    if (left) x = Math.max(x, 0);
    if (top) y = Math.max(y, 0);
    if (right) x = Math.min(x, width - 1);
    if (bottom) y = Math.min(y, height - 1);
    const isWithin = x >= 0 && y >= 0 && x < width && y < height;
    return isWithin && inside[y * width + x] ? 255 : 0;
  }, 0, 0, 0);
}

function painted(width, height, alphaOf, red, green, blue) {
  const canvas = canvasOf(width, height);
  const pixels = new ImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    const alpha = alphaOf(pixel);
    if (alpha) pixels.data.set([red, green, blue, alpha], 4 * pixel);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}
