// What an installed ram must do for another program: allocate, quantize, open a model. Exit status
// 0 if all of it gave the expected result, else the number of the step that did not.

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "ram/allocate/allocate.h"
#include "ram/compress/compress.h"
#include "ram/quant/quantize.h"

namespace {

// Three items, 1 byte at cost 9 or 4 bytes at cost i: the budget of 9 bytes upgrades two of them.
bool SolvesKnapsack() {
  std::vector<ram::Item> items;
  for (const int64_t cost : {1, 2, 3}) items.push_back({{{1, 9, 0}, {4, cost, 1}}});
  const auto curve = ram::BuildCurve(items);
  if (!curve.ok()) return false;
  const auto solution = ram::Solve(items, *curve, 9);
  return solution.ok() && solution->choices == std::vector<int>{1, 1, 0} && solution->cost == 12;
}

// 32 x 64 weights 0, 1, ..., 15 over and over are exact in 4 bits.
bool QuantizesMatrix() {
  std::vector<float> weights(32 * 64);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(i % 16);
  std::vector<uint8_t> codes(32 * 64 / 2), scales(32 * 4), biases(32 * 4);
  const ram::MatrixView matrix = {reinterpret_cast<const uint8_t*>(weights.data()),
                                  ram::Dtype::kF32, 32, 64};
  const auto error =
      ram::Quantize(matrix, {.choice = ram::Choice::Affine(4, 64)}, {codes, scales, biases});
  return error.ok() && error->largest < 1e-5F && codes != std::vector<uint8_t>(codes.size());
}

bool ReportsMissingModel() {
  const auto model = ram::OpenModel("/no/such/model");
  return !model.ok() && model.error().code == ram::ErrorCode::kNotFound;
}

}  // namespace

int main() {
  if (!SolvesKnapsack()) return 1;
  if (!QuantizesMatrix()) return 2;
  if (!ReportsMissingModel()) return 3;
  std::printf("quantized with %s\n", std::string(ram::QuantizeTarget()).c_str());
  return 0;
}
