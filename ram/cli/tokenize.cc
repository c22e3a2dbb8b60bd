// ram tokenize MODEL [FILE]: text to the ids that the model reads, and back.

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <system_error>

#include "ram/base/file.h"
#include "ram/checkpoint/checkpoint.h"
#include "ram/cli/verb.h"
#include "ram/text/chat_template.h"
#include "ram/text/tokenizer.h"

namespace ram::cli {
namespace {

constexpr uint64_t kMaxInputBytes = uint64_t{1} << 30;

struct Options {
  std::string model;
  std::string file;
  std::string text;
  std::string chat;
  bool render = false;
  bool decode = false;
  bool count = false;
  bool no_special = false;
  bool jsonl = false;
};

// A directory with a tokenizer.json is enough; the file itself, or a name in the cache, will do.
Result<std::filesystem::path> FindTokenizer(const std::string& model) {
  namespace fs = std::filesystem;
  std::error_code error;
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"}) {
    if (fs::exists(fs::path(model) / file, error)) return fs::path(model);
  }
  if (fs::path(model).filename() == "tokenizer.json" && fs::exists(model, error)) {
    const fs::path parent = fs::path(model).parent_path();
    return parent.empty() ? fs::path(".") : parent;
  }
  return ResolveModel(model);
}

Result<std::string> ReadStandardInput() {
  std::string text;
  char buffer[1 << 16];
  size_t num_read;
  while ((num_read = std::fread(buffer, 1, sizeof(buffer), stdin)) > 0) {
    text.append(buffer, num_read);
    if (text.size() > kMaxInputBytes) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("standard input has more than {} bytes", kMaxInputBytes)};
    }
  }
  if (std::ferror(stdin) != 0) {
    return Error{ErrorCode::kIo, "standard input cannot be read"};
  }
  return text;
}

// Whole numbers between anything that is neither digit nor letter: "1 2", "[1, 2]".
Result<std::vector<int32_t>> ParseIds(std::string_view text, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  const auto is_separator = [](char c) {
    return std::isspace(static_cast<unsigned char>(c)) != 0 || c == ',' || c == '[' || c == ']';
  };
  for (size_t at = 0; at < text.size();) {
    if (is_separator(text[at])) {
      ++at;
      continue;
    }
    size_t end = at;
    while (end < text.size() && !is_separator(text[end])) ++end;
    int32_t id = -1;
    const auto parsed = std::from_chars(text.data() + at, text.data() + end, id);
    if (parsed.ec != std::errc() || parsed.ptr != text.data() + end || !tokenizer.IsToken(id)) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("byte {}: expected the id of a token (0 to {})", at,
                               tokenizer.vocabulary_size() - 1)};
    }
    ids.push_back(id);
    at = end;
  }
  return ids;
}

// The bytes of a token as a JSON string, so that spaces and line ends can be seen.
std::string Quoted(std::string_view bytes) {
  return Json(bytes).dump(-1, ' ', false, Json::error_handler_t::replace);
}

// ---- One text ----

void PrintIds(const std::vector<int32_t>& ids, const Tokenizer& tokenizer, const Context& context) {
  std::string out;
  const bool for_people = ::isatty(STDOUT_FILENO) == 1;
  for (const int32_t id : ids) {
    out += for_people ? fmt::format("{:>7}  {}\n", id, Quoted(tokenizer.TokenBytes(id)))
                      : fmt::format("{}\n", id);
  }
  context.Print(out);
}

Status EncodeOne(const Options& options, const Tokenizer& tokenizer, std::string_view text,
                 Context& context) {
  RAM_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokenizer.Encode(text, !options.no_special));
  OrderedJson json = {{"num_tokens", ids.size()}};
  if (!options.count) {
    json["ids"] = ids;
    OrderedJson pieces = OrderedJson::array();
    for (const int32_t id : ids) pieces.push_back(tokenizer.TokenText(id));
    json["tokens"] = std::move(pieces);
  }
  context.PrintJson(json);
  if (context.json()) return Done{};
  if (options.count) {
    context.Print(fmt::format("{}\n", ids.size()));
    return Done{};
  }
  PrintIds(ids, tokenizer, context);
  if (::isatty(STDOUT_FILENO) == 1) {
    context.Note(fmt::format("{} tokens, {} bytes", ids.size(), text.size()));
  }
  return Done{};
}

Status DecodeOne(const Options& options, const Tokenizer& tokenizer, std::string_view text,
                 Context& context) {
  RAM_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ParseIds(text, tokenizer));
  const std::string decoded = tokenizer.Decode(ids, options.no_special);
  context.Print(decoded);
  if (::isatty(STDOUT_FILENO) == 1) context.Print("\n");
  context.PrintJson({{"num_tokens", ids.size()}, {"text", decoded}});
  return Done{};
}

// ---- One text a line ----

