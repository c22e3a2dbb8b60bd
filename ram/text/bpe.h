#pragma once

// Byte-pair encoding, the "model" of a tokenizer.json: a piece of text begins as its characters (or
// bytes), and as long as two neighbours have a merge, those with the lowest rank (the leftmost of
// them) become one.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ram/base/result.h"
#include "ram/text/flat_map.h"
#include "ram/text/tokenizer_file.h"
#include "ram/text/vocabulary.h"

namespace ram {

class Bpe {
 public:
  // `is_byte_level`: characters of the vocabulary stand for bytes (byte_alphabet.h), and pieces
  // will come as plain text. kCorrupt if a merge has parts or a result that are no tokens;
  // kUnsupported for options that no known family uses (dropout, prefixes and suffixes of words).
  static Result<Bpe> Build(const BpeDescription& description, bool is_byte_level,
                           std::string_view where);

  const Vocabulary& vocabulary() const { return vocabulary_; }

  // Memory that encoding needs, kept from piece to piece. One per thread.
  class Scratch {
    friend class Bpe;

    struct Symbol {
      int32_t id;
      int32_t previous, next;  // -1 at the ends.
      uint32_t rank;           // Of its merge with the next one.
      int32_t merged;          // What the two become.
      bool is_gone;
    };
    struct Candidate {
      uint32_t rank;
      int32_t symbol;
    };

    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  // Appends the ids of `piece` (valid UTF-8, not empty). Characters without a token become their
  // bytes (byte_fallback), the unknown token, or nothing. Cost: n^2 / 8 for pieces of up to 48
  // characters, n log n above. Thread-safe with a Scratch for each thread.
  void Encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const;

  // Whether the whole piece is one token by rule (ignore_merges), and which; else kNoToken.
  int32_t WholePiece(std::string_view piece) const;

  // The first place after `at` where `piece` can be cut without any effect on the ids, as no merge
  // reaches across; its size if there is none. Not to be used for pieces that are WholePiece().
  size_t FindSafeCut(std::string_view piece, size_t at) const;

 private:
  explicit Bpe(size_t num_tokens, size_t num_merges)
      : vocabulary_(num_tokens), bytes_vocabulary_(0), merges_(num_merges), characters_(0) {}

  Status AddMerges(const BpeDescription& description, std::string_view where);
  void FindAlphabet();
  void FindPairs(const BpeDescription& description);

  int32_t CharacterToken(std::string_view character) const;
  void AppendSymbols(std::string_view piece, Scratch& scratch) const;
  void SetMerge(Scratch& scratch, int32_t symbol) const;
  void MergeByScan(Scratch& scratch) const;
  void MergeByHeap(Scratch& scratch) const;

  Vocabulary vocabulary_;
  Vocabulary bytes_vocabulary_;  // Tokens as bytes, if is_byte_level_ and ignore_merges_.
  FlatMap merges_;               // Two ids to rank and id.
  FlatMap characters_;           // Code points from 128 to ids, unless is_byte_level_.
  std::array<int32_t, 256> one_byte_ = {};        // ASCII, or all bytes if is_byte_level_.
  std::array<int32_t, 256> fallback_bytes_ = {};  // <0x00> to <0xFF>.
  std::vector<uint64_t> pairs_;  // Bits by hash: two characters are neighbours inside some token.
  int32_t unknown_ = kNoToken;
  bool is_byte_level_ = false;
  bool byte_fallback_ = false;
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
  bool can_cut_ = false;
};

}  // namespace ram
