#include "ram/text/chat_template.h"

#include <fmt/format.h>

#include <system_error>
#include <utility>

#include "ram/base/file.h"
#include "ram/text/jinja_evaluate.h"
#include "ram/text/jinja_syntax.h"

namespace ram {
namespace {

constexpr uint64_t kMaxFileBytes = 64 << 20;
constexpr size_t kMaxTemplateBytes = 1 << 20;

// The config's template: a text, or the one of a list that is called `name`.
Result<std::string> FindInConfig(const Json& config, std::string_view name,
                                 std::string_view where) {
  const Json* entry = Find(config, "chat_template");
  if (entry == nullptr) {
    return Error{ErrorCode::kNotFound, fmt::format("{} has no chat_template", where)};
  }
  if (entry->is_string()) return entry->get<std::string>();
  if (!entry->is_array()) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: chat_template is neither a text nor a list", where)};
  }
  const std::string_view wanted = name.empty() ? "default" : name;
  for (const Json& candidate : *entry) {
    RAM_ASSIGN_OR_RETURN(const std::string candidate_name, GetString(candidate, "name", where));
    if (candidate_name == wanted) return GetString(candidate, "template", where);
  }
  return Error{ErrorCode::kNotFound,
               fmt::format("{} has no chat template called {}", where, wanted)};
}

// "bos_token" and the like, whose values are texts or objects with a "content".
OrderedJson SpecialTokensOf(const Json& config) {
  OrderedJson tokens = OrderedJson::object();
  for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                          "cls_token", "mask_token"}) {
    const Json* value = Find(config, key);
    if (value != nullptr && value->is_object()) value = Find(*value, "content");
    if (value != nullptr && value->is_string()) tokens[key] = value->get<std::string>();
  }
  return tokens;
}

}  // namespace

Result<ChatRequest> ParseChatRequest(std::string_view json, std::string_view where) {
  // The first looks at depth and duplicate keys, the second keeps the order of keys.
  RAM_ASSIGN_OR_RETURN(const Json checked, ParseJson(json, where));
  OrderedJson file = OrderedJson::parse(json);
  if (checked.is_array()) file = OrderedJson{{"messages", std::move(file)}};
  ChatRequest request;
  if (!file.is_object() || !file.contains("messages") || !file["messages"].is_array()) {
    return Error{
        ErrorCode::kCorrupt,
        fmt::format("{}: expected a list of messages, or an object with \"messages\"", where)};
  }
  for (auto& [key, value] : file.items()) {
    if (key == "messages") {
      request.messages = std::move(value);
    } else if (key == "tools") {
      request.tools = std::move(value);
    } else if (key == "documents") {
      request.documents = std::move(value);
    } else if (key == "add_generation_prompt" && value.is_boolean()) {
      request.add_generation_prompt = value.get<bool>();
    } else {
      request.variables[key] = std::move(value);
    }
  }
  return request;
}

struct ChatTemplate::Parts {
  jinja::NodePtr block;
  jinja::Variables special_tokens;
  std::string where;
};

ChatTemplate::ChatTemplate(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::Open(const std::filesystem::path& model_directory,
                                        std::string_view name) {
  const std::filesystem::path path = model_directory / "chat_template.jinja";
  const std::filesystem::path config_path = model_directory / "tokenizer_config.json";
  std::error_code error;
  Json config = Json::object();
  if (std::filesystem::exists(config_path, error)) {
    RAM_ASSIGN_OR_RETURN(config, ReadJsonFile(config_path, kMaxFileBytes));
  }
  const OrderedJson special_tokens = SpecialTokensOf(config);
  if (name.empty() && std::filesystem::exists(path, error)) {
    RAM_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxTemplateBytes));
    return Parse(text, special_tokens, path.string());
  }
  RAM_ASSIGN_OR_RETURN(const std::string text, FindInConfig(config, name, config_path.string()));
  return Parse(text, special_tokens, config_path.string() + ": chat_template");
}

Result<ChatTemplate> ChatTemplate::Parse(std::string_view text, const OrderedJson& special_tokens,
                                         std::string_view where) {
  if (text.size() > kMaxTemplateBytes) {
    return Error{ErrorCode::kUnsupported, fmt::format("{}: a template of {} bytes (limit {})",
                                                      where, text.size(), kMaxTemplateBytes)};
  }
  auto parts = std::make_unique<Parts>();
  RAM_ASSIGN_OR_RETURN(parts->block, jinja::ParseTemplate(text, where));
  for (const auto& [key, value] : special_tokens.items()) {
    parts->special_tokens.push_back({key, jinja::Value::OfJson(value)});
  }
  parts->where = where;
  return ChatTemplate(std::move(parts));
}

Result<std::string> ChatTemplate::Render(const ChatRequest& request) const {
  jinja::Variables variables;  // The first of a name counts.
  for (const auto& [key, value] : request.variables.items()) {
    variables.push_back({key, jinja::Value::OfJson(value)});
  }
  variables.push_back({"messages", jinja::Value::OfJson(request.messages)});
  variables.push_back({"tools", jinja::Value::OfJson(request.tools)});
  variables.push_back({"documents", jinja::Value::OfJson(request.documents)});
  variables.push_back({"add_generation_prompt", request.add_generation_prompt});
  variables.insert(variables.end(), parts_->special_tokens.begin(), parts_->special_tokens.end());
  return jinja::Render(*parts_->block, variables, parts_->where);
}

}  // namespace ram
