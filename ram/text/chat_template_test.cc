#include "ram/text/chat_template.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>

#include "ram/base/file.h"

namespace ram {
namespace {

const std::filesystem::path kTemplates =
    std::filesystem::path(RAM_TEST_DATA_DIR) / "chat_templates";

Result<std::string> RenderText(std::string_view text, const ChatRequest& request = {}) {
  RAM_ASSIGN_OR_RETURN(
      const ChatTemplate chat_template,
      ChatTemplate::Parse(text, {{"bos_token", "<s>"}, {"eos_token", "</s>"}}, "t"));
  return chat_template.Render(request);
}

std::string Rendered(std::string_view text, const ChatRequest& request = {}) {
  const Result<std::string> rendered = RenderText(text, request);
  EXPECT_TRUE(rendered.ok()) << text << ": " << rendered.error().message;
  return rendered ? *rendered : "";
}

std::string ErrorOf(std::string_view text, ErrorCode code) {
  const Result<std::string> rendered = RenderText(text);
  EXPECT_FALSE(rendered.ok()) << text;
  if (rendered) return "";
  EXPECT_EQ(rendered.error().code, code) << rendered.error().message;
  EXPECT_LT(rendered.error().message.size(), 4096u);
  return rendered.error().message;
}

ChatRequest Conversation() {
  Result<ChatRequest> request = ParseChatRequest(
      R"({"messages": [{"role": "system", "content": " Be kind. "},
                       {"role": "user", "content": "Hi"},
                       {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello"},
                       {"role": "user", "content": "Bye"}],
          "enable_thinking": false})",
      "test");
  EXPECT_TRUE(request.ok());
  return *std::move(request);
}

// The Python test compares all of this with Jinja; here are the results of a few, for builds
// without.
TEST(ChatTemplate, RendersConversations) {
  const std::pair<const char*, const char*> cases[] = {
      {"chatml",
       "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\n"
       "<|im_start|>assistant\n<think>\nhm\n</think>\n\nHello<|im_end|>\n\n"
       "<|im_start|>user\nBye<|im_end|>\n\n<|im_start|>assistant\n"},
      {"thinking_tools",
       "<|im_start|>system\n Be kind. <|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
       "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
       "<|im_start|>assistant\n<think>\n\n</think>\n\n"},
      {"turns",
       "<s><start_of_turn>user\n Be kind. \n\nHi<end_of_turn>\n<start_of_turn>model\n"
       "<think>\nhm\n</think>\n\nHello<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n"
       "<start_of_turn>model\n"},
  };
  for (const auto& [name, expected] : cases) {
    const Result<std::string> text = ReadFile(kTemplates / (std::string(name) + ".jinja"), 1 << 20);
    ASSERT_TRUE(text.ok());
    EXPECT_EQ(Rendered(*text, Conversation()), expected) << name;
  }
}

TEST(ChatTemplate, TakesWhiteSpaceAwayAsTransformersDoes) {
  EXPECT_EQ(Rendered("a\n  {% if true %}\n  b\n  {% endif %}\nc\n"), "a\n  b\nc");
  EXPECT_EQ(Rendered("a  {%- if true -%}  b  {%- endif -%}  c"), "abc");
  EXPECT_EQ(Rendered(" {{ 1 }}\n {{- 2 -}} \n 3"), " 123");
  EXPECT_EQ(Rendered("a {#- x -#} b\n\n"), "ab\n");
}

TEST(ChatTemplate, KeepsTheOrderOfKeys) {
  ChatRequest request;
  request.tools = OrderedJson::parse(R"([{"z": 1, "a": {"y": "\u00e9", "b": 1.0}}])");
  EXPECT_EQ(Rendered("{{ tools | tojson }}", request),
            "[{\"z\": 1, \"a\": {\"y\": \"\u00e9\", \"b\": 1.0}}]");
}

TEST(ChatTemplate, VariablesReplaceWhatIsGiven) {
  ChatRequest request;
  request.variables = {{"bos_token", "[B]"}, {"x", 3}};
  EXPECT_EQ(Rendered("{{ bos_token }}{{ eos_token }}{{ x }}", request), "[B]</s>3");
}

TEST(ChatTemplate, SaysWhere) {
  EXPECT_EQ(ErrorOf("a\n{{ b }}\n  {{ b.c }}", ErrorCode::kInvalidArgument),
            "t: line 3, column 7: 'b' is undefined");
  EXPECT_EQ(ErrorOf("{% if true %}\n{{ 1 | odd }}{% endif %}", ErrorCode::kUnsupported),
            "t: line 2, column 6: the filter odd is not supported");
  EXPECT_EQ(ErrorOf("{% include 'x' %}", ErrorCode::kUnsupported),
            "t: line 1, column 4: {% include %} is not supported");
  EXPECT_EQ(ErrorOf("\n {{ 1 + }}", ErrorCode::kCorrupt),
            "t: line 2, column 9: expected a value, found the end of the tag");
  EXPECT_NE(ErrorOf("{{ raise_exception('Only users!') }}", ErrorCode::kInvalidArgument)
                .find("Only users!"),
            std::string::npos);
  EXPECT_NE(ErrorOf("{% for x in y %}", ErrorCode::kCorrupt).find("endfor"), std::string::npos);
}

