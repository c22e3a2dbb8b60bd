// A tokenizer.json, and after its first NUL byte a text. Whatever they are, both are refused in one
// sentence, or the ids are tokens and decoding them in one go and one by one gives the same.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ram/text/tokenizer.h"

namespace {

using ram::Result;
using ram::Tokenizer;

void CheckError(const ram::Error& error) {
  RAM_CHECK(!error.message.empty() && error.message.size() < 4096);
}

void CheckDecoding(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  const std::string whole = tokenizer.Decode(ids, /*skip_special=*/false);
  ram::StreamDecoder stream(tokenizer, /*skip_special=*/false);
  std::string streamed;
  for (const int32_t id : ids) streamed += stream.Add(id);
  streamed += stream.Finish();
  RAM_CHECK(streamed == whole);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::string_view json = input.substr(0, input.find('\0'));
  const std::string_view text = input.substr(std::min(json.size() + 1, size));
  const Result<Tokenizer> tokenizer = Tokenizer::Parse(json, "", "tokenizer.json");
  if (!tokenizer) {
    CheckError(tokenizer.error());
    return 0;
  }
  for (const std::string_view part :
       {text, std::string_view("The <|a|> caf\u00e9, 12\n\n x's"), json}) {
    const Result<std::vector<int32_t>> ids = tokenizer->Encode(part, /*add_special=*/true);
    if (!ids) {
      CheckError(ids.error());
      continue;
    }
    for (const int32_t id : *ids) RAM_CHECK(id >= 0 && id <= ram::kMaxTokenId);
    CheckDecoding(*tokenizer, *ids);
  }
  std::vector<int32_t> all;
  for (int32_t id = 0; id < std::min(tokenizer->vocabulary_size(), 300); ++id) all.push_back(id);
  CheckDecoding(*tokenizer, all);
  return 0;
}
