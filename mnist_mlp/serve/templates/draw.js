// Drawing and prediction. A stroke is a list of [x, y] in pixels of the sheet; strokes are white on black, like MNIST.

const PEN = 44, UNITS = 8, ANNOUNCE_AFTER_MS = 700;
const stored = JSON.parse(document.getElementById("net").textContent);
const net = { activation: stored.activation, layers: stored.layers.map(decodeLayer) };
const element = name => document.getElementById(name);
const sheet = element("sheet"), pen = sheet.getContext("2d", { willReadFrequently: true });
const classes = stored.classes, isDigits = classes.join() === "0,1,2,3,4,5,6,7,8,9";
const strokes = [];
let current = null, isScheduled = false, announcement = 0;

const bars = classes.map(name => {
  const row = element("bars").appendChild(document.createElement("li"));
  const append = (parent, className) => {
    const span = parent.appendChild(document.createElement("span"));
    span.className = className;
    return span;
  };
  append(row, "name").textContent = name;
  const fill = append(append(row, "track"), "fill"), value = append(row, "value");
  return { row, fill, value };
});

function drawStroke(points) {
  pen.lineWidth = PEN;
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = "#fff";
  pen.beginPath();
  pen.moveTo(...points[0]);
  if (points.length === 1) pen.lineTo(points[0][0] + 0.01, points[0][1]);
  for (const point of points.slice(1)) pen.lineTo(...point);
  pen.stroke();
}

function redraw() {
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, sheet.width, sheet.height);
  strokes.forEach(drawStroke);
  scheduleUpdate();
}

function scheduleUpdate() {
  element("hint").hidden = strokes.length > 0;
  element("undo").disabled = element("clear").disabled = strokes.length === 0;
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(() => { isScheduled = false; update(); });
}

function undo() {
  if (!strokes.length) return;
  strokes.pop();
  current = null;
  redraw();
}

function clear() {
  if (!strokes.length) return;
  strokes.length = 0;
  current = null;
  redraw();
}

function networkInput() {
  const ink = findInk(pen.getImageData(0, 0, sheet.width, sheet.height).data, sheet.width, sheet.height);
  return ink && frame(ink);
}

function update() {
  const pixels = networkInput();
  if (!pixels) return showEmpty();
  const result = forward(net, pixels);
  const order = result.probabilities.map((_, label) => label);
  order.sort((a, b) => result.probabilities[b] - result.probabilities[a]);
  const [first, second] = order;
  showPrediction(result.probabilities, first, second);
  const contributions = contributionsTo(net, result, first, second);
  paint(element("input"), pixels, value => [value, value, value]);
  paintSigned(element("contributions"), contributions.pixels, Math.max(...contributions.pixels.map(Math.abs)), pixels);
  element("contributions-text").textContent = `evidence for and against ${classes[first]}, compared with ${classes[second]}`;
  showUnits(contributions.units, first, second);
}

function showEmpty() {
  element("digit").textContent = "?";
  element("sentence").textContent = "Nothing drawn yet";
  for (const { row, fill, value } of bars) {
    row.className = "";
    fill.style.width = "0";
    value.textContent = "";
  }
  for (const name of ["input", "contributions"]) element(name).getContext("2d").clearRect(0, 0, FIELD, FIELD);
  element("contributions-text").textContent = "evidence for and against the prediction";
  element("units").replaceChildren();
  element("units-text").textContent = "The largest appear here when you draw.";
  announce("Nothing drawn yet");
}

const percent = fraction => `${(100 * fraction).toFixed(1)} %`;
const described = label => isDigits ? `${label === 8 ? "an" : "a"} ${label}` : `“${classes[label]}”`;

function showPrediction(probabilities, first, second) {
  const highest = probabilities[first], next = probabilities[second];
  const lead = highest >= 0.9 ? "This is" : highest >= 0.6 ? "Probably" : "Uncertain: perhaps";
  const confidence = highest >= 0.9995 ? "over 99.9 %" : percent(highest);
  const alternative = next >= 0.0005 ? `; next most likely: ${classes[second]} (${percent(next)})` : "";
  element("digit").textContent = classes[first];
  element("digit").className = classes[first].length > 2 ? "long" : "";
  element("sentence").textContent = `${lead} ${described(first)} (${confidence})${alternative}`;
  bars.forEach(({ row, fill, value }, label) => {
    row.className = label === first ? "first" : "";
    fill.style.width = percent(probabilities[label]).replace(" ", "");
    value.textContent = percent(probabilities[label]);
  });
  announce(element("sentence").textContent);
}

