#include "ram/text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>

#include "ram/text/byte_alphabet.h"
#include "ram/text/unicode.h"

namespace ram {
namespace {

// Up to here looking through all pairs for the lowest rank is faster than a heap.
constexpr size_t kMaxScanned = 48;
constexpr uint32_t kNoMerge = UINT32_MAX;
constexpr size_t kPairBits = size_t{1} << 20;

uint64_t PairKey(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

size_t PairBit(char32_t left, char32_t right) {
  const uint64_t key = uint64_t{left} << 32 | right;
  return static_cast<size_t>((key * 0x9E3779B97F4A7C15u) >> 44);
}
static_assert(kPairBits == size_t{1} << (64 - 44));

std::string Shown(std::string_view token) {
  return Json(token.substr(0, 80)).dump(-1, ' ', true, Json::error_handler_t::replace);
}

}  // namespace

Result<Bpe> Bpe::Build(const BpeDescription& description, bool is_byte_level,
                       std::string_view where) {
  Bpe bpe(description.tokens.size(), description.merges.size());
  bpe.is_byte_level_ = is_byte_level;
  bpe.byte_fallback_ = description.byte_fallback;
  bpe.fuse_unknown_ = description.fuse_unknown;
  bpe.ignore_merges_ = description.ignore_merges;
  for (const auto& [text, id] : description.tokens) {
    RAM_RETURN_IF_ERROR(bpe.vocabulary_.Add(text, id, where));
  }
  if (!description.unknown_token.empty()) {
    bpe.unknown_ = bpe.vocabulary_.Find(description.unknown_token);
    if (bpe.unknown_ == kNoToken) {
      return Error{ErrorCode::kCorrupt, fmt::format("{}: unk_token {} is not in the vocabulary",
                                                    where, Shown(description.unknown_token))};
    }
  }
  RAM_RETURN_IF_ERROR(bpe.AddMerges(description, where));
  bpe.FindAlphabet();
  bpe.FindPairs(description);
  return bpe;
}

Status Bpe::AddMerges(const BpeDescription& description, std::string_view where) {
  std::string whole;
  uint64_t rank = 0;
  for (const auto& [left, right] : description.merges) {
    whole.assign(left).append(right);
    const int32_t left_id = vocabulary_.Find(left), right_id = vocabulary_.Find(right);
    const int32_t id = vocabulary_.Find(whole);
    if (left_id == kNoToken || right_id == kNoToken || id == kNoToken) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: merge {} of {} and {} has a part or a result that is no token",
                               where, rank, Shown(left), Shown(right))};
    }
    merges_.Set(PairKey(left_id, right_id), rank << 32 | static_cast<uint32_t>(id));
    ++rank;
  }
  return Done{};
}

// Ids of single characters or bytes; for whole pieces the tokens as bytes.
void Bpe::FindAlphabet() {
  one_byte_.fill(kNoToken);
  for (size_t byte = 0; byte < 256; ++byte) {
    fallback_bytes_[byte] = vocabulary_.Find(fmt::format("<0x{:02X}>", byte));
    if (is_byte_level_) {
      one_byte_[byte] = vocabulary_.Find(ByteLevelCharacter(static_cast<uint8_t>(byte)));
    } else if (byte < 0x80) {
      one_byte_[byte] = vocabulary_.Find(std::string(1, static_cast<char>(byte)));
    }
  }
  if (!is_byte_level_) {
    characters_ = FlatMap(vocabulary_.num_tokens());
    for (int32_t id = 0; id < vocabulary_.end_id(); ++id) {
      if (!vocabulary_.Has(id)) continue;
      const std::string_view token = vocabulary_.Token(id);
      if (token.empty() || token.size() > 4) continue;
      const Character c = CharacterAt(token, 0);
      if (c.num_bytes == token.size()) characters_.Set(c.code_point, static_cast<uint32_t>(id));
    }
  } else if (ignore_merges_) {
    bytes_vocabulary_ = Vocabulary(vocabulary_.num_tokens());
    for (int32_t id = 0; id < vocabulary_.end_id(); ++id) {
      if (!vocabulary_.Has(id)) continue;
      const std::optional<std::string> bytes = BytesOfByteLevel(vocabulary_.Token(id));
      // The alphabet is one to one: different tokens have different bytes.
      if (bytes) RAM_CHECK(bytes_vocabulary_.Add(*bytes, id, "").ok());
    }
  }
}