Result<std::string> DoLine(const Options& options, const Tokenizer& tokenizer,
                           std::string_view line) {
  if (options.decode) {
    RAM_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ParseIds(line, tokenizer));
    return Quoted(tokenizer.Decode(ids, options.no_special));
  }
  RAM_ASSIGN_OR_RETURN(const Json text, ParseJson(line, "the line"));
  if (!text.is_string()) {
    return Error{ErrorCode::kInvalidArgument, "expected a JSON string"};
  }
  RAM_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                       tokenizer.Encode(text.get_ref<const std::string&>(), !options.no_special));
  return options.count ? fmt::format("{}", ids.size()) : fmt::format("[{}]", fmt::join(ids, ","));
}

Status DoLines(const Options& options, const Tokenizer& tokenizer, std::string_view text,
               const std::string& where) {
  size_t number = 0;
  while (!text.empty()) {
    ++number;
    const size_t end = std::min(text.find('\n'), text.size());
    const Result<std::string> out = DoLine(options, tokenizer, text.substr(0, end));
    if (!out) {
      return Error{out.error().code,
                   fmt::format("{}: line {}: {}", where, number, out.error().message)};
    }
    std::fwrite(out->data(), 1, out->size(), stdout);
    std::fputc('\n', stdout);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return Done{};
}

// The conversation as the model's template writes it, special tokens included.
Result<std::string> RenderChat(const Options& options, const std::filesystem::path& directory) {
  RAM_ASSIGN_OR_RETURN(const std::string json, options.chat == "-"
                                                   ? ReadStandardInput()
                                                   : ReadFile(options.chat, kMaxInputBytes));
  RAM_ASSIGN_OR_RETURN(const ChatRequest request, ParseChatRequest(json, options.chat));
  RAM_ASSIGN_OR_RETURN(const ChatTemplate chat_template, ChatTemplate::Open(directory));
  return chat_template.Render(request);
}

Status RunTokenize(const Options& options, Context& context) {
  RAM_ASSIGN_OR_RETURN(const std::filesystem::path directory, FindTokenizer(options.model));
  std::string text = options.text;
  std::string where = "--text";
  if (!options.chat.empty()) {
    where = options.chat;
    RAM_ASSIGN_OR_RETURN(text, RenderChat(options, directory));
    if (options.render) {
      context.Print(text);
      context.PrintJson({{"text", text}});
      return Done{};
    }
  } else if (!options.file.empty() && options.file != "-") {
    where = options.file;
    RAM_ASSIGN_OR_RETURN(text, ReadFile(options.file, kMaxInputBytes));
  } else if (text.empty()) {
    where = "standard input";
    if (::isatty(STDIN_FILENO) == 1) context.Note("Type a text; Ctrl-D ends it.");
    RAM_ASSIGN_OR_RETURN(text, ReadStandardInput());
  }
  RAM_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Open(directory));
  for (const std::string& note : tokenizer.notes()) context.Note(fmt::format("note: {}", note));
  if (options.jsonl) return DoLines(options, tokenizer, text, where);
  const Status status = options.decode ? DecodeOne(options, tokenizer, text, context)
                                       : EncodeOne(options, tokenizer, text, context);
  if (status) return status;
  return Error{status.error().code, fmt::format("{}: {}", where, status.error().message)};
}

}  // namespace

Verb AddTokenize(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("tokenize", "Text to the ids that a model reads, and back");
  verb->add_option("MODEL", options->model,
                   "Directory with a tokenizer.json, or a name in the Hugging Face cache")
      ->required();
  auto* file = verb->add_option("FILE", options->file, "The text (default: standard input)");
  verb->add_option("-t,--text", options->text, "The text itself")->excludes(file);
  verb->add_flag("--decode", options->decode, "Ids in (numbers, however separated), text out");
  auto* count = verb->add_flag("--count", options->count, "Only say how many tokens");
  verb->add_flag("--no-special", options->no_special,
                 "No special tokens around the text; with --decode, leave them out");
  verb->add_flag(
      "--jsonl", options->jsonl,
      "Each line is a text as a JSON string (with --decode an array of ids), each line of the "
      "output an array of ids (a string)");
  auto* chat = verb->add_option(
      "--chat", options->chat,
      "A conversation in a JSON file (- is standard input): a list of {\"role\": ..., \"content\": "
      "...}, or an object with \"messages\", \"tools\" and variables of the model's chat template");
  verb->add_flag("--render", options->render, "Print the conversation as the template writes it")
      ->needs(chat);
  chat->excludes(file)->excludes("--text")->excludes("--decode")->excludes("--jsonl");
  verb->get_option("--decode")->excludes(count);
  verb->footer(
      "On a terminal each line is an id and what it stands for; elsewhere an id alone,\n"
      "so that `ram tokenize MODEL a.txt | ram tokenize MODEL --decode` gives a.txt\n"
      "back (with --no-special, where the model puts tokens around it).");
  return {verb, [options, &context] { return RunTokenize(*options, context); }};
}

}  // namespace ram::cli
