#include "ram/rates/rate_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <unordered_set>
#include <utility>

#include "ram/base/bytes.h"
#include "ram/base/file.h"
#include "ram/base/hash.h"
#include "ram/rates/json_text.h"

namespace ram {
namespace {

constexpr std::string_view kFormat = "ram.rates.v1";
constexpr std::array<std::string_view, 5> kKinds = {"embedding", "linear", "router", "switch",
                                                    "multi"};
// No count in a table exceeds this: 4 PiB is more than any model, and sums of counts, and products
// with bits, stay inside 64 bits. Doubles hold every whole number up to here.
constexpr uint64_t kMaxCount = uint64_t{1} << 52;
// Sums over slices must agree with their module's figures this closely: what different orders of
// adding doubles can differ by, with much to spare.
constexpr double kSumTolerance = 1e-6;
// No rounding to a grid over the range of a group loses more than some 14 times ||W||^2.
constexpr double kMaxRelativeError = 1e6;

bool IsStacked(std::string_view kind) { return kind == "switch" || kind == "multi"; }

// ---- Writing ----

void AppendCount(std::string& out, std::string_view key, uint64_t value) {
  out += fmt::format("\"{}\": {}", key, value);
}

void AppendString(std::string& out, std::string_view key, std::string_view value) {
  out += fmt::format("\"{}\": {}", key, JsonStringText(value));
}

void AppendNumber(std::string& out, std::string_view key, double value) {
  out += fmt::format("\"{}\": {}", key, JsonNumberText(value));
}

// "key": [text of each element].
template <typename Range, typename Text>
void AppendArray(std::string& out, std::string_view key, const Range& range, const Text& text) {
  out += fmt::format("\"{}\": [", key);
  std::string_view separator;
  for (const auto& element : range) {
    out += separator;
    out += text(element);
    separator = ", ";
  }
  out += ']';
}

void AppendSlice(std::string& out, const SliceRates& slice) {
  out += '{';
  AppendString(out, "hash", slice.hash);
  out += ", ";
  AppendNumber(out, "sum_squares", slice.sum_squares);
  out += ", ";
  AppendArray(out, "sum_squares_errors", slice.sum_squares_errors, JsonNumberText);
  out += '}';
}

void AppendModule(std::string& out, const ModuleRates& module) {
  out += '{';
  AppendString(out, "name", module.name);
  out += ", ";
  AppendString(out, "kind", module.kind);
  out += ", ";
  AppendString(out, "class", module.tensor_class);
  out += fmt::format(", \"layer\": {}, ", module.layer);
  AppendArray(out, "shape", module.shape, [](uint64_t size) { return fmt::format("{}", size); });
  out += ", ";
  AppendString(out, "dtype", DtypeName(module.dtype));
  out += ", ";
  AppendString(out, "mlx_default", module.mlx_default);
  out += ", ";
  AppendNumber(out, "sum_squares", module.sum_squares);
  out += ", ";
  AppendNumber(out, "weighted_sum_squares", module.weighted_sum_squares);
  out += ", ";
  AppendNumber(out, "kurtosis", module.kurtosis);
  out += ", ";
  AppendNumber(out, "largest", module.largest);
  out += ", ";
  AppendCount(out, "num_nan", module.num_nan);
  out += ", ";
  AppendCount(out, "num_inf", module.num_inf);
  out += ", ";
  if (!module.first_non_finite.empty()) {
    AppendString(out, "first_non_finite", module.first_non_finite);
    out += ", ";
  }
  AppendString(out, "hash", module.hash);
  out += ", ";
  AppendArray(out, "choices", module.choices,
              [](const ChoiceRate& rate) { return JsonStringText(ChoiceName(rate.choice)); });
  out += ", ";
  AppendArray(out, "bytes", module.choices,
              [](const ChoiceRate& rate) { return fmt::format("{}", rate.bytes); });
  out += ", ";
  AppendArray(out, "sum_squares_error", module.choices,
              [](const ChoiceRate& rate) { return JsonNumberText(rate.sum_squares_error); });
  out += ", ";
  AppendArray(out, "weighted_error", module.choices,
              [](const ChoiceRate& rate) { return JsonNumberText(rate.weighted_error); });
  out += ", ";
  AppendArray(out, "largest_error", module.choices,
              [](const ChoiceRate& rate) { return JsonNumberText(rate.largest_error); });
  const auto has_rtn = [](const ChoiceRate& rate) {
    return rate.rtn_sum_squares_error.has_value();
  };
  if (std::ranges::any_of(module.choices, has_rtn)) {
    out += ", ";
    AppendArray(out, "rtn_sum_squares_error", module.choices, [](const ChoiceRate& rate) {
      return rate.rtn_sum_squares_error ? JsonNumberText(*rate.rtn_sum_squares_error)
                                        : std::string("null");
    });
  }
  const auto is_priced = [](const ChoiceRate& rate) { return rate.priced_by.has_value(); };
  if (std::ranges::any_of(module.choices, is_priced)) {
    out += ", ";
    AppendArray(out, "priced_by", module.choices, [](const ChoiceRate& rate) {
      return rate.priced_by ? JsonStringText(QuantizerName(*rate.priced_by)) : std::string("null");
    });
  }
  if (!module.slices.empty()) {
    out += ", \"slices\": [";
    std::string_view separator = "\n";
    for (const SliceRates& slice : module.slices) {
      out += separator;
      AppendSlice(out, slice);
      separator = ",\n";
    }
    out += ']';
  }
  out += '}';
}

// ---- Reading ----

// One object of the file, whose keys are read by name; complaints start with `where`. Keys outside
// the format are refused rather than ignored: a misspelt optional key would change plans in
// silence.
class ObjectReader {
 public:
  ObjectReader(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  Status CheckKeys(std::initializer_list<std::string_view> known) const {
    if (!object_.is_object()) return Wrong("expected an object");
    for (const auto& [key, value] : object_.items()) {
      if (std::ranges::find(known, key) == known.end()) {
        return Wrong(
            fmt::format("key {} is not part of the format {}", JsonStringText(key), kFormat));
      }
    }
    return Done{};
  }

  Error Wrong(std::string_view what) const {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: {}", where_, what)};
  }
  Error WrongKey(std::string_view key, std::string_view what) const {
    return Wrong(fmt::format("key \"{}\": {}", key, what));
  }

  Result<std::string> String(std::string_view key) const { return GetString(object_, key, where_); }
  Result<std::string> Name(std::string_view key) const {
    RAM_ASSIGN_OR_RETURN(std::string name, String(key));
    if (name.empty()) return WrongKey(key, "expected a name, found an empty string");
    return name;
  }

  Result<uint64_t> Count(std::string_view key) const { return CountOf(Find(object_, key), key); }

  Result<double> Magnitude(std::string_view key) const {
    return MagnitudeOf(Find(object_, key), key);
  }

  bool Has(std::string_view key) const { return object_.contains(key); }

  Result<const Json*> Array(std::string_view key) const { return GetArray(object_, key, where_); }
  Result<const Json*> Array(std::string_view key, size_t size) const {
    RAM_ASSIGN_OR_RETURN(const Json* array, Array(key));
    if (array->size() != size) {
      return WrongKey(key, fmt::format("expected {} elements, found {}", size, array->size()));
    }
    return array;
  }
  Result<const Json*> Object(std::string_view key) const { return GetObject(object_, key, where_); }

  Result<uint64_t> CountOf(const Json* value, std::string_view key) const {
    if (value == nullptr || !value->is_number_unsigned() || value->get<uint64_t>() > kMaxCount) {
      return WrongKey(key, fmt::format("expected a whole number from 0 to {}", kMaxCount));
    }
    return value->get<uint64_t>();
  }
  Result<double> MagnitudeOf(const Json* value, std::string_view key) const {
    if (value == nullptr || !value->is_number()) {
      return WrongKey(key, "expected a finite number that is not negative");
    }
    const double number = value->get<double>();
    if (!std::isfinite(number) || number < 0) {
      return WrongKey(key, fmt::format("expected a finite number that is not negative, found {}",
                                       value->dump()));
    }
    return number;
  }

  Result<Quantizer> QuantizerOf(const Json& value, std::string_view key) const {
    if (!value.is_string()) return WrongKey(key, "expected the name of a quantizer");
    const auto quantizer = ParseQuantizer(value.get_ref<const std::string&>());
    if (!quantizer) return WrongKey(key, quantizer.error().message);
    return *quantizer;
  }

  Result<std::vector<uint64_t>> Counts(std::string_view key) const {
    RAM_ASSIGN_OR_RETURN(const Json* array, Array(key));
    std::vector<uint64_t> counts;
    counts.reserve(array->size());
    for (const Json& element : *array) {
      RAM_ASSIGN_OR_RETURN(const uint64_t count, CountOf(&element, key));
      counts.push_back(count);
    }
    return counts;
  }
  Result<std::vector<double>> Magnitudes(std::string_view key, size_t size) const {
    RAM_ASSIGN_OR_RETURN(const Json* array, Array(key, size));
    std::vector<double> magnitudes;
    magnitudes.reserve(size);
    for (const Json& element : *array) {
      RAM_ASSIGN_OR_RETURN(const double magnitude, MagnitudeOf(&element, key));
      magnitudes.push_back(magnitude);
    }
    return magnitudes;
  }

  const std::string& where() const { return where_; }

 private:
  const Json& object_;
  std::string where_;
};

// Rows of all slices together, and columns.
std::pair<uint64_t, uint64_t> RowsAndCols(const ModuleRates& module) {
  uint64_t rows = 1;
  for (size_t i = 0; i + 1 < module.shape.size(); ++i) rows *= module.shape[i];
  return {rows, module.shape.back()};
}

Status ReadShape(const ObjectReader& reader, ModuleRates& module) {
  RAM_ASSIGN_OR_RETURN(module.shape, reader.Counts("shape"));
  const size_t dimensions = IsStacked(module.kind) ? 3 : 2;
  if (module.shape.size() != dimensions) {
    return reader.WrongKey("shape", fmt::format("expected {} dimensions for kind \"{}\", found {}",
                                                dimensions, module.kind, module.shape.size()));
  }
  uint64_t weights = 1;
  for (const uint64_t size : module.shape) {
    const auto product = CheckedMul(weights, size);
    if (size == 0 || !product || *product > kMaxCount) {
      return reader.WrongKey(
          "shape", fmt::format("expected sizes from 1 on and at most {} weights", kMaxCount));
    }
    weights = *product;
  }
  return Done{};
}

Status ReadChoices(const ObjectReader& reader, ModuleRates& module) {
  RAM_ASSIGN_OR_RETURN(const Json* names, reader.Array("choices"));
  const size_t count = names->size();
  RAM_ASSIGN_OR_RETURN(const Json* bytes, reader.Array("bytes", count));
  RAM_ASSIGN_OR_RETURN(const auto errors, reader.Magnitudes("sum_squares_error", count));
  RAM_ASSIGN_OR_RETURN(const auto weighted, reader.Magnitudes("weighted_error", count));
  RAM_ASSIGN_OR_RETURN(const auto largest, reader.Magnitudes("largest_error", count));
  const Json* rtn = nullptr;
  if (reader.Has("rtn_sum_squares_error")) {
    RAM_ASSIGN_OR_RETURN(rtn, reader.Array("rtn_sum_squares_error", count));
  }

  const Json* priced_by = nullptr;
  if (reader.Has("priced_by")) {
    RAM_ASSIGN_OR_RETURN(priced_by, reader.Array("priced_by", count));
  }

  const auto [rows, cols] = RowsAndCols(module);
  size_t next_affine = 0;
  for (size_t i = 0; i < count; ++i) {
    const Json& name = (*names)[i];
    const auto choice =
        name.is_string() ? ParseChoice(name.get_ref<const std::string&>()) : Choice{};
    if (!name.is_string() || !choice) {
      return reader.WrongKey(
          "choices", fmt::format("expected choices such as \"4,64\" or \"16\", found {}",
                                 name.dump(-1, ' ', false, Json::error_handler_t::replace)));
    }
    if (!IsLegal(*choice, cols)) {
      return reader.WrongKey("choices", fmt::format("{} does not divide rows of {} weights",
                                                    ChoiceName(*choice), cols));
    }
    if (choice->mode == Mode::kAffine) {
      const size_t index = AffineIndex(*choice);
      if (index < next_affine) {
        return reader.WrongKey(
            "choices", fmt::format("{} is out of order or there twice", ChoiceName(*choice)));
      }
      next_affine = index + 1;
    } else if (module.Find(*choice) != nullptr) {
      return reader.WrongKey("choices", fmt::format("{} is there twice", ChoiceName(*choice)));
    }
    ChoiceRate rate;
    rate.choice = *choice;
    RAM_ASSIGN_OR_RETURN(rate.bytes, reader.CountOf(&(*bytes)[i], "bytes"));
    const uint64_t least = StoredBytes(*choice, rows, cols, module.dtype);
    if (rate.bytes < least) {
      return reader.WrongKey("bytes", fmt::format("{} bytes for {}, but its data alone takes {}",
                                                  rate.bytes, ChoiceName(*choice), least));
    }
    rate.sum_squares_error = errors[i];
    if (module.sum_squares > 0 && errors[i] / module.sum_squares > kMaxRelativeError) {
      return reader.WrongKey("sum_squares_error",
                             fmt::format("{} for {} is too much beside weights of {}", errors[i],
                                         ChoiceName(*choice), module.sum_squares));
    }
    rate.weighted_error = weighted[i];
    rate.largest_error = largest[i];
    if (rtn != nullptr && !(*rtn)[i].is_null()) {
      RAM_ASSIGN_OR_RETURN(rate.rtn_sum_squares_error,
                           reader.MagnitudeOf(&(*rtn)[i], "rtn_sum_squares_error"));
    }
    if (priced_by != nullptr && !(*priced_by)[i].is_null()) {
      RAM_ASSIGN_OR_RETURN(rate.priced_by, reader.QuantizerOf((*priced_by)[i], "priced_by"));
    }
    if (choice->mode != Mode::kAffine && rate.sum_squares_error != 0) {
      return reader.WrongKey(
          "sum_squares_error",
          fmt::format("{} keeps the weights as they are, so its error is 0", ChoiceName(*choice)));
    }
    module.choices.push_back(std::move(rate));
  }
  if (module.choices.empty() || module.choices.back().choice != Choice::Dense()) {
    return reader.WrongKey("choices", "expected \"16\" as the last one");
  }
  return Done{};
}

bool IsNear(double sum, double total) {
  return std::abs(sum - total) <= kSumTolerance * std::max(sum, total);
}

Status ReadSlices(const ObjectReader& reader, ModuleRates& module) {
  if (!reader.Has("slices")) return Done{};
  RAM_ASSIGN_OR_RETURN(const Json* array, reader.Array("slices"));
  if (!IsStacked(module.kind) || array->size() != module.shape[0]) {
    return reader.WrongKey("slices", fmt::format("{} slices do not fit the shape", array->size()));
  }
  std::vector<size_t> affine;  // Indexes into module.choices.
  for (size_t i = 0; i < module.choices.size(); ++i) {
    if (module.choices[i].choice.mode == Mode::kAffine) affine.push_back(i);
  }
  double sum_squares = 0;
  std::vector<double> sums(affine.size());
  for (const Json& element : *array) {
    const ObjectReader slice_reader(
        element, fmt::format("{}: slice {}", reader.where(), module.slices.size()));
    RAM_RETURN_IF_ERROR(slice_reader.CheckKeys({"hash", "sum_squares", "sum_squares_errors"}));
    SliceRates slice;
    RAM_ASSIGN_OR_RETURN(slice.hash, slice_reader.String("hash"));
    RAM_ASSIGN_OR_RETURN(slice.sum_squares, slice_reader.Magnitude("sum_squares"));
    RAM_ASSIGN_OR_RETURN(slice.sum_squares_errors,
                         slice_reader.Magnitudes("sum_squares_errors", affine.size()));
    sum_squares += slice.sum_squares;
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += slice.sum_squares_errors[i];
    module.slices.push_back(std::move(slice));
  }
  if (!IsNear(sum_squares, module.sum_squares)) {
    return reader.WrongKey("sum_squares", fmt::format("{} is not the sum over the slices, {}",
                                                      module.sum_squares, sum_squares));
  }
  for (size_t i = 0; i < sums.size(); ++i) {
    const ChoiceRate& rate = module.choices[affine[i]];
    if (rate.priced_by) continue;  // Priced as a whole, by another quantizer than the slices were.
    if (!IsNear(sums[i], rate.sum_squares_error)) {
      return reader.WrongKey("sum_squares_error",
                             fmt::format("{} for {} is not the sum over the slices, {}",
                                         rate.sum_squares_error, ChoiceName(rate.choice), sums[i]));
    }
  }
  return Done{};
}

Result<ModuleRates> ReadModule(const Json& json, int num_layers, std::string_view where) {
  const Json* name = Find(json, "name");
  const ObjectReader reader(
      json, name != nullptr && name->is_string()
                ? fmt::format("{}: module {}", where, name->get_ref<const std::string&>())
                : fmt::format("{}: a module", where));
  RAM_RETURN_IF_ERROR(reader.CheckKeys({"name",
                                        "kind",
                                        "class",
                                        "layer",
                                        "shape",
                                        "dtype",
                                        "mlx_default",
                                        "sum_squares",
                                        "weighted_sum_squares",
                                        "kurtosis",
                                        "largest",
                                        "num_nan",
                                        "num_inf",
                                        "first_non_finite",
                                        "hash",
                                        "choices",
                                        "bytes",
                                        "sum_squares_error",
                                        "weighted_error",
                                        "largest_error",
                                        "rtn_sum_squares_error",
                                        "priced_by",
                                        "slices"}));
  ModuleRates module;
  RAM_ASSIGN_OR_RETURN(module.name, reader.Name("name"));
  RAM_ASSIGN_OR_RETURN(module.kind, reader.String("kind"));
  if (std::ranges::find(kKinds, module.kind) == kKinds.end()) {
    return reader.WrongKey("kind", fmt::format("expected one of {}, found \"{}\"",
                                               fmt::join(kKinds, ", "), module.kind));
  }
  RAM_ASSIGN_OR_RETURN(module.tensor_class, reader.Name("class"));
  RAM_ASSIGN_OR_RETURN(const int64_t layer, GetInt(json, "layer", reader.where()));
  if (layer < -1 || layer >= num_layers) {
    return reader.WrongKey(
        "layer", fmt::format("expected -1 or a layer below {}, found {}", num_layers, layer));
  }
  module.layer = static_cast<int>(layer);
  RAM_RETURN_IF_ERROR(ReadShape(reader, module));
  RAM_ASSIGN_OR_RETURN(const std::string dtype, reader.String("dtype"));
  module.dtype = ParseDtype(dtype).value_or(Dtype::kBool);
  if (module.dtype != Dtype::kBF16 && module.dtype != Dtype::kF16 && module.dtype != Dtype::kF32) {
    return reader.WrongKey("dtype", fmt::format("expected BF16, F16 or F32, found \"{}\"", dtype));
  }
  RAM_ASSIGN_OR_RETURN(module.mlx_default, reader.String("mlx_default"));
  if (module.mlx_default != "uniform" && !ParseChoice(module.mlx_default)) {
    return reader.WrongKey("mlx_default", fmt::format("expected \"uniform\" or a choice such as "
                                                      "\"8,64\" or \"16\", found \"{}\"",
                                                      module.mlx_default));
  }
  RAM_ASSIGN_OR_RETURN(module.sum_squares, reader.Magnitude("sum_squares"));
  RAM_ASSIGN_OR_RETURN(module.weighted_sum_squares, reader.Magnitude("weighted_sum_squares"));
  RAM_ASSIGN_OR_RETURN(module.kurtosis, reader.Magnitude("kurtosis"));
  RAM_ASSIGN_OR_RETURN(module.largest, reader.Magnitude("largest"));
  RAM_ASSIGN_OR_RETURN(module.num_nan, reader.Count("num_nan"));
  RAM_ASSIGN_OR_RETURN(module.num_inf, reader.Count("num_inf"));
  if (reader.Has("first_non_finite")) {
    RAM_ASSIGN_OR_RETURN(module.first_non_finite, reader.String("first_non_finite"));
  }
  RAM_ASSIGN_OR_RETURN(module.hash, reader.String("hash"));
  RAM_RETURN_IF_ERROR(ReadChoices(reader, module));
  RAM_RETURN_IF_ERROR(ReadSlices(reader, module));
  return module;
}

Result<FixedTensor> ReadFixed(const Json& json, std::string_view where) {
  const ObjectReader reader(json, fmt::format("{}: a fixed tensor", where));
  RAM_RETURN_IF_ERROR(reader.CheckKeys({"name", "num_weights", "bytes"}));
  FixedTensor fixed;
  RAM_ASSIGN_OR_RETURN(fixed.name, reader.Name("name"));
  RAM_ASSIGN_OR_RETURN(fixed.num_weights, reader.Count("num_weights"));
  RAM_ASSIGN_OR_RETURN(fixed.bytes, reader.Count("bytes"));
  return fixed;
}

Result<GenerationState> ReadState(const ObjectReader& reader) {
  RAM_ASSIGN_OR_RETURN(const Json* json, reader.Object("state"));
  const ObjectReader state_reader(*json, fmt::format("{}: key \"state\"", reader.where()));
  RAM_RETURN_IF_ERROR(
      state_reader.CheckKeys({"cache_elements_per_token", "window_cache_elements_per_token",
                              "window_tokens", "recurrent_bytes", "latent_elements_per_token"}));
  GenerationState state;
  RAM_ASSIGN_OR_RETURN(state.cache_elements_per_token,
                       state_reader.Count("cache_elements_per_token"));
  RAM_ASSIGN_OR_RETURN(state.window_cache_elements_per_token,
                       state_reader.Count("window_cache_elements_per_token"));
  RAM_ASSIGN_OR_RETURN(state.window_tokens, state_reader.Count("window_tokens"));
  RAM_ASSIGN_OR_RETURN(state.recurrent_bytes, state_reader.Count("recurrent_bytes"));
  RAM_ASSIGN_OR_RETURN(state.latent_elements_per_token,
                       state_reader.Count("latent_elements_per_token"));
  return state;
}

// Names once each, and sums of everything within kMaxCount, so that no later sum can overflow.
Status CheckWhole(const RateTable& table, const ObjectReader& reader) {
  std::unordered_set<std::string_view> names;
  uint64_t bytes = table.overhead_bytes;
  uint64_t weights = 0;
  const auto add = [&](const std::string& name, uint64_t more_bytes, uint64_t more_weights) {
    bytes += more_bytes;
    weights += more_weights;
    return names.insert(name).second;
  };
  for (const ModuleRates& module : table.modules) {
    const auto by_bytes = [](const ChoiceRate& rate) { return rate.bytes; };
    const uint64_t largest = std::ranges::max(module.choices, {}, by_bytes).bytes;
    if (!add(module.name, largest, module.num_weights())) {
      return reader.Wrong(fmt::format("module {} is there twice", module.name));
    }
    if (bytes > kMaxCount || weights > kMaxCount) break;
  }
  for (const FixedTensor& fixed : table.fixed) {
    if (bytes > kMaxCount || weights > kMaxCount) break;
    if (!add(fixed.name, fixed.bytes, fixed.num_weights)) {
      return reader.Wrong(fmt::format("tensor {} is there twice", fixed.name));
    }
  }
  if (bytes > kMaxCount || weights > kMaxCount) {
    return reader.Wrong(fmt::format("the model is larger than {} bytes or weights", kMaxCount));
  }
  return Done{};
}

}  // namespace

uint64_t ModuleRates::num_weights() const {
  uint64_t weights = 1;
  for (const uint64_t size : shape) weights *= size;
  return weights;
}

const ChoiceRate* ModuleRates::Find(const Choice& choice) const {
  const auto found = std::ranges::find(choices, choice, &ChoiceRate::choice);
  return found == choices.end() ? nullptr : &*found;
}

uint64_t RateTable::num_weights() const {
  uint64_t weights = 0;
  for (const ModuleRates& module : modules) weights += module.num_weights();
  for (const FixedTensor& tensor : fixed) weights += tensor.num_weights;
  return weights;
}

uint64_t RateTable::fixed_bytes() const {
  uint64_t bytes = overhead_bytes;
  for (const FixedTensor& tensor : fixed) bytes += tensor.bytes;
  return bytes;
}

uint64_t RateTable::dense_bytes() const {
  uint64_t bytes = fixed_bytes();
  for (const ModuleRates& module : modules) {
    const ChoiceRate* dense = module.Find(Choice::Dense());
    RAM_CHECK(dense != nullptr);
    bytes += dense->bytes;
  }
  return bytes;
}

const ModuleRates* RateTable::Find(std::string_view module) const {
  const auto found = std::ranges::find(modules, module, &ModuleRates::name);
  return found == modules.end() ? nullptr : &*found;
}

double SqnrDb(double sum_squares, double sum_squares_error) {
  if (sum_squares_error == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(sum_squares / sum_squares_error);
}

std::string ToJsonText(const RateTable& table) {
  std::string out = "{\n";
  const auto end_line = [&] { out += ",\n"; };
  AppendString(out, "format", kFormat), end_line();
  AppendString(out, "model", table.model), end_line();
  AppendString(out, "model_type", table.model_type), end_line();
  AppendString(out, "structure_hash", table.structure_hash), end_line();
  AppendString(out, "weights_hash", table.weights_hash), end_line();
  AppendString(out, "quantizer", QuantizerName(table.quantizer)), end_line();
  AppendString(out, "rounding", RoundingName(table.rounding)), end_line();
  out += fmt::format("\"num_layers\": {},\n", table.num_layers);
  AppendCount(out, "hidden_size", table.hidden_size), end_line();
  AppendCount(out, "vocabulary", table.vocabulary), end_line();
  AppendCount(out, "max_context", table.max_context), end_line();
  AppendCount(out, "source_bytes", table.source_bytes), end_line();
  AppendCount(out, "overhead_bytes", table.overhead_bytes), end_line();
  const GenerationState& state = table.state;
  out += fmt::format(
      "\"state\": {{\"cache_elements_per_token\": {}, \"window_cache_elements_per_token\": {}, "
      "\"window_tokens\": {}, \"recurrent_bytes\": {}, \"latent_elements_per_token\": {}}},\n",
      state.cache_elements_per_token, state.window_cache_elements_per_token, state.window_tokens,
      state.recurrent_bytes, state.latent_elements_per_token);

  out += "\"modules\": [";
  std::string_view separator = "\n";
  for (const ModuleRates& module : table.modules) {
    out += separator;
    AppendModule(out, module);
    separator = ",\n";
  }
  out += "\n],\n\"fixed\": [";
  separator = "\n";
  for (const FixedTensor& fixed : table.fixed) {
    out += separator;
    out += fmt::format("{{\"name\": {}, \"num_weights\": {}, \"bytes\": {}}}",
                       JsonStringText(fixed.name), fixed.num_weights, fixed.bytes);
    separator = ",\n";
  }
  out += "\n]\n}\n";
  return out;
}

Result<RateTable> ParseRateTable(std::string_view text, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const Json json, ParseJson(text, where));
  const ObjectReader reader(json, std::string(where));
  if (!json.is_object()) return reader.Wrong("expected an object");
  RAM_ASSIGN_OR_RETURN(const std::string format, reader.String("format"));
  if (format != kFormat) {
    return reader.WrongKey(
        "format", fmt::format("expected \"{}\", found {}", kFormat, JsonStringText(format)));
  }
  RAM_RETURN_IF_ERROR(reader.CheckKeys({"format", "model", "model_type", "structure_hash",
                                        "weights_hash", "quantizer", "rounding", "num_layers",
                                        "hidden_size", "vocabulary", "max_context", "source_bytes",
                                        "overhead_bytes", "state", "modules", "fixed"}));
  RateTable table;
  RAM_ASSIGN_OR_RETURN(table.model, reader.String("model"));
  RAM_ASSIGN_OR_RETURN(table.model_type, reader.String("model_type"));
  RAM_ASSIGN_OR_RETURN(table.structure_hash, reader.String("structure_hash"));
  RAM_ASSIGN_OR_RETURN(table.weights_hash, reader.String("weights_hash"));
  RAM_ASSIGN_OR_RETURN(const std::string quantizer, reader.String("quantizer"));
  RAM_ASSIGN_OR_RETURN(table.quantizer, reader.QuantizerOf(Json(quantizer), "quantizer"));
  RAM_ASSIGN_OR_RETURN(const std::string rounding_name, reader.String("rounding"));
  const auto rounding = ParseRounding(rounding_name);
  if (!rounding) return reader.WrongKey("rounding", rounding.error().message);
  table.rounding = *rounding;
  RAM_ASSIGN_OR_RETURN(const uint64_t num_layers, reader.Count("num_layers"));
  if (num_layers > 1'000'000) return reader.WrongKey("num_layers", "expected at most 1000000");
  table.num_layers = static_cast<int>(num_layers);
  RAM_ASSIGN_OR_RETURN(table.hidden_size, reader.Count("hidden_size"));
  RAM_ASSIGN_OR_RETURN(table.vocabulary, reader.Count("vocabulary"));
  RAM_ASSIGN_OR_RETURN(table.max_context, reader.Count("max_context"));
  RAM_ASSIGN_OR_RETURN(table.source_bytes, reader.Count("source_bytes"));
  RAM_ASSIGN_OR_RETURN(table.overhead_bytes, reader.Count("overhead_bytes"));
  RAM_ASSIGN_OR_RETURN(table.state, ReadState(reader));

  RAM_ASSIGN_OR_RETURN(const Json* modules, reader.Array("modules"));
  if (modules->empty()) return reader.WrongKey("modules", "expected at least one module");
  table.modules.reserve(modules->size());
  for (const Json& element : *modules) {
    RAM_ASSIGN_OR_RETURN(ModuleRates module, ReadModule(element, table.num_layers, where));
    table.modules.push_back(std::move(module));
  }
  RAM_ASSIGN_OR_RETURN(const Json* fixed, reader.Array("fixed"));
  table.fixed.reserve(fixed->size());
  for (const Json& element : *fixed) {
    RAM_ASSIGN_OR_RETURN(FixedTensor tensor, ReadFixed(element, where));
    table.fixed.push_back(std::move(tensor));
  }
  RAM_RETURN_IF_ERROR(CheckWhole(table, reader));
  return table;
}

Result<LoadedRates> ReadRateTable(const std::filesystem::path& path) {
  RAM_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxJsonBytes));
  RAM_ASSIGN_OR_RETURN(RateTable table, ParseRateTable(text, path.string()));
  return LoadedRates{std::move(table), Sha256Hex(text)};
}

}  // namespace ram
