// Loss and gradients of an MLP in one call. native.py compiles and calls it; explicit.py is the same in Python.
//
// Activations and their gradients are (features, images), so that products have contiguous operands: outputs =
// weight inputs, weight gradient = gradient inputs^T, input gradient = weight^T gradient.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <torch/library.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using at::BFloat16;
using at::Tensor;
using Backward = std::function<Tensor(const Tensor&)>;

constexpr int64_t TILE = 16;     // side of the squares in which a matrix is transposed
constexpr int64_t COLUMNS = 64;  // width of the tiles of a product, which fit into the first-level cache

Tensor empty(int64_t rows, int64_t columns) { return at::empty({rows, columns}, at::kFloat); }

Tensor transposed(const Tensor& matrix) {
  const int64_t rows = matrix.size(0), columns = matrix.size(1);
  auto result = empty(columns, rows);
  const auto* source = matrix.const_data_ptr<float>();
  auto* target = result.mutable_data_ptr<float>();
  at::parallel_for(0, columns, 256, [&](int64_t first, int64_t last) {
    for (int64_t top = 0; top < rows; top += TILE)
      for (int64_t left = first; left < last; left += TILE) {
        const auto height = std::min(TILE, rows - top), width = std::min(TILE, last - left);
        const auto* from = source + top * columns + left;
        auto* to = target + left * rows + top;
        const auto copy = [=](int64_t across, int64_t down) {
          for (int64_t j = 0; j < across; ++j)
            for (int64_t i = 0; i < down; ++i) to[j * rows + i] = from[i * columns + j];
        };
        width == TILE && height == TILE ? copy(TILE, TILE) : copy(width, height);  // loops of known length are faster
      }
  });
  return result;
}

// Two float32 numbers as the bfloat16 halves of a word, rounded to nearest even.
uint32_t bfloat16_pair(float low, float high) {
  auto a = std::bit_cast<uint32_t>(low), b = std::bit_cast<uint32_t>(high);
  a += 0x7fff + (a >> 16 & 1);
  b += 0x7fff + (b >> 16 & 1);
  return a >> 16 | (b & 0xffff0000);
}

// c = a b. With AVX-512, threads share tiles of columns, so results do not depend on their number.
void multiply(const Tensor& left, const Tensor& right, Tensor c, bool bfloat16) {
  const auto a = left.contiguous(), b = right.contiguous();
#ifdef __AVX512F__
  using at::native::cpublas::brgemm;
  const int64_t m = a.size(0), n = b.size(1), k = a.size(1), pairs = (k + 1) / 2;
  const auto narrow = bfloat16 ? (k % 2 ? at::constant_pad_nd(a, {0, 1}) : a).to(at::kBFloat16) : Tensor();
  at::parallel_for(0, (n + COLUMNS - 1) / COLUMNS, 1, [&](int64_t first, int64_t last) {
    std::vector<uint32_t> packed(bfloat16 ? pairs * COLUMNS : 0);
    for (auto column = first * COLUMNS; column < std::min(n, last * COLUMNS); column += COLUMNS) {
      const auto width = std::min(COLUMNS, n - column);
      const auto* from = b.const_data_ptr<float>() + column;
      auto* to = c.mutable_data_ptr<float>() + column;
      if (!bfloat16) {
        brgemm(m, width, k, k, n, n, false, a.const_data_ptr<float>(), from, to, false);
        continue;
      }
      for (int64_t i = 0; i < k; i += 2) {
        const auto *low = from + i * n, *high = low + n;
        auto* pair = packed.data() + i / 2 * COLUMNS;
        for (int64_t j = 0; j < width && i + 1 < k; ++j) pair[j] = bfloat16_pair(low[j], high[j]);
        for (int64_t j = 0; j < width && i + 1 == k; ++j) pair[j] = bfloat16_pair(low[j], 0);
      }
      brgemm(
          m, width, 2 * pairs, 2 * pairs, COLUMNS, n, false, narrow.const_data_ptr<BFloat16>(),
          reinterpret_cast<const BFloat16*>(packed.data()), to, true);
    }
    at::native::cpublas::brgemm_release(bfloat16);
  });
#else
  at::mm_out(c, a, b);
#endif
}

// What the layers take, in their order.
struct Network {
  bool bfloat16;
  std::vector<Tensor>::const_iterator tensors, gradients;
  std::vector<double>::const_iterator constants;
};

