#include "ram/text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "ram/base/file.h"
#include "ram/base/json.h"
#include "ram/text/bpe.h"
#include "ram/text/byte_alphabet.h"
#include "ram/text/decoder.h"
#include "ram/text/normalizer.h"
#include "ram/text/post_processor.h"
#include "ram/text/pre_tokenizer.h"
#include "ram/text/text_arena.h"
#include "ram/text/tokenizer_file.h"
#include "ram/text/unicode.h"

namespace ram {
namespace {

constexpr uint64_t kMaxFileBytes = 256 << 20;
constexpr size_t kMaxTextBytes = size_t{1} << 30;

uint64_t HashBytes(std::string_view bytes) {
  constexpr uint64_t kFactor = 0x9E3779B97F4A7C15u;
  uint64_t hash = bytes.size() * kFactor;
  for (; bytes.size() >= 8; bytes.remove_prefix(8)) {
    uint64_t word;
    std::memcpy(&word, bytes.data(), 8);
    hash = (std::rotl(hash, 29) ^ word) * kFactor;
  }
  uint64_t rest = 0;
  std::memcpy(&rest, bytes.data(), bytes.size());
  hash = (std::rotl(hash, 29) ^ rest) * kFactor;
  return hash ^ hash >> 32;
}

// One call of Encode. A part of the text that was seen before copies its ids from where they were
// written first: most words of a text come again.
class Encoding {
 public:
  Encoding(const Bpe& bpe, size_t text_bytes)
      : bpe_(bpe), seen_(std::bit_ceil(std::clamp<size_t>(text_bytes / 8, 16, 32768))) {
    ids_.reserve(text_bytes / 4 + 8);
  }

  TextArena& arena() { return arena_; }
  std::vector<int32_t>& ids() { return ids_; }

  void AddPiece(std::string_view piece) {
    Seen& seen = seen_[HashBytes(piece) & (seen_.size() - 1)];
    if (seen.text == piece) return Repeat(seen);
    const size_t first = ids_.size();
    if (const int32_t id = bpe_.WholePiece(piece); id != kNoToken) {
      ids_.push_back(id);
    } else if (const size_t cut = bpe_.FindSafeCut(piece, 0); cut < piece.size()) {
      return AddParts(piece, cut);
    } else {
      bpe_.Encode(piece, scratch_, ids_);
    }
    seen = {piece, first, ids_.size() - first};
  }

 private:
  struct Seen {
    std::string_view text;  // In the input or in arena_.
    size_t first_id = 0;
    size_t num_ids = 0;
  };

  void Repeat(const Seen& seen) {
    const size_t end = ids_.size();
    ids_.resize(end + seen.num_ids);
    std::copy_n(ids_.begin() + static_cast<ptrdiff_t>(seen.first_id), seen.num_ids,
                ids_.begin() + static_cast<ptrdiff_t>(end));
  }

  // Parts of a piece between safe cuts, the first of which is known.
  void AddParts(std::string_view piece, size_t cut) {
    for (size_t begin = 0; begin < piece.size();) {
      const std::string_view part = piece.substr(begin, cut - begin);
      Seen& seen = seen_[HashBytes(part) & (seen_.size() - 1)];
      if (seen.text == part) {
        Repeat(seen);
      } else {
        seen = {part, ids_.size(), 0};
        bpe_.Encode(part, scratch_, ids_);
        seen.num_ids = ids_.size() - seen.first_id;
      }
      begin = cut;
      if (begin < piece.size()) cut = bpe_.FindSafeCut(piece, begin);
    }
  }

  const Bpe& bpe_;
  TextArena arena_;
  Bpe::Scratch scratch_;
  std::vector<int32_t> ids_;
  std::vector<Seen> seen_;  // By hash; a later text replaces an earlier one.
};

}  // namespace

struct Tokenizer::Parts {
  Parts(Bpe model, std::vector<AddedToken> added)
      : bpe(std::move(model)),
        added_tokens(std::move(added)),
        raw_finder(AddedWhere(/*is_normalized=*/false)),
        normalized_finder(AddedWhere(/*is_normalized=*/true)) {
    for (const AddedToken& token : added_tokens) {
      added_by_id.emplace(token.id, &token);
      added_by_content.emplace(token.content, &token);
    }
  }

  std::vector<const AddedToken*> AddedWhere(bool is_normalized) const {
    std::vector<const AddedToken*> tokens;
    for (const AddedToken& token : added_tokens) {
      if (token.is_normalized == is_normalized) tokens.push_back(&token);
    }
    return tokens;
  }
  Status EncodeText(std::string_view text, bool at_start, Encoding& encoding) const;
  // Notes what the config says otherwise than the post-processor.
  void CompareWithConfig(const Json& config);
  std::optional<int32_t> FindToken(std::string_view token) const;
  const AddedToken* FindAdded(int32_t id) const;
  // What a token says to the decoder; nullopt if it is left out.
  std::optional<std::string> DecoderInput(int32_t id, bool skip_special) const;

