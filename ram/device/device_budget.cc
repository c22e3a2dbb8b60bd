#include "ram/device/device_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "ram/base/bytes.h"

namespace ram {
namespace {

constexpr uint64_t kElementBytes = 2;  // Caches and activations are kept in 16 bits.
constexpr uint64_t kCacheStep = 256;   // mlx-lm's caches grow by so many tokens.
constexpr uint64_t kKvGroup = 64;      // Elements that share a scale and a bias, 16 bits each.
// Activations: a step's buffers live until the GPU is done with it, and the next is queued by then.
constexpr uint64_t kStepsInFlight = 2;
constexpr uint64_t kHiddenCopies = 4;  // Of the residual stream: input, normed, two sums.
constexpr uint64_t kLogitBytes = 12;   // A logit in 16 bits, its f32 copy, and log-probabilities.
constexpr uint64_t kExpertsPerToken = 8;
constexpr uint64_t kProgramBytes = 512 * kMiB;

// Products of numbers that come from config files: too large is as good as infinite.
uint64_t Mul(uint64_t a, uint64_t b) { return CheckedMul(a, b).value_or(UINT64_MAX); }
uint64_t Add(uint64_t a, uint64_t b) { return CheckedAdd(a, b).value_or(UINT64_MAX); }

uint64_t RoundUp(uint64_t value, uint64_t step) {
  return Mul(value / step + (value % step != 0 ? 1 : 0), step);
}

// Bytes per token of `elements` cached in `kv_bits`, with scales and biases below 16.
uint64_t CacheBytesPerToken(uint64_t elements, int kv_bits) {
  if (kv_bits == 16) return Mul(elements, kElementBytes);
  const uint64_t groups = RoundUp(elements, kKvGroup) / kKvGroup;
  const uint64_t group_bytes = kKvGroup * static_cast<uint64_t>(kv_bits) / 8 + 2 * kElementBytes;
  return Mul(groups, group_bytes);
}

// The most tokens that a rotating cache of `window` holds while `context` tokens go through it: all
// but the last in prefill steps of `chunk`, to each of which it adds at most window - 1 earlier
// ones; then one by one, for which it grows by 256 until it has the size of the window.
uint64_t WindowTokens(uint64_t context, uint64_t window, uint64_t chunk) {
  if (window == 0) return 0;
  const uint64_t prompt = context - 1;
  const uint64_t whole_steps = prompt / chunk;
  const uint64_t rest = prompt % chunk;
  const uint64_t after_steps = std::min(prompt - rest, Add(window - 1, chunk));
  const uint64_t at_end = rest == 0 ? after_steps : std::min(after_steps, window - 1) + rest;
  const uint64_t most = whole_steps == 0 ? at_end : std::max(after_steps, at_end);
  if (at_end >= window) return most;
  return std::max(most, prompt + std::min(kCacheStep, window - prompt));
}

std::string Tokens(uint64_t tokens, uint64_t batch) {
  std::string text = FormatCount(tokens) + " tokens";
  if (batch > 1) text = fmt::format("{} sequences x {}", FormatCount(batch), text);
  return text;
}

// The request with what follows from it, and the lines it makes.
class Subtraction {
 public:
  Subtraction(const DeviceBudgetRequest& request, const ModelState& model)
      : request_(request), model_(model), context_(request.context_tokens) {
    if (model.max_context != 0 && context_ > model.max_context) {
      context_ = model.max_context;
      budget_.notes.push_back(fmt::format("context: {} tokens, the model's maximum, instead of {}",
                                          FormatCount(context_),
                                          FormatCount(request.context_tokens)));
    }
    chunk_ = std::min(std::max<uint64_t>(request.prefill_tokens, 1), context_);
    num_heads_ = model.num_heads != 0 ? model.num_heads : model.hidden_size / 64;
  }

