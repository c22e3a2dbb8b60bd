#include "ram/eval/windows.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "ram/eval/numpy_random.h"

namespace ram {
namespace {

using Kind = Protocol::Kind;

std::vector<Protocol> Protocols() {
  Protocol ram{.name = "ram-wikitext2", .kind = Kind::kRam, .max_windows = 128};
  Protocol gptq{.name = "gptq", .kind = Kind::kGptq, .special_at_start = true};
  Protocol llama_cpp{.name = "llama.cpp", .kind = Kind::kLlamaCpp, .context = 512};
  llama_cpp.special_at_start = true;
  Protocol strided{.name = "hf-strided", .kind = Kind::kStrided, .stride = 512};
  strided.special_at_start = true;
  Protocol mlx_lm{.name = "mlx_lm", .kind = Kind::kMlxLm, .context = 512, .max_windows = 256};
  mlx_lm.seed = 123;
  Protocol lm_eval{.name = "lm-eval", .kind = Kind::kLmEval, .context = 0};
  lm_eval.special_at_start = true;
  return {ram, gptq, llama_cpp, strided, mlx_lm, lm_eval};
}

// First tokens of the windows that do not overlap, in the order of the protocol.
std::vector<uint64_t> FirstTokens(uint64_t num_ids, const Protocol& protocol) {
  const uint64_t num_windows = num_ids / protocol.context;
  std::vector<uint64_t> first(num_windows);
  for (uint64_t w = 0; w < num_windows; ++w) first[w] = w * protocol.context;
  if (protocol.kind == Kind::kRam || protocol.kind == Kind::kMlxLm) {
    const std::vector<uint32_t> order =
        NumpyRandomState(protocol.seed).Permutation(static_cast<uint32_t>(num_windows));
    for (uint64_t w = 0; w < num_windows; ++w) first[w] = order[w] * protocol.context;
  }
  return first;
}

Window MakeWindow(std::span<const int32_t> ids, uint64_t first, uint64_t end,
                  uint64_t first_scored) {
  RAM_CHECK(first < first_scored && first_scored <= end);
  Window window;
  const std::span<const int32_t> part = ids.subspan(first, end - first);
  window.ids.assign(part.begin(), part.end());
  window.first_scored = first_scored - first;
  window.text_first = first_scored;
  window.text_end = end;
  return window;
}

std::vector<Window> CutStrided(std::span<const int32_t> ids, const Protocol& protocol) {
  std::vector<Window> windows;
  uint64_t scored = 0;
  for (uint64_t first = 0; scored < ids.size(); first += protocol.stride) {
    // Nothing predicts the first token of the text, nor of a window that overlaps with none.
    scored = std::max(scored, first + 1);
    const uint64_t end = std::min<uint64_t>(first + protocol.context, ids.size());
    if (scored < end) windows.push_back(MakeWindow(ids, first, end, scored));
    scored = end;
  }
  return windows;
}

// Puts a beginning-of-sequence token and a prefix in front.
void AddFront(const Protocol& protocol, std::span<const int32_t> prefix, std::optional<int32_t> bos,
              Window* window) {
  std::vector<int32_t> front(prefix.begin(), prefix.end());
  if (protocol.bos == Protocol::Bos::kReplace) window->ids[0] = *bos;
  if (protocol.bos == Protocol::Bos::kPrepend) front.insert(front.begin(), *bos);
  if (front.empty()) return;
  window->ids.insert(window->ids.begin(), front.begin(), front.end());
  window->first_scored += front.size();
}

}  // namespace

Result<Protocol> FindProtocol(std::string_view name) {
  for (const Protocol& protocol : Protocols()) {
    if (protocol.name == name) return protocol;
  }
  return Error{ErrorCode::kInvalidArgument, fmt::format("unknown protocol \"{}\"; there are {}",
                                                        name, fmt::join(ProtocolNames(), ", "))};
}

std::vector<std::string> ProtocolNames() {
  std::vector<std::string> names;
  for (const Protocol& protocol : Protocols()) names.push_back(protocol.name);
  return names;
}

std::vector<size_t> UnitBounds(std::span<const Window> windows) {
  std::vector<size_t> bounds;
  for (size_t w = 0; w < windows.size(); ++w) {
    if (!windows[w].continues) bounds.push_back(w);
  }
  bounds.push_back(windows.size());
  return bounds;
}

Result<WindowSet> CutWindows(std::span<const int32_t> ids, const Protocol& protocol,
                             std::span<const int32_t> prefix, std::optional<int32_t> bos) {
  if (protocol.kind == Kind::kLmEval) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("protocol {} needs documents, not one text", protocol.name)};
  }
  RAM_CHECK(protocol.context >= 2);
  RAM_CHECK(protocol.kind != Kind::kStrided ||
            (protocol.stride >= 1 && protocol.stride <= protocol.context));
  const bool needs_whole_window = protocol.kind != Kind::kStrided;
  if (ids.size() < 2 || (needs_whole_window && ids.size() < protocol.context)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("the text has {} tokens; protocol {} needs at least {}", ids.size(),
                             protocol.name, needs_whole_window ? protocol.context : 2)};
  }
  if (protocol.bos != Protocol::Bos::kNone && !bos.has_value()) {
    return Error{ErrorCode::kInvalidArgument,
                 "the tokenizer of this model has no beginning-of-sequence token"};
  }
  WindowSet set;
  if (protocol.kind == Kind::kStrided) {
    set.windows = CutStrided(ids, protocol);
  } else {
    for (const uint64_t first : FirstTokens(ids.size(), protocol)) {
      const uint64_t skipped = protocol.kind == Kind::kLlamaCpp ? protocol.context / 2 : 0;
      set.windows.push_back(MakeWindow(ids, first, first + protocol.context, first + skipped + 1));
    }
  }
  set.num_available = set.windows.size();
  if (protocol.max_windows != 0 && set.windows.size() > protocol.max_windows) {
    set.windows.resize(protocol.max_windows);
  }
  for (Window& window : set.windows) AddFront(protocol, prefix, bos, &window);
  return set;
}

