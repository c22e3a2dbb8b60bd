#pragma once

// Two hashes for two purposes. SHA-256 binds files to each other (a certificate to its rate table)
// and can be checked with any tool. XXH3-128 recognises tensors that were measured before: it is
// fast enough to run over every byte that is read, and guards against accidents, not attackers.

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace ram {

// Lower-case hexadecimal, 64 characters.
std::string Sha256Hex(std::string_view bytes);

using ContentHash = std::array<uint8_t, 16>;

// Lower-case hexadecimal, 32 characters.
std::string ToHex(const ContentHash& hash);

// XXH3-128 of a stream of bytes, however it is cut into pieces.
class ContentHasher {
 public:
  ContentHasher();
  ~ContentHasher();
  ContentHasher(const ContentHasher&) = delete;
  ContentHasher& operator=(const ContentHasher&) = delete;

  void Add(std::span<const uint8_t> bytes);
  void Add(std::string_view text);
  // Of everything added so far.
  ContentHash Finish() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ram
