#include "ram/text/tokenizer_file.h"

#include <fmt/format.h>

#include <algorithm>

namespace ram {
namespace {

constexpr size_t kMaxDepth = 64;

// Takes what the parser finds: entries of model.vocab and model.merges into lists, all else into a
// document, in which the two are empty.
class Reader : public nlohmann::json_sax<Json> {
 public:
  explicit Reader(TokenizerFile& file) : file_(file) {}

  const std::string& mistake() const { return mistake_; }

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(int64_t value) override { return AddId(value) || Add(value); }
  bool number_unsigned(uint64_t value) override {
    return AddId(static_cast<int64_t>(std::min<uint64_t>(value, INT64_MAX))) || Add(value);
  }
  bool number_float(double value, const std::string&) override { return Add(value); }
  bool string(std::string& value) override { return AddMerge(value) || Add(std::move(value)); }
  bool binary(Json::binary_t&) override { return Fail("binary data"); }
  bool start_object(size_t) override { return Open(Json::object()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool start_array(size_t) override {
    if (list_ == List::kMerges && !in_pair_) {
      in_pair_ = true;
      pair_.clear();
      return true;
    }
    return Open(Json::array());
  }

  bool key(std::string& name) override {
    if (list_ == List::kVocabulary) {
      token_ = std::move(name);
      return true;
    }
    auto& object = open_.back()->get_ref<Json::object_t&>();
    const auto [entry, is_new] = object.try_emplace(name);
    if (!is_new) {
      return Fail(fmt::format("key \"{}\" appears twice in one object", name.substr(0, 200)));
    }
    value_ = &entry->second;
    if (open_.size() == 1) in_model_ = name == "model";
    if (open_.size() == 2 && in_model_) {
      coming_ = name == "vocab"    ? List::kVocabulary
                : name == "merges" ? List::kMerges
                                   : List::kNone;
    }
    return true;
  }

  bool parse_error(size_t position, const std::string&, const Json::exception&) override {
    return Fail(fmt::format("not JSON: mistake before byte {}", position));
  }

 private:
  enum class List : uint8_t { kNone, kVocabulary, kMerges };

  bool Fail(std::string mistake) {
    if (mistake_.empty()) mistake_ = std::move(mistake);
    return false;
  }

  // False if the value does not belong into the vocabulary.
  bool AddId(int64_t id) {
    if (list_ != List::kVocabulary) return false;
    file_.bpe.tokens.push_back({std::move(token_), id});
    return true;
  }

  // False if the value does not belong into the merges.
  bool AddMerge(std::string& value) {
    if (list_ != List::kMerges) return false;
    if (in_pair_) {
      if (pair_.size() == 2) return false;
      pair_.push_back(std::move(value));
      return true;
    }
    const size_t space = value.find(' ');
    if (space == std::string::npos) return false;
    file_.bpe.merges.push_back({value.substr(0, space), value.substr(space + 1)});
    return true;
  }

  template <typename T>
  bool Add(T&& value) {
    if (list_ == List::kVocabulary) return Fail("model.vocab: an id is no whole number");
    if (list_ == List::kMerges) return Fail("model.merges: expected \"a b\" or [\"a\", \"b\"]");
    (void)Place(Json(std::forward<T>(value)));
    return true;
  }

  Json* Place(Json value) {
    if (open_.empty()) {
      file_.rest = std::move(value);
      return &file_.rest;
    }
    if (open_.back()->is_array()) {
      return &open_.back()->get_ref<Json::array_t&>().emplace_back(std::move(value));
    }
    *value_ = std::move(value);
    return value_;
  }

  bool Open(Json container) {
    if (list_ != List::kNone) return Add(nullptr);
    if (open_.size() >= kMaxDepth) return Fail(fmt::format("nested deeper than {}", kMaxDepth));
    list_ = coming_;
    coming_ = List::kNone;
    if ((list_ == List::kVocabulary && !container.is_object()) ||
        (list_ == List::kMerges && !container.is_array())) {
      return Fail("model.vocab must be an object, model.merges an array");
    }
    open_.push_back(Place(std::move(container)));  // Its parents do not move while it is open.
    return true;
  }

  bool Close() {
    if (in_pair_) {
      in_pair_ = false;
      if (pair_.size() != 2) return Fail("model.merges: a merge has not two parts");
      file_.bpe.merges.push_back({std::move(pair_[0]), std::move(pair_[1])});
      return true;
    }
    list_ = List::kNone;
    open_.pop_back();
    return true;
  }

  TokenizerFile& file_;
  std::vector<Json*> open_;  // The containers around the place where the parser is.
  Json* value_ = nullptr;    // Of the key that was read last.
  bool in_model_ = false;
  List coming_ = List::kNone;  // What the key that was read last announces.
  List list_ = List::kNone;    // What the parser is in.
  std::string token_;
  bool in_pair_ = false;
  std::vector<std::string> pair_;
  std::string mistake_;
};

bool IsSet(const Json& model, std::string_view key) {
  const Json* value = Find(model, key);
  return value != nullptr && *value != "" && *value != false && *value != 0;
}

Status ReadOptions(const Json& rest, BpeDescription& bpe, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const Json* model, GetObject(rest, "model", where));
  if (const Json* type = Find(*model, "type"); type != nullptr && *type != "BPE") {
    return Error{
        ErrorCode::kUnsupported,
        fmt::format("{}: model of type {} is not supported, only BPE", where,
                    type->dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 80))};
  }
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    if (IsSet(*model, key)) {
      return Error{ErrorCode::kUnsupported,
                   fmt::format("{}: model option \"{}\" is not supported", where, key)};
    }
  }
  const std::pair<const char*, bool*> flags[] = {{"byte_fallback", &bpe.byte_fallback},
                                                 {"fuse_unk", &bpe.fuse_unknown},
                                                 {"ignore_merges", &bpe.ignore_merges}};
  for (const auto& [key, flag] : flags) {
    if (Find(*model, key) == nullptr) continue;
    RAM_ASSIGN_OR_RETURN(*flag, GetBool(*model, key, where));
  }
  if (Find(*model, "unk_token") != nullptr) {
    RAM_ASSIGN_OR_RETURN(bpe.unknown_token, GetString(*model, "unk_token", where));
  }
  return Done{};
}

}  // namespace

Result<TokenizerFile> ReadTokenizerFile(std::string_view text, std::string_view where) {
  // The parser takes a NUL for the end and would not look behind it.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: NUL byte at {}", where, nul)};
  }
  TokenizerFile file;
  Reader reader(file);
  if (!Json::sax_parse(text, &reader)) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: {}", where, reader.mistake())};
  }
  RAM_RETURN_IF_ERROR(ReadOptions(file.rest, file.bpe, where));
  return file;
}

}  // namespace ram
