#pragma once

// README.md of a written model.

#include <cstdint>
#include <string>

#include "ram/plan/plan.h"
#include "ram/rates/rate_table.h"

namespace ram {

struct ModelCardInfo {
  std::string name;         // Of the written model: its directory.
  std::string base_model;   // As it was named; stated only if it looks like a name on the hub.
  std::string license;      // Identifier, e.g. "apache-2.0"; empty: unknown, not stated.
  uint64_t file_bytes = 0;  // Of the safetensors files; 0: not known, the plan's bound is stated.
  bool has_rates = true;    // rates.json lies beside plan.json.
};

// "org/name", neither a path nor anything else.
bool LooksLikeHubName(const std::string& name);

// Markdown with YAML front matter. The same plan gives the same bytes: no dates, no machine.
std::string ModelCard(const Plan& plan, const RateTable& rates, const ModelCardInfo& info);

}  // namespace ram