// A text can be cut between two characters that are never neighbours within the result of a merge,
// if both are tokens themselves. (Characters that are not become bytes or the unknown token; merges
// of those would not show in the strings.)
void Bpe::FindPairs(const BpeDescription& description) {
  can_cut_ = true;
  const auto is_special = [&](std::string_view part) {
    const bool is_byte = part.size() == 6 && part.starts_with("<0x") && part.ends_with('>');
    return is_byte || part == description.unknown_token;
  };
  pairs_.assign(kPairBits / 64, 0);
  std::string whole;
  for (const auto& [left, right] : description.merges) {
    if (is_special(left) || is_special(right)) can_cut_ = false;
    whole.assign(left).append(right);
    char32_t previous = 0;
    for (size_t at = 0; at < whole.size();) {
      const Character c = CharacterAt(whole, at);
      if (at > 0) {
        const size_t bit = PairBit(previous, c.code_point);
        pairs_[bit / 64] |= uint64_t{1} << (bit % 64);
      }
      previous = c.code_point;
      at += c.num_bytes;
    }
  }
}

int32_t Bpe::CharacterToken(std::string_view character) const {
  if (character.size() == 1) return one_byte_[static_cast<uint8_t>(character[0])];
  const uint64_t* id = characters_.Find(CharacterAt(character, 0).code_point);
  return id == nullptr ? kNoToken : static_cast<int32_t>(*id);
}

int32_t Bpe::WholePiece(std::string_view piece) const {
  if (!ignore_merges_) return kNoToken;
  return (is_byte_level_ ? bytes_vocabulary_ : vocabulary_).Find(piece);
}

size_t Bpe::FindSafeCut(std::string_view piece, size_t at) const {
  if (!can_cut_ || is_byte_level_) return piece.size();
  Character left = CharacterAt(piece, at);
  for (size_t cut = at + left.num_bytes; cut < piece.size();) {
    const Character right = CharacterAt(piece, cut);
    const size_t bit = PairBit(left.code_point, right.code_point);
    if ((pairs_[bit / 64] >> (bit % 64) & 1) == 0 &&
        CharacterToken(piece.substr(cut - left.num_bytes, left.num_bytes)) != kNoToken &&
        CharacterToken(piece.substr(cut, right.num_bytes)) != kNoToken) {
      return cut;
    }
    cut += right.num_bytes;
    left = right;
  }
  return piece.size();
}

void Bpe::AppendSymbols(std::string_view piece, Scratch& scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch.symbols;
  symbols.clear();
  const auto append = [&](int32_t id) {
    const auto index = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, index - 1, index + 1, kNoMerge, kNoToken, false});
  };
  bool is_unknown_due = false;  // It comes before the next character that is a token.
  for (size_t at = 0; at < piece.size();) {
    const size_t num_bytes = is_byte_level_ ? 1 : CharacterAt(piece, at).num_bytes;
    const std::string_view character = piece.substr(at, num_bytes);
    at += num_bytes;
    if (const int32_t id = CharacterToken(character); id != kNoToken) {
      if (is_unknown_due) append(unknown_);
      is_unknown_due = false;
      append(id);
      continue;
    }
    const std::string in_alphabet = is_byte_level_
                                        ? ByteLevelCharacter(static_cast<uint8_t>(character[0]))
                                        : std::string(character);
    const auto fallback = [&](char c) { return fallback_bytes_[static_cast<uint8_t>(c)]; };
    if (byte_fallback_ && std::all_of(in_alphabet.begin(), in_alphabet.end(),
                                      [&](char c) { return fallback(c) != kNoToken; })) {
      for (const char c : in_alphabet) append(fallback(c));
      continue;
    }
    if (unknown_ == kNoToken) continue;
    if (is_unknown_due && !fuse_unknown_) append(unknown_);
    is_unknown_due = true;
  }
  if (is_unknown_due) append(unknown_);
  if (!symbols.empty()) symbols.back().next = -1;
}

