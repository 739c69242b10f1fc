// The page: strokes in, answer out. Strokes are lists of [x, y] in pixels of the sheet, white on black as MNIST is.

const PEN = 44, UNITS = 8, SPEAK_AFTER = 700;
const stored = JSON.parse(document.getElementById("net").textContent);
const net = { activation: stored.activation, layers: stored.layers.map(decoded) };
const element = name => document.getElementById(name);
const sheet = element("sheet"), pen = sheet.getContext("2d", { willReadFrequently: true });
const strokes = [];
let current = null, asked = false, speaking = 0;

const bars = Array.from({ length: 10 }, (_, digit) => {
  const row = element("bars").appendChild(document.createElement("li"));
  const make = (tag, name, parent) => {
    const made = parent.appendChild(document.createElement(tag));
    made.className = name;
    return made;
  };
  make("span", "name", row).textContent = digit;
  const fill = make("span", "fill", make("span", "track", row)), share = make("span", "share", row);
  return { row, fill, share };
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
  changed();
}

function changed() {
  element("hint").hidden = strokes.length > 0;
  element("undo").disabled = element("clear").disabled = strokes.length === 0;
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; answer(); });
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

function seenPixels() {
  const ink = findInk(pen.getImageData(0, 0, sheet.width, sheet.height).data, sheet.width, sheet.height);
  return ink && frame(ink);
}

function answer() {
  const pixels = seenPixels();
  if (!pixels) return showNothing();
  const result = run(net, pixels);
  const order = result.probabilities.map((_, digit) => digit);
  order.sort((a, b) => result.probabilities[b] - result.probabilities[a]);
  const [winner, rival] = order;
  showAnswer(result.probabilities, winner, rival);
  const reasons = why(net, result, winner, rival);
  paint(element("seen"), pixels, value => [value, value, value]);
  paintSigned(element("why"), reasons.pixels, Math.max(...reasons.pixels.map(Math.abs)), pixels);
  element("why-text").textContent = `which ones argue for ${winner} rather than ${rival}, which against`;
  showUnits(reasons.units, winner, rival);
}

function showNothing() {
  element("digit").textContent = "?";
  element("sentence").textContent = "Nothing drawn yet";
  for (const { row, fill, share } of bars) {
    row.className = "";
    fill.style.width = "0";
    share.textContent = "";
  }
  for (const name of ["seen", "why"]) element(name).getContext("2d").clearRect(0, 0, FIELD, FIELD);
  element("why-text").textContent = "which ones argue for the answer, which against";
  element("units").replaceChildren();
  element("units-text").textContent = "The strongest of them appear here once you draw.";
  say("Nothing drawn yet");
}

const percent = part => `${(100 * part).toFixed(1)} %`;
const named = digit => `${digit === 8 ? "an" : "a"} ${digit}`;

function showAnswer(probabilities, winner, rival) {
  const sure = probabilities[winner];
  const lead = sure >= 0.9 ? "This is" : sure >= 0.6 ? "Probably" : "Hard to say; perhaps";
  const certain = sure >= 0.9995 ? "over 99.9 %" : percent(sure);
  const second = probabilities[rival] >= 0.0005 ? `, else ${named(rival)} (${percent(probabilities[rival])})` : "";
  element("digit").textContent = winner;
  element("sentence").textContent = `${lead} ${named(winner)} (${certain})${second}`;
  bars.forEach(({ row, fill, share }, digit) => {
    row.className = digit === winner ? "first" : "";
    fill.style.width = percent(probabilities[digit]).replace(" ", "");
    share.textContent = percent(probabilities[digit]);
  });
  say(element("sentence").textContent);
}

function say(text) {  // once the drawing rests: a screen reader would stammer otherwise
  clearTimeout(speaking);
  speaking = setTimeout(() => { element("spoken").textContent = text; }, SPEAK_AFTER);
}

function paint(canvas, values, colour) {
  const context = canvas.getContext("2d"), image = context.createImageData(FIELD, FIELD);
  values.forEach((value, i) => image.data.set([...colour(value, i), 255], 4 * i));
  context.putImageData(image, 0, 0);
}

function rgb(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map(start => parseInt(hex.slice(start, start + 2), 16));
}

function paintSigned(canvas, values, most, pixels) {
  const [plus, minus, ground, faint] = ["--for", "--against", "--ground", "--bar"].map(rgb);
  paint(canvas, values, (value, i) => {
    const share = Math.min(1, Math.abs(value) / (most || 1)), strength = pixels ? Math.sqrt(share) : share;
    const base = pixels ? ground.map((part, c) => part + (faint[c] - part) * 0.35 * pixels[i] / 255) : ground;
    const hue = value > 0 ? plus : minus;
    return base.map((part, c) => part + (hue[c] - part) * strength);
  });
}

function showUnits(units, winner, rival) {
  const layer = net.layers[0], values = units || new Float32Array(10).map((_, digit) => (digit === winner) - (digit === rival));
  const order = Array.from(values.keys()).filter(unit => values[unit]);
  order.sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
  element("units-text").textContent = units
    ? `What each adds to the score of ${winner} less that of ${rival}; a picture shows which ink excites (blue) or calms (orange) it.`
    : `This net has no hidden layer: the weights of ${winner} and of ${rival} are all there is.`;
  element("units").replaceChildren(...order.slice(0, UNITS).map(unit => {
    const item = document.createElement("li"), picture = item.appendChild(document.createElement("canvas"));
    picture.width = picture.height = FIELD;
    const weights = layer.weights.subarray(unit * layer.inputs, (unit + 1) * layer.inputs);
    paintSigned(picture, weights, weights.reduce((most, weight) => Math.max(most, Math.abs(weight)), 0));
    const label = item.appendChild(document.createElement("span"));
    label.className = values[unit] > 0 ? "for" : "against";
    label.textContent = units ? `${values[unit] > 0 ? "+" : "−"}${Math.abs(values[unit]).toFixed(2)}` : `digit ${unit}`;
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-label", units ? `Unit ${unit}` : `Weights of digit ${unit}`);
    return item;
  }));
}

function place(event) {
  const box = sheet.getBoundingClientRect();
  return [(event.clientX - box.left) * sheet.width / box.width, (event.clientY - box.top) * sheet.height / box.height];
}

sheet.addEventListener("pointerdown", event => {
  if (event.button > 0 || current) return;
  sheet.setPointerCapture(event.pointerId);
  current = { pointer: event.pointerId, points: [place(event)] };
  strokes.push(current.points);
  redraw();
});
sheet.addEventListener("pointermove", event => {
  if (!current || event.pointerId !== current.pointer) return;
  const seen = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  current.points.push(...(seen.length ? seen : [event]).map(place));
  redraw();
});
for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
  sheet.addEventListener(end, event => { if (current && event.pointerId === current.pointer) current = null; });
}
element("undo").addEventListener("click", undo);
element("clear").addEventListener("click", clear);
document.addEventListener("keydown", event => {
  const key = event.key.toLowerCase(), held = event.ctrlKey || event.metaKey;
  if (key === "z" && held || key === "u" && !held) undo();
  else if (key === "escape" || (key === "c" || key === "delete") && !held) clear();
  else return;
  event.preventDefault();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
redraw();
