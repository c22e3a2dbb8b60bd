#include "ram/eval/cut_text.h"

#include <fmt/format.h>

namespace ram {
namespace {

std::string SettingsText(const CutRequest& request, const WindowSet& set) {
  const Protocol& protocol = request.protocol;
  std::string text = fmt::format("windows of {}, {} of {}", protocol.context, set.windows.size(),
                                 set.num_available);
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
  if (!request.prefix.empty()) text += fmt::format(", {} prefix tokens", request.prefix.size());
  return text;
}

}  // namespace

Result<CutText> CutTextFor(const Text& text, const CutRequest& request,
                           const Tokenizer& tokenizer) {
  CutText cut;
  cut.protocol = request.protocol;
  RAM_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                       tokenizer.Encode(text.bytes, cut.protocol.special_at_start));
  RAM_ASSIGN_OR_RETURN(cut.set, CutWindows(ids, cut.protocol, request.prefix, tokenizer.bos_id()));
  cut.settings = SettingsText(request, cut.set);
  return cut;
}

}  // namespace ram
