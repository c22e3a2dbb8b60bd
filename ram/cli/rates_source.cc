#include "ram/cli/rates_source.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "ram/base/bytes.h"

namespace ram::cli {

void NoteCatalog(const OpenedModel& model, Context& context) {
  for (const std::string& note : model.catalog.notes) context.Note("note: " + note);
  std::map<std::string, std::pair<size_t, uint64_t>> dropped;
  for (const DroppedTensor& tensor : model.catalog.dropped) {
    auto& [count, bytes] = dropped[tensor.reason];
    ++count;
    bytes += tensor.num_bytes;
  }
  for (const auto& [reason, total] : dropped) {
    context.Note(fmt::format("not part of the output: {} ({} tensor{}, {})", reason, total.first,
                             total.first == 1 ? "" : "s", FormatBytesShort(total.second)));
  }
}

Result<LoadedRates> MeasureWithNote(const OpenedModel& model, const CompressOptions& options,
                                    Context& context) {
  MeasureStats stats;
  RAM_ASSIGN_OR_RETURN(LoadedRates rates, Measure(model, options, &stats));
  const double gigabytes = static_cast<double>(stats.total_bytes) / 1e9;
  context.Note(fmt::format(
      "measured {} modules, {}, in {:.1f} s ({:.2f} GB/s; kernel {:.2f} s){}",
      rates.table.modules.size(), FormatBytesShort(stats.total_bytes), stats.seconds,
      stats.seconds > 0 ? gigabytes / stats.seconds : 0, stats.kernel_seconds,
      stats.cached_bytes == 0
          ? ""
          : fmt::format(", {} known from earlier runs", FormatBytesShort(stats.cached_bytes))));
  return rates;
}

Result<RatesSource> GetRates(const std::string& source, const MeasureSettings& settings,
                             Context& context) {
  std::error_code error;
  if (source.ends_with(".json") && std::filesystem::is_regular_file(source, error)) {
    RAM_ASSIGN_OR_RETURN(LoadedRates rates, ReadRateTable(source));
    return RatesSource{std::move(rates), std::nullopt,
                       std::filesystem::path(source).filename().string()};
  }
  RAM_ASSIGN_OR_RETURN(
      OpenedModel model,
      OpenModel(source, settings.lenient ? Strictness::kLenient : Strictness::kStrict));
  NoteCatalog(model, context);
  CompressOptions options;
  options.cache_path = settings.CachePath();
  options.pool = &context.pool();
  options.watcher = context.MakeWatcher();
  RAM_ASSIGN_OR_RETURN(LoadedRates rates, MeasureWithNote(model, options, context));
  return RatesSource{std::move(rates), std::move(model), ""};
}

}  // namespace ram::cli
