#pragma once

// Options of the verbs that plan (compress, plan, curve): objective, floor, rules, budgets, device.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "ram/base/result.h"
#include "ram/compress/compress.h"
#include "ram/device/device.h"
#include "ram/plan/plan.h"
#include "ram/rates/rate_table.h"

namespace ram::cli {

// One budget that was asked for.
struct Budget {
  std::string label;  // As it was written: "4GiB", "4.5bpw", "min-safe", "16GB Mac".
  uint64_t bytes = 0;
  std::string note;  // The subtraction of a device budget, for people; may be empty.
};

struct PlanOptions {
  // Adds the options that shape a plan; `with_budgets`: also those that set its size.
  void Add(CLI::App* verb, bool with_budgets);

  Result<PlanRequest> Request() const;
  // All budgets asked for; kInvalidArgument if there is none.
  Result<std::vector<Budget>> Budgets(const RateTable& rates, const PlanRequest& request) const;

  std::string objective = "weights";
  std::string menu;
  std::string priors_file;
  double floor_db = 9;
  std::vector<std::string> pins;
  std::vector<std::string> bans;
  std::vector<std::string> ties;
  bool no_protect = false;

  std::vector<std::string> budgets;
  bool min_safe = false;
  bool tiers = false;
  std::string device;
  uint64_t context = 32768;
  int kv_bits = 16;
};

// A size in bytes ("16GiB"), bits per weight ("4.5bpw") or a share of the 16-bit size ("45%");
// needs no errors, so a table of sizes will do.
Result<uint64_t> ParseBudget(const std::string& text, const RateTable& rates);

// Bytes of a model in which every module has this choice, as mlx_lm.convert writes it; needs no
// errors, so a table of sizes will do.
uint64_t UniformBytes(const RateTable& rates, const Choice& choice);

// Options of the verbs that read weights.
struct MeasureSettings {
  void Add(CLI::App* verb);
  std::filesystem::path CachePath() const;

  bool no_cache = false;
  std::string cache;
  bool lenient = false;
};

// --quantizer and --rounding.
struct QuantizerOptions {
  void Add(CLI::App* verb, const std::string& default_quantizer);
  Result<Quantizer> quantizer() const { return ParseQuantizer(quantizer_name); }
  Result<Rounding> rounding() const { return ParseRounding(rounding_name); }

  std::string quantizer_name;
  std::string rounding_name = "cpu";
};

}  // namespace ram::cli
