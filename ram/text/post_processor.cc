#include "ram/text/post_processor.h"

#include <fmt/format.h>

#include <string>

#include "ram/text/vocabulary.h"

namespace ram {
namespace {

Result<int32_t> CheckedId(const Json& id, std::string_view where) {
  if (!id.is_number_unsigned() || id.get<uint64_t>() > kMaxTokenId) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: post_processor: an id is no whole number from 0 to {}", where,
                             kMaxTokenId)};
  }
  return id.get<int32_t>();
}

Status AddTemplate(const Json& json, std::string_view where, PostProcessor& processor) {
  RAM_ASSIGN_OR_RETURN(const Json* parts, GetArray(json, "single", where));
  PostProcessor added;
  int num_texts = 0;
  for (const Json& part : *parts) {
    if (Find(part, "Sequence") != nullptr) {
      ++num_texts;
      continue;
    }
    RAM_ASSIGN_OR_RETURN(const Json* token, GetObject(part, "SpecialToken", where));
    RAM_ASSIGN_OR_RETURN(const std::string name, GetString(*token, "id", where));
    RAM_ASSIGN_OR_RETURN(const Json* all, GetObject(json, "special_tokens", where));
    RAM_ASSIGN_OR_RETURN(const Json* entry, GetObject(*all, name, where));
    RAM_ASSIGN_OR_RETURN(const Json* ids, GetArray(*entry, "ids", where));
    for (const Json& id : *ids) {
      RAM_ASSIGN_OR_RETURN(const int32_t checked, CheckedId(id, where));
      (num_texts > 0 ? added.suffix : added.prefix).push_back(checked);
    }
  }
  if (num_texts != 1) {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: post_processor: a template with {} texts is not supported", where,
                             num_texts)};
  }
  // Around what earlier processors put there.
  processor.prefix.insert(processor.prefix.begin(), added.prefix.begin(), added.prefix.end());
  processor.suffix.insert(processor.suffix.end(), added.suffix.begin(), added.suffix.end());
  return Done{};
}

Status Add(const Json& json, std::string_view where, PostProcessor& processor) {
  RAM_ASSIGN_OR_RETURN(const std::string type, GetString(json, "type", where));
  if (type == "ByteLevel") return Done{};  // About offsets only.
  if (type == "TemplateProcessing") return AddTemplate(json, where, processor);
  if (type == "Sequence") {
    RAM_ASSIGN_OR_RETURN(const Json* parts, GetArray(json, "processors", where));
    for (const Json& part : *parts) RAM_RETURN_IF_ERROR(Add(part, where, processor));
    return Done{};
  }
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    for (const auto& [key, ids] :
         {std::pair{"cls", &processor.prefix}, {"sep", &processor.suffix}}) {
      RAM_ASSIGN_OR_RETURN(const Json* token, GetArray(json, key, where));  // ["</s>", 2]
      RAM_ASSIGN_OR_RETURN(const int32_t id,
                           CheckedId(token->size() == 2 ? (*token)[1] : Json(), where));
      ids->insert(ids == &processor.prefix ? ids->begin() : ids->end(), id);
    }
    return Done{};
  }
  return Error{ErrorCode::kUnsupported, fmt::format("{}: post-processor \"{}\" is not supported",
                                                    where, type.substr(0, 80))};
}

}  // namespace

Result<PostProcessor> PostProcessor::Parse(const Json& json, std::string_view where) {
  PostProcessor processor;
  if (!json.is_null()) RAM_RETURN_IF_ERROR(Add(json, where, processor));
  return processor;
}

}  // namespace ram