  DeviceBudget Run() {
    const Device& device = request_.device;
    AddLine("memory", device.memory_bytes, device.name);
    Subtract(
        "kept by the system", device.memory_bytes - device.usable_bytes,
        fmt::format("usable: {}, {}", FormatBytesShort(device.usable_bytes), device.usable_why));
    Caches();
    Activations();
    Subtract("program", kProgramBytes, "Python, tokenizer, kernels, allocator: an estimate");

    uint64_t taken = 0;
    for (size_t i = 1; i < budget_.lines.size(); ++i) taken = Add(taken, budget_.lines[i].bytes);
    if (taken <= device.memory_bytes) budget_.budget_bytes = device.memory_bytes - taken;
    missing_bytes_ = taken - std::min(taken, device.memory_bytes);
    return std::move(budget_);
  }

  uint64_t context() const { return context_; }
  uint64_t missing_bytes() const { return missing_bytes_; }
  uint64_t context_bytes() const { return context_bytes_; }

 private:
  void AddLine(std::string label, uint64_t bytes, std::string explanation) {
    budget_.lines.push_back({std::move(label), bytes, std::move(explanation)});
  }
  // Lines of nothing are left out.
  void Subtract(std::string label, uint64_t bytes, std::string explanation) {
    if (bytes != 0) AddLine(std::move(label), bytes, std::move(explanation));
  }
  // What `per_token` bytes take for `tokens` of every sequence.
  void SubtractTokens(std::string label, uint64_t tokens, uint64_t per_token,
                      const std::string& of_what) {
    const uint64_t bytes = Mul(Mul(tokens, request_.batch), per_token);
    context_bytes_ = Add(context_bytes_, bytes);
    Subtract(std::move(label), bytes,
             fmt::format("{} x {} bytes{}", Tokens(tokens, request_.batch), FormatCount(per_token),
                         of_what));
  }

  void Caches() {
    const StateSize& state = model_.state;
    const uint64_t latent = state.latent_elements_per_token;
    const uint64_t full = state.cache_elements_per_token - latent;
    const uint64_t tokens = RoundUp(context_, kCacheStep);
    SubtractTokens("key-value cache", tokens, CacheBytesPerToken(full, request_.kv_bits),
                   request_.kv_bits == 16
                       ? ""
                       : fmt::format(", {} bits and {:.1f} for scales", request_.kv_bits,
                                     2.0 * 16 / static_cast<double>(kKvGroup)));
    SubtractTokens("latent cache", tokens, CacheBytesPerToken(latent, 16), "");

    if (state.window_cache_elements_per_token != 0) {
      const uint64_t kept = WindowTokens(context_, state.window_tokens, chunk_);
      SubtractTokens("window caches", kept,
                     CacheBytesPerToken(state.window_cache_elements_per_token, 16),
                     kept <= state.window_tokens
                         ? ""
                         : fmt::format(" (window {}, prefill {})", FormatCount(state.window_tokens),
                                       FormatCount(chunk_)));
      if (request_.kv_bits != 16) {
        budget_.notes.push_back(
            "the caches of sliding windows stay in 16 bits, and mlx-lm 0.32 stops when "
            "--kv-bits meets a rotating one");
      }
    }
    Subtract("recurrent state", Mul(state.recurrent_bytes, request_.batch),
             request_.batch == 1 ? "of the linear attention layers, whatever the context"
                                 : fmt::format("of the linear attention layers, {} sequences",
                                               FormatCount(request_.batch)));
  }