// A linear layer, and a ReLU if `lowest` is 0; without one it is -infinity. input_rows: of the first layer.
std::pair<Tensor, Backward> linear(const Tensor& inputs, const Tensor& input_rows, float lowest, Network& network) {
  const auto weight = *network.tensors++, bias = *network.tensors++;
  const auto weight_gradient = *network.gradients++, bias_gradient = *network.gradients++;
  const auto bfloat16 = network.bfloat16, is_first = input_rows.defined();
  const auto rows = is_first ? input_rows : transposed(inputs);
  const int64_t features = weight.size(0), images = inputs.size(1), grain = 1 + 32768 / images;
  const auto outputs = empty(features, images);
  multiply(weight, inputs, outputs, bfloat16);
  at::parallel_for(0, features, grain, [&](int64_t first, int64_t last) {
    auto* y = outputs.mutable_data_ptr<float>();
    const auto* b = bias.const_data_ptr<float>();
    for (auto i = first; i < last; ++i)
      for (auto j = i * images; j < (i + 1) * images; ++j) y[j] = std::max(y[j] + b[i], lowest);
  });
  return {outputs, [=](const Tensor& gradient) {
            const auto* y = outputs.const_data_ptr<float>();
            auto* g = gradient.mutable_data_ptr<float>();
            auto* sums = bias_gradient.mutable_data_ptr<float>();
            at::parallel_for(0, features, grain, [=](int64_t first, int64_t last) {
              for (auto i = first; i < last; ++i) {
                float sum = 0;
                for (auto j = i * images; j < (i + 1) * images; ++j) sum += g[j] = y[j] <= lowest ? 0 : g[j];
                sums[i] = sum;
              }
            });
            multiply(gradient, rows, weight_gradient, bfloat16);
            if (is_first) return Tensor();
            const auto of_inputs = empty(weight.size(1), images);
            multiply(transposed(weight), gradient, of_inputs, bfloat16);
            return of_inputs;
          }};
}

std::pair<Tensor, Backward> batch_norm(const Tensor& inputs, Network& network) {
  const auto weight = *network.tensors++, bias = *network.tensors++;
  const auto weight_gradient = *network.gradients++, bias_gradient = *network.gradients++;
  const auto mean = *network.tensors++, variance = *network.tensors++, batches = *network.tensors++;
  const double momentum = *network.constants++, eps = *network.constants++;
  TORCH_CHECK_VALUE(inputs.size(1) > 1, "Batch norm expects more than one image per mini-batch in training, but got 1");
  batches.add_(1);
  const auto batch = inputs.unsqueeze(0);
  const auto normed = at::native_batch_norm(batch, weight, bias, mean, variance, true, momentum, eps);
  return {std::get<0>(normed)[0], [=](const Tensor& gradient) {
            const auto [of_inputs, of_weight, of_bias] = at::native_batch_norm_backward(
                gradient.unsqueeze(0), batch, weight, mean, variance, std::get<1>(normed), std::get<2>(normed), true,
                eps, {true, true, true});
            weight_gradient.copy_(of_weight);
            bias_gradient.copy_(of_bias);
            return of_inputs[0];
          }};
}

// Random numbers are drawn as (images, features), like those of the module.
std::pair<Tensor, Backward> dropout(const Tensor& inputs, Network& network) {
  const double kept = 1 - *network.constants++;
  const auto mask = transposed(empty(inputs.size(1), inputs.size(0)).bernoulli_(kept).div_(kept));
  return {inputs.mul(mask), [=](const Tensor& gradient) { return gradient.mul(mask); }};
}

std::pair<Tensor, Backward> noise(const Tensor& inputs, Network& network) {
  const double deviation = *network.constants++;
  const auto drawn = transposed(empty(inputs.size(1), inputs.size(0)).normal_());
  return {inputs.add(drawn, deviation), [](const Tensor& gradient) { return gradient; }};
}

struct Activation {
  Tensor (*forward)(const Tensor& inputs);
  Tensor (*backward)(const Tensor& gradient, const Tensor& inputs, const Tensor& outputs);
};
#define FORWARD [](const Tensor& x)
#define BACKWARD [](const Tensor& g, const Tensor& x, const Tensor& y)
const std::unordered_map<std::string, Activation> ACTIVATIONS = {
    {"ReLU", {FORWARD { return at::relu(x); }, BACKWARD { return at::threshold_backward(g, y, 0); }}},
    {"LeakyReLU",
     {FORWARD { return at::leaky_relu(x); }, BACKWARD { return at::leaky_relu_backward(g, x, 0.01, false); }}},
    {"GELU", {FORWARD { return at::gelu(x); }, BACKWARD { return at::gelu_backward(g, x); }}},
    {"SiLU", {FORWARD { return at::silu(x); }, BACKWARD { return at::silu_backward(g, x); }}},
    {"ELU", {FORWARD { return at::elu(x); }, BACKWARD { return at::elu_backward(g, 1, 1, 1, false, x); }}},
    {"Mish", {FORWARD { return at::mish(x); }, BACKWARD { return at::mish_backward(g, x); }}},
    {"Tanh", {FORWARD { return at::tanh(x); }, BACKWARD { return at::tanh_backward(g, y); }}},
    {"Sigmoid", {FORWARD { return at::sigmoid(x); }, BACKWARD { return at::sigmoid_backward(g, y); }}},
};

