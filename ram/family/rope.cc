#include "ram/family/rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

#include "ram/family/model_shape.h"

namespace ram {
namespace {

class Builder {
 public:
  explicit Builder(const RopeSettings& settings) : settings_(settings) {}

  Result<RopeGraph> Build() {
    if (settings_.dims == 0 || settings_.dims % 2 != 0) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: {} columns of a head rotate, expected an even number",
                               settings_.where, settings_.dims)};
    }
    if (!(settings_.theta > 1)) {
      return Error{ErrorCode::kCorrupt, fmt::format("{}: rope_theta {}: expected more than 1",
                                                    settings_.where, settings_.theta)};
    }
    rope_.interleaved = settings_.interleaved;
    for (uint64_t i = 0; i < settings_.dims; i += 2) {
      const float exponent = static_cast<float>(i) / static_cast<float>(settings_.dims);
      periods_.push_back(std::pow(static_cast<float>(settings_.theta), exponent));
      rope_.inv_freq.push_back(1.0F / periods_.back());
    }
    const std::string kind = Kind();
    if (kind == "default" || kind == "mrope") return rope_;
    if (kind == "linear") return Linear();
    if (kind == "llama3") return Llama3();
    if (kind == "yarn" || kind == "deepseek_yarn") return Yarn();
    if (kind == "longrope" || kind == "su") return LongRope();
    if (kind == "dynamic") return Dynamic();
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: rope_type \"{}\" is not supported; supported are default, "
                             "linear, llama3, yarn, longrope and dynamic",
                             settings_.where, kind)};
  }

 private:
  bool mlx() const { return settings_.numerics == Numerics::kMlx; }

  const Json* Key(std::string_view key) const {
    return settings_.parameters == nullptr ? nullptr : Find(*settings_.parameters, key);
  }

  std::string Kind() const {
    for (const std::string_view key : {"rope_type", "type"}) {
      const Json* kind = Key(key);
      if (kind != nullptr) return kind->is_string() ? kind->get<std::string>() : Excerpt(*kind);
    }
    return "default";
  }

  // A number greater than zero; `fallback` if the key is missing.
  Result<double> Number(std::string_view key, std::optional<double> fallback) const {
    const Json* value = Key(key);
    if (value == nullptr && fallback) return *fallback;
    if (value == nullptr) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: rope_scaling has no key \"{}\"", settings_.where, key)};
    }
    const double number = value->is_number() ? value->get<double>() : 0;
    if (!(number > 0) || !std::isfinite(number)) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: rope_scaling: key \"{}\": expected a number above 0, found {}",
                               settings_.where, key, Excerpt(*value))};
    }
    return number;
  }

  // The context that the model was first trained on.
  Result<double> OriginalContext(double mlx_fallback) const {
    const auto stated = static_cast<double>(settings_.original_context);
    if (!mlx() && stated > 0) return stated;
    double fallback = mlx() ? mlx_fallback : static_cast<double>(settings_.max_context);
    if (mlx() && stated > 0) fallback = stated;
    if (fallback > 0) return Number("original_max_position_embeddings", fallback);
    return Number("original_max_position_embeddings", std::nullopt);
  }

  // factor, or how much longer the context is than the original one.
  Result<double> Factor(double original) const {
    if (Key("factor") != nullptr) return Number("factor", std::nullopt);
    if (settings_.max_context == 0) return Number("factor", std::nullopt);
    return static_cast<double>(settings_.max_context) / original;
  }

  Result<RopeGraph> Linear() {
    RAM_ASSIGN_OR_RETURN(const double factor, Number("factor", std::nullopt));
    for (float& f : rope_.inv_freq) f /= static_cast<float>(factor);
    return rope_;
  }

  Result<RopeGraph> Llama3() {
    RAM_ASSIGN_OR_RETURN(const double factor, Number("factor", std::nullopt));
    RAM_ASSIGN_OR_RETURN(const double low, Number("low_freq_factor", 1.0));
    RAM_ASSIGN_OR_RETURN(const double high, Number("high_freq_factor", 4.0));
    RAM_ASSIGN_OR_RETURN(const double original, OriginalContext(8192));
    for (float& f : rope_.inv_freq) {
      const float wavelength = static_cast<float>(2 * std::numbers::pi) / f;
      if (wavelength > static_cast<float>(original / low)) {
        f /= static_cast<float>(factor);
      } else if (low != high && !(wavelength < static_cast<float>(original / high))) {
        const float smooth = (static_cast<float>(original) / wavelength - static_cast<float>(low)) /
                             static_cast<float>(high - low);
        f = (1 - smooth) * f / static_cast<float>(factor) + smooth * f;
      }
    }
    return rope_;
  }

  Result<RopeGraph> Yarn() {
    RAM_ASSIGN_OR_RETURN(const double original, OriginalContext(4096));
    RAM_ASSIGN_OR_RETURN(const double factor, Factor(original));
    RAM_ASSIGN_OR_RETURN(const double fast, Number("beta_fast", 32.0));
    RAM_ASSIGN_OR_RETURN(const double slow, Number("beta_slow", 1.0));
    const Json* truncate = Key("truncate");
    if (truncate != nullptr && !truncate->is_boolean()) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: rope_scaling: key \"truncate\": expected true or false",
                               settings_.where)};
    }
    RAM_ASSIGN_OR_RETURN(const double scale, YarnAttentionFactor(factor));
    rope_.scale = static_cast<float>(scale);

    const auto dims = static_cast<double>(settings_.dims);
    const auto correction = [&](double rotations) {
      return dims * std::log(original / (rotations * 2 * std::numbers::pi)) /
             (2 * std::log(settings_.theta));
    };
    double low = correction(fast);
    double high = correction(slow);
    if (mlx() || truncate == nullptr || truncate->get<bool>()) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, dims - 1);
    if (low == high) high += 0.001;
    for (size_t i = 0; i < periods_.size(); ++i) {
      const float ramp = std::clamp(
          (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0F,
          1.0F);
      const float kept = 1 - ramp;
      const float interpolated = 1.0F / (static_cast<float>(factor) * periods_[i]);
      rope_.inv_freq[i] = interpolated * (1 - kept) + rope_.inv_freq[i] * kept;
    }
    return rope_;
  }

  // What cosine and sine are multiplied by.
  Result<double> YarnAttentionFactor(double factor) const {
    const bool has_mscale = Key("mscale") != nullptr && *Key("mscale") != 0;
    const bool has_all_dim = Key("mscale_all_dim") != nullptr && *Key("mscale_all_dim") != 0;
    double mscale = 1;
    double all_dim = 0;
    if (has_mscale) {
      RAM_ASSIGN_OR_RETURN(mscale, Number("mscale", std::nullopt));
    }
    if (has_all_dim) {
      RAM_ASSIGN_OR_RETURN(all_dim, Number("mscale_all_dim", std::nullopt));
    }
    if (mlx()) return YarnScale(factor, mscale) / YarnScale(factor, all_dim);
    if (Key("attention_factor") != nullptr) return Number("attention_factor", std::nullopt);
    if (has_mscale && has_all_dim) return YarnScale(factor, mscale) / YarnScale(factor, all_dim);
    return YarnScale(factor, 1);
  }

  Result<RopeGraph> LongRope() {
    RAM_ASSIGN_OR_RETURN(const double original, OriginalContext(4096));
    double factor = static_cast<double>(settings_.max_context) / original;
    if (!mlx()) {
      RAM_ASSIGN_OR_RETURN(factor, Factor(original));
    }
    double scale = factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(original));
    if (!mlx()) {
      RAM_ASSIGN_OR_RETURN(scale, Number("attention_factor", scale));
    }
    rope_.scale = static_cast<float>(scale);
    RAM_ASSIGN_OR_RETURN(rope_.long_inv_freq, Stretched("long_factor"));
    RAM_ASSIGN_OR_RETURN(rope_.inv_freq, Stretched("short_factor"));
    rope_.long_from = static_cast<uint64_t>(original);
    if (mlx()) {  // Which uses the long factors at every length.
      rope_.inv_freq = std::move(rope_.long_inv_freq);
      rope_.long_inv_freq.clear();
    }
    return rope_;
  }

  Result<std::vector<float>> Stretched(std::string_view key) const {
    const Json* factors = Key(key);
    const auto positive = [](const Json& f) { return f.is_number() && f.get<double>() > 0; };
    if (factors == nullptr || !factors->is_array() || factors->size() != periods_.size() ||
        !std::ranges::all_of(*factors, positive)) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: rope_scaling: key \"{}\": expected a list of {} numbers above "
                               "0, half the columns that rotate",
                               settings_.where, key, periods_.size())};
    }
    std::vector<float> frequencies;
    for (size_t i = 0; i < periods_.size(); ++i)
      frequencies.push_back(1.0F / ((*factors)[i].get<float>() * periods_[i]));
    return frequencies;
  }

  // Changes theta only beyond max_context, where no run goes.
  Result<RopeGraph> Dynamic() {
    if (settings_.max_context == 0) {
      return Error{
          ErrorCode::kCorrupt,
          fmt::format("{}: rope_type \"dynamic\" needs max_position_embeddings", settings_.where)};
    }
    return rope_;
  }

  const RopeSettings& settings_;
  std::vector<float> periods_;  // theta^(2i / dims)
  RopeGraph rope_;
};

}  // namespace

Result<RopeGraph> BuildRope(const RopeSettings& settings) { return Builder(settings).Build(); }

double YarnScale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

}  // namespace ram
