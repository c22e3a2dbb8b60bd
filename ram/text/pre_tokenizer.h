#pragma once

// The "pre_tokenizer" of a tokenizer.json: cuts normalized text into the pieces that the model then
// sees one by one.

#include <functional>
#include <string_view>
#include <variant>
#include <vector>

#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/text/splitter.h"
#include "ram/text/text_arena.h"

namespace ram {

class PreTokenizer {
 public:
  // `json`: an object with a "type", or null for none. kUnsupported names a type or option that is
  // not supported.
  static Result<PreTokenizer> Parse(const Json& json, std::string_view where);

  // Whether it ends with ByteLevel: the model's alphabet is then the 256 bytes. Pieces come as
  // plain text all the same; the vocabulary is read accordingly (bpe.h).
  bool is_byte_level() const { return is_byte_level_; }

  // Calls `on_piece` for each piece of `text` (valid UTF-8), none of them empty; a piece is part of
  // `text` or lies in `arena`. `at_start`: nothing came before `text`. Fails only where a regex
  // does. Thread-safe.
  Status ForEachPiece(std::string_view text, bool at_start, TextArena& arena,
                      const std::function<void(std::string_view)>& on_piece) const;

 private:
  // What one step does to a piece: change it, or cut it.
  using Rewrite =
      std::function<std::string_view(std::string_view text, bool at_start, TextArena& arena)>;
  using Step = std::variant<Rewrite, Splitter>;

  Status Append(const Json& json, std::string_view where);
  Status AppendByteLevel(const Json& json, std::string_view where);
  Status AppendMetaspace(const Json& json, std::string_view where);
  Status AppendSplit(const Json& json, std::string_view where);

  std::vector<Step> steps_;
  bool is_byte_level_ = false;
};

// A bool that may be missing.
Result<bool> GetBoolOr(const Json& object, std::string_view key, bool otherwise,
                       std::string_view where);

}  // namespace ram
