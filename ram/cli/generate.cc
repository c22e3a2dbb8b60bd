// ram generate MODEL -p "...": streams text.

#include "ram/runtime/generate.h"

#include <fmt/format.h>

#include <algorithm>

#include "ram/base/bytes.h"
#include "ram/base/file.h"
#include "ram/cli/run_options.h"
#include "ram/cli/verb.h"
#include "ram/text/chat_template.h"
#include "ram/text/tokenizer.h"

namespace ram::cli {
namespace {

struct Options {
  std::string model;
  std::vector<std::string> prompts;
  std::string file;
  bool chat = false;
  std::string system;
  bool raw = false;
  bool ignore_end = false;
  std::string cache = "f32";
  uint64_t samples = 1;
  GenerateOptions generate;
  RunOptions run;
};

// Texts to be continued: what -p and --file say.
Result<std::vector<std::string>> PromptTexts(const Options& options) {
  std::vector<std::string> texts = options.prompts;
  if (!options.file.empty()) {
    RAM_ASSIGN_OR_RETURN(std::string text, ReadFile(options.file, uint64_t{64} << 20));
    texts.push_back(std::move(text));
  }
  return texts;
}

Result<std::string> RenderMessage(const ChatTemplate& chat, const std::string& system,
                                  const std::string& text) {
  ChatRequest request;
  if (!system.empty()) request.messages.push_back({{"role", "system"}, {"content", system}});
  request.messages.push_back({{"role", "user"}, {"content", text}});
  return chat.Render(request);
}

// Every text `samples` times, as ids.
Result<std::vector<TokenIds>> PromptIds(const Options& options, const RunnableModel& model,
                                        const Tokenizer& tokenizer) {
  RAM_ASSIGN_OR_RETURN(std::vector<std::string> texts, PromptTexts(options));
  if (options.chat) {
    RAM_ASSIGN_OR_RETURN(const ChatTemplate chat,
                         ChatTemplate::Open(model.checkpoint->directory()));
    for (std::string& text : texts) {
      RAM_ASSIGN_OR_RETURN(text, RenderMessage(chat, options.system, text));
    }
  }
  // A template writes the special tokens itself.
  const bool add_special = !options.raw && !options.chat;
  std::vector<TokenIds> prompts;
  for (const std::string& text : texts) {
    RAM_ASSIGN_OR_RETURN(const TokenIds ids, tokenizer.Encode(text, add_special));
    if (ids.empty()) {
      return Error{ErrorCode::kInvalidArgument,
                   "the prompt has no tokens; give one with -p, or --file"};
    }
    prompts.insert(prompts.end(), options.samples, ids);
  }
  return prompts;
}

void AddIds(const Json& config, std::vector<int32_t>* ids) {
  const auto found = config.find("eos_token_id");
  if (found == config.end()) return;
  const auto add = [ids](const Json& value) {
    if (value.is_number_integer()) ids->push_back(value.get<int32_t>());
  };
  if (found->is_array()) {
    for (const Json& value : *found) add(value);
  } else {
    add(*found);
  }
}

// Tokens that end a text: those of generation_config.json, config.json and the tokenizer.
Result<std::vector<int32_t>> StopIds(const RunnableModel& model, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  const std::filesystem::path path = model.checkpoint->directory() / "generation_config.json";
  if (std::filesystem::exists(path)) {
    RAM_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, uint64_t{1} << 20));
    RAM_ASSIGN_OR_RETURN(const Json config, ParseJson(text, path.string()));
    if (config.is_object()) AddIds(config, &ids);
  }
  const Json& config = model.checkpoint->config();
  AddIds(config, &ids);
  if (const auto text = config.find("text_config"); text != config.end() && text->is_object()) {
    AddIds(*text, &ids);
  }
  if (tokenizer.eos_id().has_value()) ids.push_back(*tokenizer.eos_id());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

std::string StatsText(const GenerateStats& stats) {
  const auto rate = [](uint64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  };
  return fmt::format("prompt {} tokens, {:.1f} tokens/s; then {} tokens, {:.1f} tokens/s",
                     FormatCount(stats.prompt_tokens),
                     rate(stats.prompt_tokens, stats.prompt_seconds), FormatCount(stats.new_tokens),
                     rate(stats.new_tokens, stats.new_seconds));
}

Status RunGenerate(Options& options, Context& context) {
  RAM_ASSIGN_OR_RETURN(const RunnableModel model, options.run.Open(options.model));
  RAM_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Open(model.checkpoint->directory()));
  RAM_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, options.run.MakeEngine(context));
  RAM_ASSIGN_OR_RETURN(const std::vector<TokenIds> prompts, PromptIds(options, model, tokenizer));
  if (!options.ignore_end) {
    RAM_ASSIGN_OR_RETURN(options.generate.stop_ids, StopIds(model, tokenizer));
  }
  options.generate.cache_dtype = options.cache == "bf16" ? Dtype::kBF16 : Dtype::kF32;
  RAM_ASSIGN_OR_RETURN(options.generate.memory_bytes, options.run.MemoryBytes());

  // One text streams; of several each is printed when all are done.
  const bool streams = prompts.size() == 1;
  StreamDecoder decoder(tokenizer, /*skip_special=*/true);
  const TokenBody body = [&](size_t, int32_t id) {
    if (streams) context.Print(decoder.Add(id));
    return true;
  };
  GenerateStats stats;
  RAM_ASSIGN_OR_RETURN(const std::vector<TokenIds> results,
                       Generate(*engine, *model.source, model.graph, prompts, options.generate,
                                context.MakeWatcher(), body, &stats));
  if (streams) {
    context.Print(decoder.Finish() + "\n");
  } else {
    for (size_t s = 0; s < results.size(); ++s) {
      context.Print(Heading(fmt::format("{} of {}", s + 1, results.size()), context.style()) +
                    tokenizer.Decode(results[s], /*skip_special=*/true) + "\n\n");
    }
  }
  context.Note(StatsText(stats));
  OrderedJson json = {{"model", options.model},
                      {"engine", engine->name()},
                      {"numerics", options.run.numerics_name},
                      {"seed", options.generate.sampling.seed},
                      {"temperature", options.generate.sampling.temperature},
                      {"sequences", OrderedJson::array()}};
  for (size_t s = 0; s < results.size(); ++s) {
    json["sequences"].push_back({{"prompt_ids", prompts[s]},
                                 {"ids", results[s]},
                                 {"text", tokenizer.Decode(results[s], true)}});
  }
  json["prompt_seconds"] = stats.prompt_seconds;
  json["new_seconds"] = stats.new_seconds;
  context.PrintJson(json);
  return Done{};
}

}  // namespace

