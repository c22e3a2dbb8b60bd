#pragma once

// Attention of the CPU engine: online softmax over tiles of keys, so that no [tokens, tokens] array
// exists. One implementation for f32 FMA (attention_fma.cc), one for AMX tiles (attention_amx.cc).

#include <memory>
#include <span>
#include <string>

#include "ram/base/thread_pool.h"
#include "ram/runtime/engine.h"

namespace ram {

class Attention {
 public:
  virtual ~Attention() = default;
  // As Engine::Attend. A result row does not depend on the other rows, or on the threads.
  virtual void Attend(Rows q, std::span<const AttentionInput> inputs, const AttentionSpec& spec,
                      Rows out, ThreadPool& pool) = 0;
};

std::unique_ptr<Attention> MakeFmaAttention(const std::string& isa);
// Tiles of bf16 parts at either level. Sequences with fewer than 16 rows in a batch go to the f32
// attention, whose bits are not the same. Null where the CPU, the system or the self test says no.
std::unique_ptr<Attention> MakeAmxAttention(const std::string& isa, Precision precision);

}  // namespace ram