  Bpe bpe;
  std::vector<AddedToken> added_tokens;
  Normalizer normalizer;
  AddedTokenFinder raw_finder, normalized_finder;  // For added_tokens.
  PreTokenizer pre_tokenizer;
  PostProcessor post_processor;
  Decoder decoder;
  std::unordered_map<int32_t, const AddedToken*> added_by_id;
  std::unordered_map<std::string_view, const AddedToken*> added_by_content;
  std::string bos_token, eos_token;
  std::vector<std::string> notes;
};

namespace {

const Json& FindOrNull(const Json& object, std::string_view key) {
  static const Json* const kNull = new Json();
  const Json* value = Find(object, key);
  return value == nullptr ? *kNull : *value;
}

// "<s>", {"content": "<s>", ...}, or null.
Result<std::string> ReadConfigToken(const Json& config, std::string_view key,
                                    std::string_view where) {
  const Json& value = FindOrNull(config, key);
  if (value.is_null()) return std::string();
  if (value.is_object()) return GetString(value, "content", where);
  return GetString(config, key, where);
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::Open(const std::filesystem::path& model_directory) {
  const std::filesystem::path path = model_directory / "tokenizer.json";
  RAM_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxFileBytes));
  std::string config;
  const std::filesystem::path config_path = model_directory / "tokenizer_config.json";
  std::error_code error;
  if (std::filesystem::exists(config_path, error)) {
    RAM_ASSIGN_OR_RETURN(config, ReadFile(config_path, kMaxFileBytes));
  }
  return Parse(text, config, path.string());
}

Result<Tokenizer> Tokenizer::Parse(std::string_view tokenizer_json, std::string_view config_json,
                                   std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const TokenizerFile file, ReadTokenizerFile(tokenizer_json, where));
  const auto part = [&](std::string_view key) -> const Json& { return FindOrNull(file.rest, key); };
  RAM_ASSIGN_OR_RETURN(Normalizer normalizer, Normalizer::Parse(part("normalizer"), where));
  RAM_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer,
                       PreTokenizer::Parse(part("pre_tokenizer"), where));
  RAM_ASSIGN_OR_RETURN(Bpe bpe, Bpe::Build(file.bpe, pre_tokenizer.is_byte_level(), where));
  RAM_ASSIGN_OR_RETURN(std::vector<AddedToken> added,
                       ParseAddedTokens(part("added_tokens"), normalizer, where));
  auto parts = std::make_unique<Parts>(std::move(bpe), std::move(added));
  parts->normalizer = std::move(normalizer);
  parts->pre_tokenizer = std::move(pre_tokenizer);
  RAM_ASSIGN_OR_RETURN(parts->post_processor, PostProcessor::Parse(part("post_processor"), where));
  RAM_ASSIGN_OR_RETURN(parts->decoder, Decoder::Parse(part("decoder"), where));

  Json config = Json::object();
  const std::string config_where = fmt::format("tokenizer_config.json beside {}", where);
  if (!config_json.empty()) {
    RAM_ASSIGN_OR_RETURN(config, ParseJson(config_json, config_where));
  }
  RAM_ASSIGN_OR_RETURN(parts->bos_token, ReadConfigToken(config, "bos_token", config_where));
  RAM_ASSIGN_OR_RETURN(parts->eos_token, ReadConfigToken(config, "eos_token", config_where));
  parts->CompareWithConfig(config);
  return Tokenizer(std::move(parts));
}

Status Tokenizer::Parts::EncodeText(std::string_view text, bool at_start,
                                    Encoding& encoding) const {
  RAM_ASSIGN_OR_RETURN(text, normalizer.Run(text, encoding.arena()));
  Status status = Done{};
  normalized_finder.Split(
      text,
      [&](size_t begin, size_t end) {
        if (!status) return;
        status = pre_tokenizer.ForEachPiece(
            text.substr(begin, end - begin), at_start && begin == 0, encoding.arena(),
            [&](std::string_view piece) { encoding.AddPiece(piece); });
      },
      [&](const AddedToken& token) { encoding.ids().push_back(token.id); });
  return status;
}

Result<std::vector<int32_t>> Tokenizer::Encode(std::string_view utf8, bool add_special) const {
  if (utf8.size() > kMaxTextBytes) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("a text of {} bytes is too long to tokenize at once (limit {})",
                             utf8.size(), kMaxTextBytes)};
  }
  if (const std::optional<size_t> invalid = FindInvalidUtf8(utf8)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("the text is not UTF-8: byte 0x{:02x} at {}",
                             static_cast<uint8_t>(utf8[*invalid]), *invalid)};
  }
  Encoding encoding(parts_->bpe, utf8.size());
  std::vector<int32_t>& ids = encoding.ids();
  if (add_special) ids = parts_->post_processor.prefix;
  Status status = Done{};
  parts_->raw_finder.Split(
      utf8,
      [&](size_t begin, size_t end) {
        if (!status) return;
        status = parts_->EncodeText(utf8.substr(begin, end - begin), begin == 0, encoding);
      },
      [&](const AddedToken& token) { ids.push_back(token.id); });
  RAM_RETURN_IF_ERROR(status);
  if (add_special) {
    const std::vector<int32_t>& suffix = parts_->post_processor.suffix;
    ids.insert(ids.end(), suffix.begin(), suffix.end());
  }
  return std::move(ids);
}

