#pragma once

// Chat templates: how a model wants conversations written. A part of Jinja 2 that renders what the
// templates of the model families say, as transformers does; what it cannot render is an error that
// names line and column. docs/tokenizers.md lists what is known.

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "ram/base/json.h"
#include "ram/base/result.h"

namespace ram {

// What a template is told.
struct ChatRequest {
  OrderedJson messages = OrderedJson::array();  // [{"role": "user", "content": "..."}, ...]
  OrderedJson tools;                            // Descriptions of functions, or null.
  OrderedJson documents;                        // Or null.
  bool add_generation_prompt = true;            // End where the model is to speak.
  // More variables by name, e.g. {"enable_thinking": false}; they replace those above.
  OrderedJson variables = OrderedJson::object();
};

// From the text of a JSON file: a list of messages, or an object with "messages", and what else
// ChatRequest has by the names of its members; other keys are variables.
Result<ChatRequest> ParseChatRequest(std::string_view json, std::string_view where);

class ChatTemplate {
 public:
  // Of a model directory: chat_template.jinja, or tokenizer_config.json's "chat_template" (a text,
  // or a list of them by name: `name`, else "default"). Special tokens come from
  // tokenizer_config.json. kNotFound if the model has no template.
  static Result<ChatTemplate> Open(const std::filesystem::path& model_directory,
                                   std::string_view name = "");
  // `special_tokens`: variables such as {"bos_token": "<s>"}. kUnsupported for parts of Jinja that
  // are not known, kCorrupt for mistakes.
  static Result<ChatTemplate> Parse(std::string_view text, const OrderedJson& special_tokens,
                                    std::string_view where);

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // kInvalidArgument if the template refuses the messages, or they are not what it expects;
  // kUnsupported if rendering takes more than a bounded number of steps. Thread-safe.
  Result<std::string> Render(const ChatRequest& request) const;

 private:
  struct Parts;

  explicit ChatTemplate(std::unique_ptr<const Parts> parts);

  std::unique_ptr<const Parts> parts_;
};

}  // namespace ram