function announce(text) {  // after a pause in drawing, or a screen reader would be interrupted by every change
  clearTimeout(announcement);
  announcement = setTimeout(() => { element("spoken").textContent = text; }, ANNOUNCE_AFTER_MS);
}

function paint(canvas, values, color) {
  const context = canvas.getContext("2d"), image = context.createImageData(FIELD, FIELD);
  values.forEach((value, i) => image.data.set([...color(value, i), 255], 4 * i));
  context.putImageData(image, 0, 0);
}

function rgb(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map(start => parseInt(hex.slice(start, start + 2), 16));
}

function paintSigned(canvas, values, largest, pixels) {
  const [positive, negative, background, faint] = ["--for", "--against", "--ground", "--bar"].map(rgb);
  paint(canvas, values, (value, i) => {
    const fraction = Math.min(1, Math.abs(value) / (largest || 1)), strength = pixels ? Math.sqrt(fraction) : fraction;
    const base = pixels ? background.map((level, c) => level + (faint[c] - level) * 0.35 * pixels[i] / 255) : background;
    const hue = value > 0 ? positive : negative;
    return base.map((level, c) => level + (hue[c] - level) * strength);
  });
}

function showUnits(units, first, second) {
  const layer = net.layers[0], values = units || Float32Array.from(classes, (_, label) => (label === first) - (label === second));
  const order = Array.from(values.keys()).filter(unit => values[unit]);
  order.sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
  element("units-text").textContent = units
    ? `Contribution to the logit of ${classes[first]} minus that of ${classes[second]}; images show the unit's positive (blue) and negative (orange) weights.`
    : `This network has no hidden layer: these are the weights of ${classes[first]} and ${classes[second]}.`;
  element("units").replaceChildren(...order.slice(0, UNITS).map(unit => {
    const item = document.createElement("li"), canvas = item.appendChild(document.createElement("canvas"));
    canvas.width = canvas.height = FIELD;
    const weights = layer.weights.subarray(unit * layer.inputs, (unit + 1) * layer.inputs);
    paintSigned(canvas, weights, weights.reduce((largest, weight) => Math.max(largest, Math.abs(weight)), 0));
    const label = item.appendChild(document.createElement("span"));
    label.className = values[unit] > 0 ? "for" : "against";
    label.textContent = units ? `${values[unit] > 0 ? "+" : "−"}${Math.abs(values[unit]).toFixed(2)}` : isDigits ? `digit ${unit}` : classes[unit];
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", units ? `Unit ${unit}` : `Weights of digit ${unit}`);
    return item;
  }));
}

function position(event) {
  const box = sheet.getBoundingClientRect();
  return [(event.clientX - box.left) * sheet.width / box.width, (event.clientY - box.top) * sheet.height / box.height];
}

sheet.addEventListener("pointerdown", event => {
  if (event.button > 0 || current) return;
  sheet.setPointerCapture(event.pointerId);
  current = { pointer: event.pointerId, points: [position(event)] };
  strokes.push(current.points);
  redraw();
});
sheet.addEventListener("pointermove", event => {
  if (!current || event.pointerId !== current.pointer) return;
  const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  current.points.push(...(events.length ? events : [event]).map(position));
  redraw();
});
for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
  sheet.addEventListener(end, event => { if (current && event.pointerId === current.pointer) current = null; });
}
element("undo").addEventListener("click", undo);
element("clear").addEventListener("click", clear);
document.addEventListener("keydown", event => {
  const key = event.key.toLowerCase(), isModified = event.ctrlKey || event.metaKey;
  if (key === "z" && isModified || key === "u" && !isModified) undo();
  else if (key === "escape" || (key === "c" || key === "delete") && !isModified) clear();
  else return;
  event.preventDefault();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", scheduleUpdate);
redraw();