  void Activations() {
    const uint64_t chunk = Mul(chunk_, request_.batch);
    const uint64_t widest =
        model_.activation_elements != 0 ? model_.activation_elements : Mul(25, model_.hidden_size);
    const uint64_t per_token =
        Mul(kStepsInFlight * kElementBytes, Add(Mul(kHiddenCopies, model_.hidden_size), widest));
    const uint64_t logits = Mul(Mul(kLogitBytes, model_.vocabulary), request_.batch);
    Subtract("activations", Add(Mul(chunk, per_token), logits),
             fmt::format("prefill of {} tokens at a time: an estimate", FormatCount(chunk)));

    // Fused attention needs no scores; mlx-lm computes a layer's whole matrix where the cache is
    // quantized, and where positions of MLA come as a mask.
    const bool is_latent = model_.state.latent_elements_per_token != 0;
    const bool is_quantized = request_.kv_bits != 16 && model_.state.cache_elements_per_token != 0;
    if (!is_latent && !is_quantized) return;
    const uint64_t tokens = RoundUp(context_, kCacheStep);
    const uint64_t scores = Mul(Mul(Mul(num_heads_, chunk), tokens), kElementBytes);
    uint64_t unpacked = 0;
    if (is_latent) {
      uint64_t elements = Add(model_.unpacked_key_elements, model_.unpacked_value_elements);
      if (elements == 0) elements = Mul(256, num_heads_);
      unpacked = Mul(Mul(Mul(tokens, request_.batch), elements), kElementBytes);
    }
    context_bytes_ = Add(context_bytes_, Add(scores, unpacked));
    Subtract("attention scores", Add(scores, unpacked),
             fmt::format("{} heads x {} x {} tokens{}", FormatCount(num_heads_),
                         FormatCount(chunk_), FormatCount(tokens),
                         is_latent ? ", and unpacked latents" : ", since the cache is quantized"));
    if (is_quantized) {
      const uint64_t full = model_.state.cache_elements_per_token;
      const uint64_t saved =
          Mul(Mul(tokens, request_.batch),
              Mul(full, kElementBytes) - CacheBytesPerToken(full, request_.kv_bits));
      if (saved <= scores) {
        budget_.notes.push_back(fmt::format(
            "a {}-bit cache saves {} but its scores take {} while a prompt is read: a smaller "
            "--prefill-step-size, or 16 bits, leaves more",
            request_.kv_bits, FormatBytesShort(saved), FormatBytesShort(scores)));
      }
    }
  }