Verb AddGenerate(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("generate", "Continue a text, or answer a message (--chat)");
  verb->add_option("MODEL", options->model, "A model directory, ours or foreign")->required();
  verb->add_option("-p,--prompt", options->prompts, "The text; repeat it for several at once");
  verb->add_option("--file", options->file, "The text is in this file");
  verb->final_callback([options] {
    if (options->prompts.empty() && options->file.empty()) {
      throw CLI::RequiredError("-p or --file");
    }
  });
  verb->add_flag("--chat", options->chat,
                 "The text is a message: render the model's chat template");
  verb->add_option("--system", options->system, "With --chat: the system message");
  verb->add_flag("--raw", options->raw, "Add no special tokens in front of the text");
  verb->add_option("-n,--max-tokens", options->generate.max_tokens, "New tokens (default 256)");
  verb->add_option("-t,--temperature", options->generate.sampling.temperature,
                   "0 (default): always the most likely token")
      ->check(CLI::Range(0.0, 100.0));
  verb->add_option("--top-k", options->generate.sampling.top_k, "Only of the K most likely tokens");
  verb->add_option("--top-p", options->generate.sampling.top_p,
                   "Only of the most likely tokens that hold this share")
      ->check(CLI::Range(0.0, 1.0));
  verb->add_option("--seed", options->generate.sampling.seed, "The same seed, the same text (0)");
  verb->add_option("--samples", options->samples, "Continue each text so many times at once")
      ->check(CLI::Range(1, 1024));
  verb->add_flag("--ignore-end", options->ignore_end, "Go on after the token that ends a text");
  verb->add_option("--cache", options->cache, "Keys and values are kept as f32 (default) or bf16")
      ->check(CLI::IsMember({"f32", "bf16"}));
  options->run.Add(verb);
  return {verb, [options, &context] { return RunGenerate(*options, context); }};
}

}  // namespace ram::cli
