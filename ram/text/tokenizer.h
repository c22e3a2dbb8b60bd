#pragma once

// From text to the numbers that models read, and back, as tokenizer.json describes it: the same ids
// and the same text as the official tokenizers library. docs/tokenizers.md lists what is supported;
// what is not is refused when the file is read.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"
#include "ram/text/added_tokens.h"

namespace ram {

class Tokenizer {
 public:
  // Reads tokenizer.json and, if it is there, tokenizer_config.json of a model directory.
  static Result<Tokenizer> Open(const std::filesystem::path& model_directory);
  // The same from the files' texts; an empty `config_json` means there is none. Errors begin with
  // `where`: kCorrupt for a file that contradicts itself, kUnsupported names the component.
  static Result<Tokenizer> Parse(std::string_view tokenizer_json, std::string_view config_json,
                                 std::string_view where);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Ids of `utf8`; with `add_special` also the special tokens that the model expects around a text
  // (often one at the beginning). Special tokens that are written in the text are recognised either
  // way. Truncation and padding that the file may ask for are not applied. kInvalidArgument if the
  // text is not UTF-8 (the message has the offset). Thread-safe, as all that is const.
  Result<std::vector<int32_t>> Encode(std::string_view utf8, bool add_special) const;

  // Text of `ids`, without special tokens if `skip_special`. Ids that are no tokens say nothing;
  // bytes that are no UTF-8 become U+FFFD.
  std::string Decode(std::span<const int32_t> ids, bool skip_special) const;

  // One more than the largest id. Models may have more rows than that.
  int32_t vocabulary_size() const;
  // How many ids are tokens.
  size_t num_tokens() const;
  bool IsToken(int32_t id) const;
  bool IsSpecial(int32_t id) const;
  // As the file has it, e.g. "Ġthe" or "▁the". Only if IsToken(id).
  std::string_view TokenText(int32_t id) const;
  // The bytes that the token adds in the middle of a text, e.g. " the"; they may be a part of a
  // character. Only if IsToken(id).
  std::string TokenBytes(int32_t id) const;
  std::optional<int32_t> FindToken(std::string_view token) const;

  // Tokens of tokenizer_config.json, e.g. "<s>"; empty if it names none.
  const std::string& bos_token() const;
  const std::string& eos_token() const;
  std::optional<int32_t> bos_id() const { return FindToken(bos_token()); }
  std::optional<int32_t> eos_id() const { return FindToken(eos_token()); }

  const std::vector<AddedToken>& added_tokens() const;
  // What the two files disagree about, in sentences for people. tokenizer.json is followed.
  const std::vector<std::string>& notes() const;

 private:
  friend class StreamDecoder;
  struct Parts;

  explicit Tokenizer(std::unique_ptr<const Parts> parts);

  std::unique_ptr<const Parts> parts_;
};

// Decodes a text whose ids come one by one: all that is given out, one after the other, equals
// Decode() of all ids.
class StreamDecoder {
 public:
  // `tokenizer` outlives it.
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  // The text that is settled by now and was not given out before: complete characters, or nothing
  // while a character's bytes are still to come.
  std::string Add(int32_t id);
  // The rest. Begins anew.
  std::string Finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool is_first_ = true;
  std::vector<std::string> tokens_;  // Not given out yet.
};

}  // namespace ram
