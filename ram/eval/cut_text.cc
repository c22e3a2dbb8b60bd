#include "ram/eval/cut_text.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "ram/eval/wikitext.h"

namespace ram {
namespace {

constexpr uint64_t kUnknownContext = 2048;

std::string PrefixText(const CutRequest& request) {
  if (request.prefix.empty()) return "";
  return fmt::format(", {} prefix tokens", request.prefix.size());
}

std::string SettingsText(const CutRequest& request, const WindowSet& set) {
  const Protocol& protocol = request.protocol;
  std::string text = fmt::format("windows of {}, {} of {}", protocol.context,
                                 UnitBounds(set.windows).size() - 1, set.num_available);
  if (protocol.kind == Protocol::Kind::kLmEval) return text + " documents" + PrefixText(request);
  if (protocol.kind == Protocol::Kind::kRam) text += fmt::format(", seed {}", protocol.seed);
  switch (protocol.bos) {
    case Protocol::Bos::kNone:
      text += ", no BOS";
      break;
    case Protocol::Bos::kReplace:
      text += ", BOS replace per window";
      break;
    case Protocol::Bos::kPrepend:
      text += ", BOS prepend per window";
      break;
  }
  return text + PrefixText(request);
}

Result<WindowSet> CutPages(const Text& text, const Protocol& protocol,
                           std::span<const int32_t> prefix, const Tokenizer& tokenizer) {
  const std::optional<int32_t> first =
      tokenizer.bos_id().has_value() ? tokenizer.bos_id() : tokenizer.eos_id();
  if (!first.has_value()) {
    return Error{
        ErrorCode::kInvalidArgument,
        fmt::format("protocol {} puts a token that begins or ends a text in front of every "
                    "document; the tokenizer of this model has none",
                    protocol.name)};
  }
  const std::string first_text = tokenizer.Decode({&*first, 1}, /*skip_special=*/false);
  RAM_ASSIGN_OR_RETURN(const std::vector<WikitextPage> pages, WikitextPages(text.bytes));
  std::vector<Document> documents;
  for (const WikitextPage& page : pages) {
    const bool add_special = protocol.special_at_start && !page.text.starts_with(first_text);
    RAM_ASSIGN_OR_RETURN(std::vector<int32_t> ids, tokenizer.Encode(page.text, add_special));
    documents.push_back({std::move(ids), page.words, page.bytes});
  }
  return CutDocuments(documents, protocol, prefix, *first);
}

}  // namespace

Result<CutText> CutTextFor(const Text& text, const CutRequest& request, const Tokenizer& tokenizer,
                           uint64_t model_context) {
  CutText cut;
  CutRequest made = request;
  if (made.protocol.context == 0) {
    made.protocol.context = model_context != 0 ? model_context : kUnknownContext;
  }
  cut.protocol = made.protocol;
  if (cut.protocol.kind == Protocol::Kind::kLmEval) {
    RAM_ASSIGN_OR_RETURN(cut.set, CutPages(text, cut.protocol, made.prefix, tokenizer));
  } else {
    RAM_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                         tokenizer.Encode(text.bytes, cut.protocol.special_at_start));
    RAM_ASSIGN_OR_RETURN(cut.set, CutWindows(ids, cut.protocol, made.prefix, tokenizer.bos_id()));
  }
  cut.settings = SettingsText(made, cut.set);
  return cut;
}

}  // namespace ram
