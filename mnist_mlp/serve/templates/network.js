// The network and its contributions. Layers are {units, inputs, weights, biases}; weights[unit * inputs + input].

function decodeBase64(text) {
  return Uint8Array.from(atob(text), character => character.charCodeAt(0));
}

function halfFloat(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function decodeLayer(layer) {
  const { units, inputs } = layer, bytes = decodeBase64(layer.weights), weights = new Float32Array(units * inputs);
  const view = new DataView(bytes.buffer);
  if (layer.scales) {
    const scales = decodeFloats(layer.scales);
    for (let i = 0; i < weights.length; i++) weights[i] = view.getInt8(i) * scales[Math.floor(i / inputs)];
  } else {
    for (let i = 0; i < weights.length; i++) weights[i] = halfFloat(view.getUint16(2 * i, true));
  }
  return { units, inputs, weights, biases: decodeFloats(layer.biases) };
}

function decodeFloats(text) {
  return new Float32Array(decodeBase64(text).buffer);
}

function erf(x) {  // Abramowitz and Stegun 7.1.26, error below 1.5e-7
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - tail * Math.exp(-x * x));
}

const logistic = x => 1 / (1 + Math.exp(-x));
const softplus = x => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const normalDensity = x => Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
const normalArea = x => (1 + erf(x / Math.SQRT2)) / 2;
const ACTIVATIONS = {  // the function and its derivative
  relu: [x => Math.max(x, 0), x => x > 0 ? 1 : 0],
  leaky_relu: [x => x > 0 ? x : 0.01 * x, x => x > 0 ? 1 : 0.01],
  gelu: [x => x * normalArea(x), x => normalArea(x) + x * normalDensity(x)],
  silu: [x => x * logistic(x), x => logistic(x) * (1 + x * (1 - logistic(x)))],
  elu: [x => x > 0 ? x : Math.expm1(x), x => x > 0 ? 1 : Math.exp(x)],
  mish: [x => x * Math.tanh(softplus(x)), x => Math.tanh(softplus(x)) + x * logistic(x) / Math.cosh(softplus(x)) ** 2],
  tanh: [Math.tanh, x => 1 - Math.tanh(x) ** 2],
  sigmoid: [logistic, x => logistic(x) * (1 - logistic(x))],
};

// pixels: 784 bytes -> {inputs, sums, logits, probabilities}; sums[k] are the pre-activations of layer k
function forward(net, pixels) {
  const [activate] = ACTIVATIONS[net.activation];
  const inputs = Float32Array.from(pixels, value => value / 255), sums = [];
  let values = inputs;
  for (const [index, layer] of net.layers.entries()) {
    const total = new Float32Array(layer.units);
    for (let unit = 0; unit < layer.units; unit++) {
      let sum = layer.biases[unit];
      const start = unit * layer.inputs;
      for (let i = 0; i < layer.inputs; i++) sum += layer.weights[start + i] * values[i];
      total[unit] = sum;
    }
    sums.push(total);
    values = index + 1 < net.layers.length ? total.map(activate) : total;
  }
  const largest = Math.max(...values), exponentials = Array.from(values, value => Math.exp(value - largest));
  const total = exponentials.reduce((sum, exponential) => sum + exponential, 0);
  return { inputs, sums, logits: values, probabilities: exponentials.map(exponential => exponential / total) };
}

// Contributions of pixels and first-layer units to the difference of two logits, first - second: gradient times
// input.
function contributionsTo(net, result, first, second) {
  const [activate, derivative] = ACTIVATIONS[net.activation];
  let gradient = new Float32Array(result.logits.length), units = null;
  gradient[first] = 1;
  gradient[second] = -1;
  for (let index = net.layers.length - 1; index >= 0; index--) {
    const layer = net.layers[index], inputGradient = new Float32Array(layer.inputs);
    if (index + 1 < net.layers.length) {
      const sums = result.sums[index];
      if (index === 0) units = gradient.map((value, unit) => value * activate(sums[unit]));
      gradient = gradient.map((value, unit) => value * derivative(sums[unit]));
    }
    for (let unit = 0; unit < layer.units; unit++) {
      if (!gradient[unit]) continue;
      for (let i = 0; i < layer.inputs; i++) inputGradient[i] += gradient[unit] * layer.weights[unit * layer.inputs + i];
    }
    gradient = inputGradient;
  }
  return { pixels: gradient.map((value, i) => value * result.inputs[i]), units };
}
