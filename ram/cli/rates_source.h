#pragma once

// MODEL|rates.json: the argument of plan and curve.

#include <optional>
#include <string>

#include "ram/cli/plan_options.h"
#include "ram/cli/verb.h"
#include "ram/compress/compress.h"

namespace ram::cli {

struct RatesSource {
  LoadedRates rates;
  std::optional<OpenedModel> model;  // Absent where a table was read.
  std::string file_name;             // Of the table that was read.
};

// Reads the table if `source` is a .json file, else measures the model of that name.
Result<RatesSource> GetRates(const std::string& source, const MeasureSettings& settings,
                             Context& context);

// Measures an opened model, and says how fast it went.
Result<LoadedRates> MeasureWithNote(const OpenedModel& model, const CompressOptions& options,
                                    Context& context);

// Lines about the model that the user should read before anything else: dropped tensors, notes.
void NoteCatalog(const OpenedModel& model, Context& context);

}  // namespace ram::cli
