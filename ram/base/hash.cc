#include "ram/base/hash.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <xxhash.h>

#include "ram/base/result.h"

namespace ram {
namespace {

std::string Hex(std::span<const uint8_t> bytes) {
  std::string text;
  text.reserve(2 * bytes.size());
  for (const uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace

std::string Sha256Hex(std::string_view bytes) {
  std::array<uint8_t, 32> digest = {};
  unsigned length = 0;
  RAM_CHECK(EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, EVP_sha256(), nullptr) ==
            1);
  RAM_CHECK(length == digest.size());
  return Hex(digest);
}

std::string ToHex(const ContentHash& hash) { return Hex(hash); }

struct ContentHasher::State {
  XXH3_state_t* xxh;
};

ContentHasher::ContentHasher() : state_(std::make_unique<State>(State{XXH3_createState()})) {
  RAM_CHECK(state_->xxh != nullptr);
  RAM_CHECK(XXH3_128bits_reset(state_->xxh) == XXH_OK);
}

ContentHasher::~ContentHasher() { XXH3_freeState(state_->xxh); }

void ContentHasher::Add(std::span<const uint8_t> bytes) {
  RAM_CHECK(XXH3_128bits_update(state_->xxh, bytes.data(), bytes.size()) == XXH_OK);
}

void ContentHasher::Add(std::string_view text) {
  Add(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

ContentHash ContentHasher::Finish() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_->xxh));
  ContentHash hash;
  static_assert(sizeof(canonical.digest) == sizeof(hash));
  std::copy(std::begin(canonical.digest), std::end(canonical.digest), hash.begin());
  return hash;
}

}  // namespace ram