// The mean cross-entropy and its gradient (classes, images), for logits (images, classes) and targets: labels (images)
// or probabilities (images, classes).
std::pair<Tensor, Tensor> cross_entropy(const Tensor& logits, const Tensor& targets, double smoothing) {
  const int64_t images = logits.size(0), classes = logits.size(1);
  const auto rows = targets.contiguous(), gradient = empty(classes, images);
  const auto* labels = rows.is_floating_point() ? nullptr : rows.const_data_ptr<int64_t>();
  const auto* probabilities = labels ? nullptr : rows.const_data_ptr<float>();
  const auto* values = logits.const_data_ptr<float>();
  auto* to = gradient.mutable_data_ptr<float>();
  std::vector<float> powers(classes);
  double loss = 0;
  for (int64_t i = 0; i < images; ++i, values += classes) {
    const float highest = *std::max_element(values, values + classes);
    float sum = 0, weight = 0;
    for (int64_t j = 0; j < classes; ++j) sum += powers[j] = std::exp(values[j] - highest);
    const double log_sum = std::log(sum) + static_cast<double>(highest);  // float32 would lose digits of large logits
    for (int64_t j = 0; j < classes; ++j) {
      const float unsmoothed = labels ? labels[i] == j : probabilities[i * classes + j];
      const float target = unsmoothed * (1 - smoothing) + smoothing / classes;
      loss -= target * (values[j] - log_sum);
      weight += target;
      to[j * images + i] = -target / images;
    }
    for (int64_t j = 0; j < classes; ++j) to[j * images + i] += powers[j] / sum * weight / images;
  }
  return {at::scalar_tensor(loss / images, at::kFloat), gradient};
}

Tensor normalized(const Tensor& images, double scale, double shift) {
  const auto pixels = images.contiguous();
  auto rows = empty(images.size(0), images[0].numel());
  const auto convert = [&]<typename T>(const T* from) {
    auto* to = rows.mutable_data_ptr<float>();
    const float a = scale, b = shift;
    for (int64_t i = 0, count = rows.numel(); i < count; ++i) to[i] = from[i] * a + b;
  };
  if (pixels.scalar_type() == at::kByte)
    convert(pixels.const_data_ptr<uint8_t>());
  else
    convert(pixels.const_data_ptr<float>());
  return rows;
}

std::tuple<Tensor, Tensor> gradients(
    const Tensor& images, const Tensor& targets, double scale, double shift, double smoothing, bool bfloat16,
    const std::vector<std::string>& layers, const std::vector<Tensor>& tensors, const std::vector<double>& constants,
    const std::vector<Tensor>& gradients) {
  Network network{bfloat16, tensors.begin(), gradients.begin(), constants.begin()};
  auto rows = normalized(images, scale, shift), outputs = transposed(rows);
  std::vector<Backward> passes;
  for (auto next = layers.begin(); next != layers.end();) {
    const auto layer = *next++;
    std::pair<Tensor, Backward> done;
    if (layer == "Linear") {
      const bool is_rectified = next != layers.end() && *next == "ReLU";
      next += is_rectified;
      done = linear(outputs, rows, is_rectified ? 0 : -std::numeric_limits<float>::infinity(), network);
    } else if (layer == "BatchNorm1d") {
      done = batch_norm(outputs, network);
    } else if (layer == "Dropout") {
      done = dropout(outputs, network);
    } else if (layer == "GaussianNoise") {
      done = noise(outputs, network);
    } else {
      const auto activation = ACTIVATIONS.at(layer);
      const auto inputs = outputs, values = activation.forward(inputs);
      done = {values, [=](const Tensor& gradient) { return activation.backward(gradient, inputs, values); }};
    }
    outputs = done.first;
    passes.push_back(done.second);
    rows = Tensor();
  }
  const auto logits = transposed(outputs);
  auto [loss, gradient] = cross_entropy(logits, targets, smoothing);
  for (auto pass = passes.rbegin(); pass != passes.rend() && gradient.defined(); ++pass) gradient = (*pass)(gradient);
  return {loss, logits};
}

}  // namespace

TORCH_LIBRARY(mnist_mlp, library) {
  library.def(
      "gradients(Tensor images, Tensor targets, float scale, float shift, float smoothing, bool bfloat16, "
      "str[] layers, Tensor[] tensors, float[] constants, Tensor[] gradients) -> (Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(mnist_mlp, CPU, library) { library.impl("gradients", &gradients); }
