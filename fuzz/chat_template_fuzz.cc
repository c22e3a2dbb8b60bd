// A chat template. Whatever it is, it is refused in one sentence, or renders a conversation into
// UTF-8, twice the same.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "ram/text/chat_template.h"

namespace {

constexpr std::string_view kRequest = R"({"messages": [
    {"role": "system", "content": " Be kind. "}, {"role": "user", "content": "Hi\u00e9"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\nYes", "tool_calls": [
        {"function": {"name": "get", "arguments": {"x": [1, 2.5, null, true]}}}]},
    {"role": "tool", "content": "22"}],
  "tools": [{"type": "function", "function": {"name": "get", "parameters": {"type": "object"}}}],
  "l": [3, 1, 2], "s": " a b ", "n": null})";

void CheckError(const ram::Error& error) {
  RAM_CHECK(!error.message.empty() && error.message.size() < 4096);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ram::ChatRequest* const kConversation =
      new ram::ChatRequest(*ram::ParseChatRequest(kRequest, "request"));
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const ram::Result<ram::ChatTemplate> chat_template =
      ram::ChatTemplate::Parse(text, {{"bos_token", "<s>"}}, "template");
  if (!chat_template) {
    CheckError(chat_template.error());
    return 0;
  }
  const ram::Result<std::string> rendered = chat_template->Render(*kConversation);
  if (!rendered) {
    CheckError(rendered.error());
    return 0;
  }
  const bool tells_time = text.find("strftime_now") != std::string_view::npos;
  const ram::Result<std::string> again = chat_template->Render(*kConversation);
  RAM_CHECK(again.ok() && (tells_time || *again == *rendered));
  return 0;
}