void Tokenizer::Parts::CompareWithConfig(const Json& config) {
  const auto compare = [&](const char* key, const std::vector<int32_t>& ids,
                           const std::string& token) {
    const Json& says = FindOrNull(config, key);
    const std::optional<int32_t> id = FindToken(token);
    if (!says.is_boolean() || !id) return;
    const bool adds = std::find(ids.begin(), ids.end(), *id) != ids.end();
    if (adds == says.get<bool>()) return;
    notes.push_back(fmt::format("tokenizer_config.json says {} {}, tokenizer.json {} {}", key,
                                says.get<bool>(), adds ? "adds" : "does not add", token));
  };
  compare("add_bos_token", post_processor.prefix, bos_token);
  compare("add_eos_token", post_processor.suffix, eos_token);
}

std::optional<int32_t> Tokenizer::Parts::FindToken(std::string_view token) const {
  const auto found = added_by_content.find(token);
  if (found != added_by_content.end()) return found->second->id;
  const int32_t id = bpe.vocabulary().Find(token);
  if (id == kNoToken) return std::nullopt;
  return id;
}

const AddedToken* Tokenizer::Parts::FindAdded(int32_t id) const {
  const auto found = added_by_id.find(id);
  return found == added_by_id.end() ? nullptr : found->second;
}

std::optional<std::string> Tokenizer::Parts::DecoderInput(int32_t id, bool skip_special) const {
  if (const AddedToken* added = FindAdded(id); added != nullptr) {
    if (skip_special && added->is_special) return std::nullopt;
    return added->in_text;
  }
  if (!bpe.vocabulary().Has(id)) return std::nullopt;
  return std::string(bpe.vocabulary().Token(id));
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    std::optional<std::string> token = parts_->DecoderInput(id, skip_special);
    if (token) tokens.push_back(*std::move(token));
  }
  return parts_->decoder.Decode(std::move(tokens), /*is_first=*/true, /*is_last=*/true);
}

int32_t Tokenizer::vocabulary_size() const {
  int32_t size = parts_->bpe.vocabulary().end_id();
  for (const AddedToken& token : parts_->added_tokens) size = std::max(size, token.id + 1);
  return size;
}

size_t Tokenizer::num_tokens() const {
  size_t num_tokens = parts_->bpe.vocabulary().num_tokens();
  for (const auto& [id, token] : parts_->added_by_id) {
    num_tokens += parts_->bpe.vocabulary().Has(id) ? 0 : 1;
  }
  return num_tokens;
}

bool Tokenizer::IsToken(int32_t id) const {
  return parts_->FindAdded(id) != nullptr || parts_->bpe.vocabulary().Has(id);
}

bool Tokenizer::IsSpecial(int32_t id) const {
  const AddedToken* added = parts_->FindAdded(id);
  return added != nullptr && added->is_special;
}

std::string_view Tokenizer::TokenText(int32_t id) const {
  RAM_CHECK(IsToken(id));
  const AddedToken* added = parts_->FindAdded(id);
  return added != nullptr ? added->content : parts_->bpe.vocabulary().Token(id);
}

std::string Tokenizer::TokenBytes(int32_t id) const {
  RAM_CHECK(IsToken(id));
  if (const AddedToken* added = parts_->FindAdded(id); added != nullptr) return added->content;
  return parts_->decoder.BytesOf(std::string(parts_->bpe.vocabulary().Token(id)));
}

std::optional<int32_t> Tokenizer::FindToken(std::string_view token) const {
  return parts_->FindToken(token);
}

const std::string& Tokenizer::bos_token() const { return parts_->bos_token; }
const std::string& Tokenizer::eos_token() const { return parts_->eos_token; }
const std::vector<AddedToken>& Tokenizer::added_tokens() const { return parts_->added_tokens; }
const std::vector<std::string>& Tokenizer::notes() const { return parts_->notes; }

std::string StreamDecoder::Add(int32_t id) {
  const Tokenizer::Parts& parts = *tokenizer_->parts_;
  std::optional<std::string> token = parts.DecoderInput(id, skip_special_);
  if (!token) return "";
  tokens_.push_back(*std::move(token));
  if (!parts.decoder.CanEndPart(tokens_)) return "";
  std::string text = parts.decoder.Decode(tokens_, is_first_, /*is_last=*/false);
  if (text.empty()) return "";
  tokens_.clear();
  is_first_ = false;
  return text;
}

std::string StreamDecoder::Finish() {
  std::string text;
  if (!tokens_.empty()) {
    text = tokenizer_->parts_->decoder.Decode(std::move(tokens_), is_first_, /*is_last=*/true);
  }
  tokens_.clear();
  is_first_ = true;
  return text;
}

}  // namespace ram