  const DeviceBudgetRequest& request_;
  const ModelState& model_;
  uint64_t context_;
  uint64_t chunk_ = 1;
  uint64_t num_heads_ = 0;
  uint64_t context_bytes_ = 0;  // What a smaller context would save from.
  uint64_t missing_bytes_ = 0;
  DeviceBudget budget_;
};

Error Invalid(std::string message) {
  return Error{ErrorCode::kInvalidArgument, std::move(message)};
}

Status CheckRequest(const DeviceBudgetRequest& request, const ModelState& model) {
  if (request.context_tokens == 0) return Invalid("context: expected at least one token");
  if (request.batch == 0) return Invalid("batch: expected at least one sequence");
  if (request.kv_bits != 16 && request.kv_bits != 8 && request.kv_bits != 4) {
    return Invalid(
        fmt::format("{} bits for the key-value cache: expected 16, 8 or 4", request.kv_bits));
  }
  if (request.kv_bits != 16 && model.state.latent_elements_per_token != 0) {
    return Invalid(
        fmt::format("{} bits for the key-value cache: mlx-lm cannot quantize the "
                    "latents that this model caches; pass 16",
                    request.kv_bits));
  }
  RAM_CHECK(request.device.usable_bytes <= request.device.memory_bytes);
  RAM_CHECK(model.state.latent_elements_per_token <= model.state.cache_elements_per_token);
  return Done{};
}

}  // namespace

void AddModuleShape(std::string_view tensor_class, std::span<const uint64_t> shape,
                    ModelState* model) {
  const std::optional<TensorClass> parsed = ParseClass(tensor_class);
  if (!parsed.has_value() || shape.size() < 2) return;
  const uint64_t rows = shape[shape.size() - 2];
  const uint64_t cols = shape[shape.size() - 1];
  const auto at_least = [model](uint64_t elements) {
    model->activation_elements = std::max(model->activation_elements, elements);
  };
  switch (*parsed) {
    case TensorClass::kGate:
    case TensorClass::kUp:
    case TensorClass::kFirstDense:
      at_least(Mul(3, std::max(rows, cols)));  // Gate, up and their product.
      break;
    case TensorClass::kExpertGate:
    case TensorClass::kExpertUp:
      // A token is copied for each of its experts, and each of them answers.
      at_least(Mul(kExpertsPerToken, Add(Mul(2, model->hidden_size), Mul(3, rows))));
      break;
    case TensorClass::kO:
      at_least(Mul(4, cols));  // Queries, as projected and as rotated; the answer twice.
      break;
    case TensorClass::kMlaEmbedQ:        // [heads, latent, key]
    case TensorClass::kMlaUnembedOut: {  // [heads, value, latent]
      // Keys and values come in the same layers: the largest of each, whichever comes first.
      if (shape.size() != 3) break;
      model->num_heads = shape[0];
      const bool is_key = *parsed == TensorClass::kMlaEmbedQ;
      uint64_t& part = is_key ? model->unpacked_key_elements : model->unpacked_value_elements;
      part = std::max(part, Mul(shape[0], is_key ? cols : rows));
      break;
    }
    default:
      break;
  }
}

ModelState ModelStateOf(const Catalog& catalog) {
  ModelState model;
  model.state = catalog.state;
  model.hidden_size = catalog.hidden_size;
  model.vocabulary = catalog.vocabulary;
  model.max_context = catalog.max_context;
  for (const CatalogTensor& tensor : catalog.tensors) {
    AddModuleShape(ClassName(tensor.tensor_class), tensor.shape, &model);
  }
  return model;
}

Result<DeviceBudget> BudgetForDevice(const DeviceBudgetRequest& request, const ModelState& model) {
  RAM_RETURN_IF_ERROR(CheckRequest(request, model));
  Subtraction subtraction(request, model);
  DeviceBudget budget = subtraction.Run();
  if (budget.budget_bytes != 0) return budget;

  // What would help, by what takes most.
  std::string remedy = "take a larger device";
  if (subtraction.context_bytes() > subtraction.missing_bytes()) {
    remedy = "ask for a smaller context";
    const bool can_quantize = model.state.latent_elements_per_token == 0 &&
                              model.state.window_cache_elements_per_token == 0;
    if (request.kv_bits == 16 && can_quantize) remedy += ", or fewer bits for its cache";
    if (request.batch > 1) remedy += ", or fewer sequences at a time";
  }
  return Invalid(
      fmt::format("{}: nothing is left for the model with {} of context, {} are "
                  "missing; {}",
                  request.device.name, Tokens(subtraction.context(), request.batch),
                  FormatBytes(subtraction.missing_bytes()), remedy));
}

std::string DeviceBudgetText(const DeviceBudget& budget) {
  size_t label_width = 0;
  size_t size_width = 0;
  for (const BudgetLine& line : budget.lines) {
    label_width = std::max(label_width, line.label.size());
    size_width = std::max(size_width, FormatBytesShort(line.bytes).size());
  }
  const auto format = [&](char sign, const std::string& label, uint64_t bytes,
                          const std::string& explanation) {
    return fmt::format("{} {:<{}}  {:>{}}  {}\n", sign, label, label_width, FormatBytesShort(bytes),
                       size_width, explanation);
  };
  std::string text;
  for (size_t i = 0; i < budget.lines.size(); ++i) {
    const BudgetLine& line = budget.lines[i];
    text += format(i == 0 ? ' ' : '-', line.label, line.bytes, line.explanation);
  }
  text +=
      format('=', "budget", budget.budget_bytes,
             fmt::format("{} bytes for the safetensors files", FormatCount(budget.budget_bytes)));
  for (const std::string& note : budget.notes) text += fmt::format("  note: {}\n", note);
  return text;
}

}  // namespace ram
