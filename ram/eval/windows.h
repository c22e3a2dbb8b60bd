#pragma once

// How a text becomes windows: the runs of tokens that a model is scored on. One protocol per
// published way of measuring perplexity; docs/perplexity.md compares them.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"

namespace ram {

// Tokens that the model reads in one run. Token i is scored for i in [first_scored, ids.size()),
// each given those before it; first_scored >= 1.
struct Window {
  std::vector<int32_t> ids;
  uint64_t first_scored = 1;
  // Where its scored tokens lie among those of the text: the first one, and past the last one.
  uint64_t text_first = 0;
  uint64_t text_end = 0;
  // Scored as one with the window before it: the next part of the same document.
  bool continues = false;
  // Of a document, on its first window: words and bytes that perplexity is also counted by.
  uint64_t words = 0;
  uint64_t bytes = 0;

  uint64_t num_scored() const { return ids.size() - first_scored; }
};

struct Protocol {
  enum class Kind : uint8_t {
    kRam,       // Non-overlapping windows in a seeded order; the first `max_windows` of them.
    kGptq,      // All non-overlapping windows, in order.
    kLlamaCpp,  // The same, but only the second half of each window is scored.
    kStrided,   // Overlapping windows: each scores its last `stride` tokens.
    kMlxLm,     // Rows of `context` tokens; as kRam with the order of its permutation.
    kLmEval,    // Documents, one by one, behind a prefix token; see CutDocuments.
  };
  std::string name;
  Kind kind = Kind::kRam;
  uint64_t context = 2048;   // Tokens of a window; 0: as many as the model can read.
  uint64_t max_windows = 0;  // Of kLmEval: documents. 0: all.
  uint64_t stride = 0;       // Of kStrided, at most the context.
  uint32_t seed = 42;
  bool special_at_start = false;  // The text begins with what the tokenizer puts in front.
  enum class Bos : uint8_t { kNone, kReplace, kPrepend } bos = Bos::kNone;  // Of every window.
};

// "ram-wikitext2", "gptq", "llama.cpp", "hf-strided", "mlx_lm", "lm-eval". kInvalidArgument lists
// them.
Result<Protocol> FindProtocol(std::string_view name);
std::vector<std::string> ProtocolNames();

struct WindowSet {
  std::vector<Window> windows;
  uint64_t num_available = 0;  // How many the text holds; fewer than asked for is worth a notice.
};

// What gets one score each: windows, but windows of one document together. Index of the first
// window of every one, then windows.size().
std::vector<size_t> UnitBounds(std::span<const Window> windows);

// Cuts `ids`, the tokens of the whole text. `prefix` is put in front of every window in addition
// (e.g. [gMASK]<sop>) and is not scored; with it or without, the same tokens are scored. `bos`: the
// model's, needed where the protocol says so. kInvalidArgument: a text shorter than one window
// (with both numbers), a protocol that needs documents, or a beginning-of-sequence token where
// there is none.
Result<WindowSet> CutWindows(std::span<const int32_t> ids, const Protocol& protocol,
                             std::span<const int32_t> prefix, std::optional<int32_t> bos);

struct Document {
  std::vector<int32_t> ids;
  uint64_t words = 0;
  uint64_t bytes = 0;
};

// Cuts documents as loglikelihood_rolling of lm-evaluation-harness does: every token is scored
// once. The model reads `context` tokens at a time: `first`, then the document; the next window
// begins with the last token of the one before; the last one is as long as the others, with scored
// tokens of the window before in front. `prefix` as above. kInvalidArgument: a document without
// tokens, a protocol that puts a beginning-of-sequence token into windows.
// Source: get_rolling_token_windows (context_len 1) and make_disjoint_window, lm_eval/utils.py.
Result<WindowSet> CutDocuments(std::span<const Document> documents, const Protocol& protocol,
                               std::span<const int32_t> prefix, int32_t first);

}  // namespace ram