Result<WindowSet> CutDocuments(std::span<const Document> documents, const Protocol& protocol,
                               std::span<const int32_t> prefix, int32_t first) {
  RAM_CHECK(protocol.context >= 2 && protocol.kind == Kind::kLmEval);
  if (protocol.bos != Protocol::Bos::kNone) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("protocol {} has its own token in front of every document: --bos does "
                             "not go with it",
                             protocol.name)};
  }
  WindowSet set;
  set.num_available = documents.size();
  const uint64_t num = protocol.max_windows == 0
                           ? documents.size()
                           : std::min<uint64_t>(protocol.max_windows, documents.size());
  uint64_t text_first = 0;
  for (uint64_t d = 0; d < num; ++d) {
    const Document& document = documents[d];
    const uint64_t size = document.ids.size();
    if (size == 0) {
      return Error{ErrorCode::kInvalidArgument, fmt::format("document {} has no tokens", d)};
    }
    std::vector<int32_t> ids = {first};
    ids.insert(ids.end(), document.ids.begin(), document.ids.end());
    // Token i of the document is ids[i + 1]; `scored` of them are behind us.
    for (uint64_t scored = 0; scored < size;) {
      const uint64_t end = std::min(scored + protocol.context, size);
      const uint64_t begin = scored == 0 ? 0 : end - protocol.context;
      Window window = MakeWindow(ids, begin, end + 1, scored + 1);
      window.text_first = text_first + scored;
      window.text_end = text_first + end;
      window.continues = scored != 0;
      if (!window.continues) {
        window.words = document.words;
        window.bytes = document.bytes;
      }
      AddFront(protocol, prefix, std::nullopt, &window);
      set.windows.push_back(std::move(window));
      scored = end;
    }
    text_first += size;
  }
  return set;
}

}  // namespace ram
