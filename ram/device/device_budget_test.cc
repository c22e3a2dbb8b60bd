#include "ram/device/device_budget.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "ram/base/bytes.h"

namespace ram {
namespace {

// 48 layers, 4 key-value heads of 128.
ModelState Qwen3Moe() {
  ModelState model;
  model.state.cache_elements_per_token = 48 * 2 * 4 * 128;
  model.hidden_size = 2048;
  model.vocabulary = 151936;
  model.max_context = 40960;
  return model;
}

// 47 layers, latents of 512 and rotary keys of 64.
ModelState Mla() {
  ModelState model;
  model.state.cache_elements_per_token = 47 * (512 + 64);
  model.state.latent_elements_per_token = model.state.cache_elements_per_token;
  model.hidden_size = 2048;
  model.vocabulary = 154880;
  model.max_context = 202752;
  model.num_heads = 20;
  model.unpacked_key_elements = 20 * 192;
  model.unpacked_value_elements = 20 * 256;
  return model;
}

// 10 layers that see all, 52 with a window of 1,024; 16 key-value heads of 128.
ModelState Windows() {
  ModelState model;
  model.state.cache_elements_per_token = 10 * 2 * 16 * 128;
  model.state.window_cache_elements_per_token = 52 * 2 * 16 * 128;
  model.state.window_tokens = 1024;
  model.hidden_size = 5376;
  model.vocabulary = 262144;
  model.max_context = 131072;
  return model;
}

DeviceBudgetRequest Request(const char* device, uint64_t context, int kv_bits = 16) {
  Result<Device> parsed = ParseDevice(device);
  EXPECT_TRUE(parsed.ok());
  return {*parsed, context, kv_bits, 1};
}

uint64_t BytesOf(const DeviceBudget& budget, const std::string& label) {
  for (const BudgetLine& line : budget.lines) {
    if (line.label == label) return line.bytes;
  }
  return 0;
}

void ExpectExactSum(const DeviceBudget& budget) {
  ASSERT_FALSE(budget.lines.empty());
  uint64_t left = budget.lines.front().bytes;
  for (size_t i = 1; i < budget.lines.size(); ++i) left -= budget.lines[i].bytes;
  EXPECT_EQ(left, budget.budget_bytes);
}

TEST(BudgetForDevice, SubtractsLineByLine) {
  const auto budget = BudgetForDevice(Request("32GB Mac", 32768), Qwen3Moe());
  ASSERT_TRUE(budget.ok()) << budget.error().message;
  ExpectExactSum(*budget);
  const uint64_t kept = 32 * kGiB - 32 * kGiB / 3 * 2;
  // Residual stream x 4 and 25 hidden sizes, two steps of 2,048 tokens, 16 bits; logits of a token.
  const uint64_t activations = 2 * 2 * 2048 * uint64_t{(4 + 25) * 2048} + 12 * 151936;
  EXPECT_EQ(BytesOf(*budget, "memory"), 32 * kGiB);
  EXPECT_EQ(BytesOf(*budget, "kept by the system"), kept);
  EXPECT_EQ(BytesOf(*budget, "key-value cache"), 3 * kGiB);
  EXPECT_EQ(BytesOf(*budget, "activations"), activations);
  EXPECT_EQ(BytesOf(*budget, "program"), 512 * kMiB);
  EXPECT_EQ(budget->lines.size(), 5u);
  EXPECT_EQ(budget->budget_bytes, 32 * kGiB - kept - 3 * kGiB - activations - 512 * kMiB);
  EXPECT_TRUE(budget->notes.empty());
}

TEST(BudgetForDevice, CachesGrowBy256Tokens) {
  const auto one = BudgetForDevice(Request("32GB Mac", 1), Qwen3Moe());
  const auto step = BudgetForDevice(Request("32GB Mac", 256), Qwen3Moe());
  const auto more = BudgetForDevice(Request("32GB Mac", 257), Qwen3Moe());
  ASSERT_TRUE(one.ok() && step.ok() && more.ok());
  EXPECT_EQ(BytesOf(*one, "key-value cache"), 256 * uint64_t{98304});
  EXPECT_EQ(BytesOf(*step, "key-value cache"), 256 * uint64_t{98304});
  EXPECT_EQ(BytesOf(*more, "key-value cache"), 512 * uint64_t{98304});
}

TEST(BudgetForDevice, QuantizedCachesPayForScalesAndScores) {
  // 17/32 and 9/32 of 16 bits: half a bit per element for scales and biases.
  const auto eight = BudgetForDevice(Request("64GB Mac", 32768, 8), Qwen3Moe());
  const auto four = BudgetForDevice(Request("64GB Mac", 32768, 4), Qwen3Moe());
  ASSERT_TRUE(eight.ok() && four.ok());
  EXPECT_EQ(BytesOf(*eight, "key-value cache"), 3 * kGiB * 17 / 32);
  EXPECT_EQ(BytesOf(*four, "key-value cache"), 3 * kGiB * 9 / 32);
  // 32 heads x 2,048 x 32,768 x 2 bytes: more than 8 bits save.
  EXPECT_EQ(BytesOf(*eight, "attention scores"), 4 * kGiB);
  ASSERT_EQ(eight->notes.size(), 1u);
  EXPECT_NE(eight->notes[0].find("smaller --prefill-step-size"), std::string::npos);
  ExpectExactSum(*eight);

  DeviceBudgetRequest small_steps = Request("64GB Mac", 32768, 8);
  small_steps.prefill_tokens = 256;
  const auto small = BudgetForDevice(small_steps, Qwen3Moe());
  ASSERT_TRUE(small.ok());
  EXPECT_EQ(BytesOf(*small, "attention scores"), 512 * kMiB);
  EXPECT_TRUE(small->notes.empty());
}

TEST(BudgetForDevice, MlaKeepsLatents) {
  const auto budget = BudgetForDevice(Request("32GB Mac", 32768), Mla());
  ASSERT_TRUE(budget.ok()) << budget.error().message;
  EXPECT_EQ(BytesOf(*budget, "key-value cache"), 0u);
  EXPECT_EQ(BytesOf(*budget, "latent cache"), uint64_t{47} * 576 * 2 * 32768);  // 1.65 GiB
  // Scores of 20 heads, and 448 elements of keys and values per head and token.
  EXPECT_EQ(BytesOf(*budget, "attention scores"),
            uint64_t{20} * 2048 * 32768 * 2 + uint64_t{20} * 448 * 32768 * 2);
  ExpectExactSum(*budget);

  const auto quantized = BudgetForDevice(Request("32GB Mac", 32768, 8), Mla());
  ASSERT_FALSE(quantized.ok());
  EXPECT_EQ(quantized.error().message,
            "8 bits for the key-value cache: mlx-lm cannot quantize the latents that this model "
            "caches; pass 16");
}

TEST(BudgetForDevice, WindowsKeepWhatAPrefillStepAdds) {
  const uint64_t per_token = 52 * 2 * 16 * 128 * 2;
  const auto full = BudgetForDevice(Request("64GB Mac", 32768), Windows());
  ASSERT_TRUE(full.ok());
  EXPECT_EQ(BytesOf(*full, "key-value cache"), uint64_t{10} * 2 * 16 * 128 * 2 * 32768);
  EXPECT_EQ(BytesOf(*full, "window caches"), (1024 + 2047) * per_token);
  ExpectExactSum(*full);
  // Read off mlx-lm 0.32's own cache: context, tokens held at most.
  const std::pair<uint64_t, uint64_t> cases[] = {{8192, 3071},     {3000, 2048}, {2049, 2048},
                                                 {512, 511 + 256}, {1024, 1024}, {1, 256}};
  for (const auto& [context, tokens] : cases) {
    const auto brief = BudgetForDevice(Request("64GB Mac", context), Windows());
    ASSERT_TRUE(brief.ok());
    EXPECT_EQ(BytesOf(*brief, "window caches"), tokens * per_token) << context;
  }
  ModelState wide = Windows();
  wide.state.window_tokens = 4096;
  const auto grown = BudgetForDevice(Request("64GB Mac", 3000), wide);
  ASSERT_TRUE(grown.ok());
  EXPECT_EQ(BytesOf(*grown, "window caches"), (2999 + 256) * per_token);
  const auto quantized = BudgetForDevice(Request("64GB Mac", 32768, 4), Windows());
  ASSERT_TRUE(quantized.ok());
  EXPECT_EQ(BytesOf(*quantized, "window caches"), (1024 + 2047) * per_token);
  EXPECT_NE(quantized->notes.front().find("stay in 16 bits"), std::string::npos);
}

TEST(BudgetForDevice, RecurrentStateDoesNotGrowWithContext) {
  ModelState model = Qwen3Moe();
  model.state.cache_elements_per_token = 12 * 2 * 2 * 256;
  model.state.recurrent_bytes = 36 * (3 * 8192 * 2 + 32 * 128 * 128 * 4);
  const auto small = BudgetForDevice(Request("32GB Mac", 1024), model);
  DeviceBudgetRequest batched = Request("32GB Mac", 32768);
  batched.batch = 3;
  const auto large = BudgetForDevice(batched, model);
  ASSERT_TRUE(small.ok() && large.ok());
  EXPECT_EQ(BytesOf(*small, "recurrent state"), model.state.recurrent_bytes);
  EXPECT_EQ(BytesOf(*large, "recurrent state"), 3 * model.state.recurrent_bytes);
  EXPECT_EQ(BytesOf(*large, "key-value cache"), uint64_t{3} * 12 * 2 * 2 * 256 * 2 * 32768);
  ExpectExactSum(*large);
}

TEST(BudgetForDevice, CutsTheContextToTheModels) {
  const auto cut = BudgetForDevice(Request("32GB Mac", 1'000'000), Qwen3Moe());
  const auto exact = BudgetForDevice(Request("32GB Mac", 40960), Qwen3Moe());
  ASSERT_TRUE(cut.ok() && exact.ok());
  EXPECT_EQ(cut->budget_bytes, exact->budget_bytes);
  ASSERT_EQ(cut->notes.size(), 1u);
  EXPECT_EQ(cut->notes[0], "context: 40,960 tokens, the model's maximum, instead of 1,000,000");
  EXPECT_TRUE(exact->notes.empty());
}

TEST(BudgetForDevice, SaysWhatIsMissingAndWhatHelps) {
  ModelState model = Qwen3Moe();
  model.max_context = 0;
  const auto long_context = BudgetForDevice(Request("16GB Mac", 131072), model);
  ASSERT_FALSE(long_context.ok());
  EXPECT_EQ(long_context.error().code, ErrorCode::kInvalidArgument);
  // 12 GiB of cache beside 10 2/3 usable, half a GiB of program, 465.7 MiB of activations.
  EXPECT_EQ(long_context.error().message,
            "16GB Mac: nothing is left for the model with 131,072 tokens of context, 2.29 GiB "
            "(2.46 GB) are missing; ask for a smaller context, or fewer bits for its cache");

  const auto tiny = BudgetForDevice(Request("512MB Mac", 256), model);
  ASSERT_FALSE(tiny.ok());
  EXPECT_NE(tiny.error().message.find("take a larger device"), std::string::npos);

  // Numbers from a hostile config do not wrap around.
  model.state.cache_elements_per_token = UINT64_MAX;
  const auto hostile = BudgetForDevice(Request("16GB Mac", UINT64_MAX), model);
  ASSERT_FALSE(hostile.ok());
}

TEST(BudgetForDevice, RefusesWhatMakesNoSense) {
  const ModelState model = Qwen3Moe();
  EXPECT_FALSE(BudgetForDevice(Request("32GB Mac", 0), model).ok());
  EXPECT_FALSE(BudgetForDevice(Request("32GB Mac", 1024, 6), model).ok());
  DeviceBudgetRequest nobody = Request("32GB Mac", 1024);
  nobody.batch = 0;
  EXPECT_FALSE(BudgetForDevice(nobody, model).ok());
}

TEST(BudgetForDevice, SumsExactlyEverywhere) {
  for (const char* device : {"16GB Mac", "36GB Mac", "192GB Mac", "24GB GPU", "64GB PC"}) {
    for (const uint64_t context : {1u, 255u, 4096u, 32768u, 131072u}) {
      for (const int kv_bits : {16, 8, 4}) {
        for (const uint64_t batch : {1u, 2u, 5u}) {
          for (const ModelState& model : {Qwen3Moe(), Mla(), Windows()}) {
            DeviceBudgetRequest request = Request(device, context, kv_bits);
            request.batch = batch;
            const auto budget = BudgetForDevice(request, model);
            if (!budget.ok()) continue;
            ExpectExactSum(*budget);
            EXPECT_LE(budget->budget_bytes, request.device.usable_bytes);
          }
        }
      }
    }
  }
}

TEST(ModelStateOf, ReadsActivationsAndHeadsOffShapes) {
  ModelState model;
  model.hidden_size = 2048;
  const auto add = [&](std::string_view tensor_class, std::vector<uint64_t> shape) {
    AddModuleShape(tensor_class, shape, &model);
  };
  add("o", {2048, 4096});
  EXPECT_EQ(model.activation_elements, 4u * 4096);
  add("gate", {6144, 2048});
  EXPECT_EQ(model.activation_elements, 3u * 6144);
  add("expert_up", {128, 768, 2048});
  EXPECT_EQ(model.activation_elements, 8u * (2 * 2048 + 3 * 768));
  add("mla_unembed_out", {20, 256, 512});
  add("mla_embed_q", {20, 512, 192});
  EXPECT_EQ(model.num_heads, 20u);
  EXPECT_EQ(model.unpacked_key_elements, 20u * 192);
  EXPECT_EQ(model.unpacked_value_elements, 20u * 256);
  const ModelState before = model;
  add("no such class", {1, 1 << 20});
  add("gate", {1 << 20});
  EXPECT_EQ(model.activation_elements, before.activation_elements);
}

TEST(DeviceBudgetText, PutsSizesInOneColumn) {
  const auto budget = BudgetForDevice(Request("32GB Mac", 32768), Qwen3Moe());
  ASSERT_TRUE(budget.ok());
  EXPECT_EQ(DeviceBudgetText(*budget),
            "  memory              32.00 GiB  32GB Mac\n"
            "- kept by the system  10.67 GiB  usable: 21.33 GiB, what macOS lets a GPU wire by "
            "default, about 2/3 of memory; sudo sysctl iogpu.wired_limit_mb=... raises it\n"
            "- key-value cache      3.00 GiB  32,768 tokens x 98,304 bytes\n"
            "- activations         465.7 MiB  prefill of 2,048 tokens at a time: an estimate\n"
            "- program             512.0 MiB  Python, tokenizer, kernels, allocator: an estimate\n"
            "= budget              17.38 GiB  18,660,033,364 bytes for the safetensors files\n");
}

}  // namespace
}  // namespace ram