void Bpe::SetMerge(Scratch& scratch, int32_t symbol) const {
  Scratch::Symbol& left = scratch.symbols[static_cast<size_t>(symbol)];
  left.rank = kNoMerge;
  if (left.next < 0) return;
  const Scratch::Symbol& right = scratch.symbols[static_cast<size_t>(left.next)];
  const uint64_t* merge = merges_.Find(PairKey(left.id, right.id));
  if (merge == nullptr) return;
  left.rank = static_cast<uint32_t>(*merge >> 32);
  left.merged = static_cast<int32_t>(*merge);
}

// Symbols stay close together: what is merged away is erased.
void Bpe::MergeByScan(Scratch& scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch.symbols;
  const auto set_merge = [&](size_t i) {
    symbols[i].rank = kNoMerge;
    if (i + 1 >= symbols.size()) return;
    const uint64_t* merge = merges_.Find(PairKey(symbols[i].id, symbols[i + 1].id));
    if (merge == nullptr) return;
    symbols[i].rank = static_cast<uint32_t>(*merge >> 32);
    symbols[i].merged = static_cast<int32_t>(*merge);
  };
  for (size_t i = 0; i < symbols.size(); ++i) set_merge(i);
  while (true) {
    size_t best = 0;
    uint32_t best_rank = kNoMerge;
    for (size_t i = 0; i < symbols.size(); ++i) {
      if (symbols[i].rank < best_rank) {
        best_rank = symbols[i].rank;
        best = i;
      }
    }
    if (best_rank == kNoMerge) return;
    symbols[best].id = symbols[best].merged;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
    set_merge(best);
    if (best > 0) set_merge(best - 1);
  }
}

void Bpe::MergeByHeap(Scratch& scratch) const {
  using Candidate = Scratch::Candidate;
  std::vector<Scratch::Symbol>& symbols = scratch.symbols;
  std::vector<Candidate>& heap = scratch.heap;
  const auto is_later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.symbol > b.symbol;
  };
  heap.clear();
  const auto consider = [&](int32_t symbol, bool in_order) {
    SetMerge(scratch, symbol);
    const uint32_t rank = symbols[static_cast<size_t>(symbol)].rank;
    if (rank == kNoMerge) return;
    heap.push_back({rank, symbol});
    if (in_order) std::push_heap(heap.begin(), heap.end(), is_later);
  };
  for (size_t i = 0; i < symbols.size(); ++i) consider(static_cast<int32_t>(i), false);
  std::make_heap(heap.begin(), heap.end(), is_later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), is_later);
    const Candidate best = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbols[static_cast<size_t>(best.symbol)];
    if (left.is_gone || left.rank != best.rank) continue;  // Something was merged since.
    Scratch::Symbol& right = symbols[static_cast<size_t>(left.next)];
    left.id = left.merged;
    left.next = right.next;
    right.is_gone = true;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = best.symbol;
    consider(best.symbol, true);
    if (left.previous >= 0) consider(left.previous, true);
  }
  std::erase_if(symbols, [](const Scratch::Symbol& symbol) { return symbol.is_gone; });
}

void Bpe::Encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  AppendSymbols(piece, scratch);
  if (scratch.symbols.size() <= kMaxScanned) {
    MergeByScan(scratch);
  } else {
    MergeByHeap(scratch);
  }
  for (const Scratch::Symbol& symbol : scratch.symbols) ids.push_back(symbol.id);
}

}  // namespace ram