TEST(ChatTemplate, EveryTruncationRendersOrSaysWhy) {
  for (const auto& entry : std::filesystem::directory_iterator(kTemplates)) {
    if (entry.path().extension() != ".jinja") continue;
    const Result<std::string> text = ReadFile(entry.path(), 1 << 20);
    ASSERT_TRUE(text.ok());
    for (size_t size = 0; size < text->size(); size += 7) {
      const Result<std::string> rendered =
          RenderText(std::string_view(*text).substr(0, size), Conversation());
      EXPECT_TRUE(rendered.ok() || !rendered.error().message.empty());
    }
  }
}

TEST(ChatTemplate, IsBounded) {
  ErrorOf("{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}",
          ErrorCode::kUnsupported);
  ErrorOf("{{ " + std::string(5000, '-') + "1 }}", ErrorCode::kUnsupported);
  std::string subtract = "{{ 1";
  for (int i = 0; i < 5000; ++i) subtract += " - 1";
  ErrorOf(subtract + " }}", ErrorCode::kUnsupported);
  std::string concatenate = "{{ 1";
  for (int i = 0; i < 5000; ++i) concatenate += " ~ 1";
  EXPECT_EQ(Rendered(concatenate + " }}").size(), 5001u);
  std::string fields = "{{ x";
  for (int i = 0; i < 5000; ++i) fields += ".a";
  ErrorOf(fields + " }}", ErrorCode::kUnsupported);
  std::string blocks;
  for (int i = 0; i < 5000; ++i) blocks += "{% if 1 %}";
  ErrorOf(blocks, ErrorCode::kUnsupported);
  ErrorOf("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ErrorCode::kUnsupported);
  const std::string loops = "{% for a in range(99999) %}{% for b in range(99999) %}";
  ErrorOf(loops + "x{% endfor %}{% endfor %}", ErrorCode::kUnsupported);
  ErrorOf(
      "{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor "
      "%}",
      ErrorCode::kUnsupported);
  ErrorOf("{% set n = namespace(x=[]) %}{% for a in range(99) %}{% set n.x = [n.x] %}{% endfor %}",
          ErrorCode::kUnsupported);
  ErrorOf("{{ 'a' * 99999999999 }}", ErrorCode::kUnsupported);
  ErrorOf("{% set n = namespace() %}{% set n.x = [n] %}", ErrorCode::kUnsupported);
}

TEST(ChatTemplate, ReadsModelDirectories) {
  const std::filesystem::path directory =
      std::filesystem::path(::testing::TempDir()) / "ram_chat_template";
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  const auto write = [&](const char* name, const char* text) {
    ASSERT_TRUE(WriteFileAtomically(directory / name, text).ok());
  };
  const auto rendered = [&](const char* name) -> std::string {
    const Result<ChatTemplate> opened = ChatTemplate::Open(directory, name);
    if (!opened) return opened.error().message;
    const Result<std::string> text = opened->Render({});
    return text ? *text : text.error().message;
  };
  EXPECT_NE(rendered("").find("no chat_template"), std::string::npos);
  write("tokenizer_config.json", R"({"bos_token": {"content": "<b>"},
      "chat_template": [{"name": "default", "template": "D{{ bos_token }}"},
                        {"name": "tool_use", "template": "T"}]})");
  EXPECT_EQ(rendered(""), "D<b>");
  EXPECT_EQ(rendered("tool_use"), "T");
  EXPECT_NE(rendered("rag").find("called rag"), std::string::npos);
  write("chat_template.jinja", "J{{ bos_token }}\n");
  EXPECT_EQ(rendered(""), "J<b>");
  std::filesystem::remove_all(directory);
}

TEST(ChatTemplate, ReadsRequests) {
  EXPECT_EQ(ParseChatRequest("[]", "f")->messages.size(), 0u);
  const Result<ChatRequest> request =
      ParseChatRequest(R"({"messages": [], "add_generation_prompt": false, "x": 1})", "f");
  ASSERT_TRUE(request.ok());
  EXPECT_FALSE(request->add_generation_prompt);
  EXPECT_EQ(request->variables["x"], 1);
  for (const char* wrong : {"", "{}", "3", R"({"messages": 1})", "[", R"({"a": 1, "a": 2})"}) {
    EXPECT_FALSE(ParseChatRequest(wrong, "f").ok()) << wrong;
  }
}

}  // namespace
}  // namespace ram
