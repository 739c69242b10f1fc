// Preprocessing of a drawing, pixel for pixel equal to mnist_mlp/data/picture.py by the same integer arithmetic: change both
// together. An ink map is {width, height, data}: data[row * width + column] from 0 to 255.

const { FIELD, BOX, CENTRE, WORK, INKED, THINNEST, THICKEST, FAINT, SPECK } = {{ constants }};

function inkMap(width, height) {
  return { width, height, data: new Uint8Array(width * height) };
}

// rgba: bytes of an image of white strokes on black; returns null if nothing is drawn
function findInk(rgba, width, height) {
  const ink = inkMap(width, height);
  let hasInk = false;
  for (let i = 0; i < ink.data.length; i++) {
    const value = rgba[4 * i];
    if (value >= FAINT) { ink.data[i] = value; hasInk = true; }
  }
  return hasInk ? removeSpecks(ink) : null;
}

function removeSpecks(ink) {
  const { width, height, data } = ink;
  const labels = new Int32Array(data.length), sizes = [0], stack = [];
  for (let start = 0; start < data.length; start++) {
    if (!data[start] || labels[start]) continue;
    const label = sizes.length;
    let size = 0;
    labels[start] = label;
    stack.push(start);
    while (stack.length) {
      const index = stack.pop(), row = Math.floor(index / width), column = index % width;
      size++;
      for (let r = Math.max(row - 1, 0); r <= Math.min(row + 1, height - 1); r++) {
        for (let c = Math.max(column - 1, 0); c <= Math.min(column + 1, width - 1); c++) {
          const next = r * width + c;
          if (data[next] && !labels[next]) { labels[next] = label; stack.push(next); }
        }
      }
    }
    sizes.push(size);
  }
  const largest = Math.max(...sizes), kept = inkMap(width, height);
  for (let i = 0; i < data.length; i++) {
    if (data[i] && sizes[labels[i]] * SPECK >= largest) kept.data[i] = data[i];
  }
  return kept;
}

function frame(ink) {
  ink = crop(ink);
  ink = crop(downscale(ink, Math.max(1, Math.floor(Math.max(ink.width, ink.height) / WORK))));
  ink = crop(normalizeStrokeWidth(ink));
  const longer = Math.max(ink.width, ink.height);
  const side = length => Math.max(1, Math.floor((2 * BOX * length + longer) / (2 * longer)));
  return centerByMass(resample(ink, side(ink.height), side(ink.width)));
}

function crop(ink) {
  let top = ink.height, bottom = -1, left = ink.width, right = -1;
  for (let row = 0; row < ink.height; row++) {
    for (let column = 0; column < ink.width; column++) {
      if (!ink.data[row * ink.width + column]) continue;
      top = Math.min(top, row);
      bottom = row;
      left = Math.min(left, column);
      right = Math.max(right, column);
    }
  }
  const cropped = inkMap(right - left + 1, bottom - top + 1);
  for (let row = 0; row < cropped.height; row++) {
    const start = (top + row) * ink.width + left;
    cropped.data.set(ink.data.subarray(start, start + cropped.width), row * cropped.width);
  }
  return cropped;
}

function downscale(ink, factor) {
  if (factor === 1) return ink;
  const small = inkMap(Math.ceil(ink.width / factor), Math.ceil(ink.height / factor)), area = factor * factor;
  for (let row = 0; row < small.height; row++) {
    for (let column = 0; column < small.width; column++) {
      let total = 0;
      for (let r = row * factor; r < Math.min((row + 1) * factor, ink.height); r++) {
        for (let c = column * factor; c < Math.min((column + 1) * factor, ink.width); c++) total += ink.data[r * ink.width + c];
      }
      small.data[row * small.width + column] = Math.floor((2 * total + area) / (2 * area));
    }
  }
  return small;
}

function normalizeStrokeWidth(ink) {
  const longer = Math.max(ink.width, ink.height), bordered = pad(ink, 1);
  const depth = squaredDistances(bordered, value => value < INKED);
  let sum = 0, count = 0;
  for (let i = 0; i < depth.length; i++) {
    if (bordered.data[i] >= INKED) { sum += Math.sqrt(depth[i]); count++; }
  }
  if (!count) return ink;
  const width = 4 * (sum / count) - 2;
  const target = Math.min(Math.max(width * BOX / longer, THINNEST), THICKEST);
  const radius = (target * longer - BOX * width) / (2 * (BOX - target));
  const steps = Math.floor(Math.abs(radius) + 0.5);
  if (steps === 0) return ink;
  const canvas = radius > 0 ? pad(ink, steps) : bordered;
  const distance = radius > 0 ? squaredDistances(canvas, value => value >= INKED) : depth;
  const normalized = inkMap(canvas.width, canvas.height);
  let hasInk = false;
  for (let i = 0; i < normalized.data.length; i++) {
    if (radius > 0 ? distance[i] <= steps * steps : distance[i] > steps * steps) { normalized.data[i] = 255; hasInk = true; }
  }
  if (!hasInk) normalized.data.set(canvas.data.map(value => value >= INKED ? 255 : 0));
  return normalized;
}

function pad(ink, margin) {
  const padded = inkMap(ink.width + 2 * margin, ink.height + 2 * margin);
  for (let row = 0; row < ink.height; row++) {
    padded.data.set(ink.data.subarray(row * ink.width, (row + 1) * ink.width), (row + margin) * padded.width + margin);
  }
  return padded;
}

// Exact squared distance of each pixel to the nearest target pixel, along columns, then along rows (Felzenszwalb and
// Huttenlocher, Distance Transforms of Sampled Functions, 2012).
function squaredDistances(ink, isTarget) {
  const { width, height } = ink, far = width * width + height * height + 1, distances = new Float64Array(width * height);
  for (let column = 0; column < width; column++) {
    let steps = width + height;
    for (let row = 0; row < height; row++) {
      steps = isTarget(ink.data[row * width + column]) ? 0 : steps + 1;
      distances[row * width + column] = steps;
    }
    steps = width + height;
    for (let row = height - 1; row >= 0; row--) {
      steps = isTarget(ink.data[row * width + column]) ? 0 : steps + 1;
      const index = row * width + column, nearest = Math.min(distances[index], steps);
      distances[index] = nearest >= width + height ? far : nearest * nearest;
    }
  }
  const parabolas = new Int32Array(width), starts = new Float64Array(width + 1), line = new Float64Array(width);
  for (let row = 0; row < height; row++) {
    line.set(distances.subarray(row * width, (row + 1) * width));
    let last = 0;
    parabolas[0] = 0;
    starts[0] = -Infinity;
    starts[1] = Infinity;
    for (let q = 1; q < width; q++) {
      let intersection;
      for (;;) {
        const p = parabolas[last];
        intersection = (line[q] + q * q - line[p] - p * p) / (2 * (q - p));
        if (intersection > starts[last]) break;
        last--;
      }
      parabolas[++last] = q;
      starts[last] = intersection;
      starts[last + 1] = Infinity;
    }
    for (let q = 0, k = 0; q < width; q++) {
      while (starts[k + 1] < q) k++;
      const p = parabolas[k];
      distances[row * width + q] = (q - p) * (q - p) + line[p];
    }
  }
  return distances;
}

function overlap(pixel, cell, size, cells) {
  return Math.max(Math.min((pixel + 1) * cells, (cell + 1) * size) - Math.max(pixel * cells, cell * size), 0);
}

function resample(ink, rows, columns) {
  const small = inkMap(columns, rows), area = ink.width * ink.height;
  for (let row = 0; row < rows; row++) {
    const top = Math.floor(row * ink.height / rows), bottom = Math.min(Math.ceil((row + 1) * ink.height / rows), ink.height);
    for (let column = 0; column < columns; column++) {
      const left = Math.floor(column * ink.width / columns);
      const right = Math.min(Math.ceil((column + 1) * ink.width / columns), ink.width);
      let total = 0;
      for (let r = top; r < bottom; r++) {
        const weight = overlap(r, row, ink.height, rows);
        for (let c = left; c < right; c++) total += weight * overlap(c, column, ink.width, columns) * ink.data[r * ink.width + c];
      }
      small.data[row * columns + column] = Math.floor((2 * total + area) / (2 * area));
    }
  }
  return small;
}

function centerByMass(ink) {
  let total = 0, down = 0, across = 0;
  for (let row = 0; row < ink.height; row++) {
    for (let column = 0; column < ink.width; column++) {
      const mass = ink.data[row * ink.width + column];
      total += mass;
      down += mass * row;
      across += mass * column;
    }
  }
  total = Math.max(total, 1);
  const corner = (moment, side) =>
    Math.min(Math.max(CENTRE - Math.floor((2 * moment + total) / (2 * total)), 0), FIELD - side);
  const top = corner(down, ink.height), left = corner(across, ink.width), field = new Uint8Array(FIELD * FIELD);
  for (let row = 0; row < ink.height; row++) {
    field.set(ink.data.subarray(row * ink.width, (row + 1) * ink.width), (top + row) * FIELD + left);
  }
  return field;
}
