#pragma once

// Plan + checkpoint -> a model directory that mlx-lm, LM Studio and mlx-swift load unchanged.
//
// The directory appears whole or not at all: shards are written to files without a name where the
// system can do that (then nothing is left behind even by kill -9), the rest to a sibling that is
// renamed at the end. The same input gives the same bytes, with any number of threads.
// Memory: a few MiB per thread.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "ram/base/json.h"
#include "ram/base/progress.h"
#include "ram/base/result.h"
#include "ram/base/thread_pool.h"
#include "ram/checkpoint/checkpoint.h"
#include "ram/family/catalog.h"
#include "ram/quant/quantize.h"
#include "ram/writer/layout.h"

namespace ram {

// What was written for one quantized module.
struct WrittenModule {
  std::string name;
  Choice choice;
  uint64_t bytes = 0;            // Of its tensors, headers not counted.
  double sum_squares_error = 0;  // Of the codes as written.
};

struct WriteOptions {
  Quantizer quantizer = Quantizer::kRtnPlus;
  Rounding rounding = Rounding::kCpu;
  bool overwrite = false;  // Replace an existing directory, in one step, at the end.
  uint64_t max_shard_bytes = kMaxShardBytes;
  ThreadPool* pool = nullptr;  // Required.
  Watcher watcher;
  // Written beside the weights: name, text. README.md, plan.json, ...
  std::vector<std::pair<std::string, std::string>> files;
  // Asked of every quantizable module before anything becomes visible; an error stops the writing.
  std::function<Status(const WrittenModule& module)> check;
};

struct WrittenModel {
  uint64_t file_bytes = 0;  // Of all safetensors files.
  size_t num_shards = 0;
  std::vector<WrittenModule> modules;  // Quantizable ones, in the order of the catalog.
  std::vector<std::string> copied_files;
  double seconds = 0;
  double kernel_seconds = 0;  // In the quantizers, all threads together.
};

// `choices` [catalog.tensors.size()] as for LayOutModel.
// kInvalidArgument: the directory exists; kNoSpace: the disk is too small (with both numbers);
// kCorrupt: NaN in the weights; kIo; kCancelled. After any error the file system is as before.
Result<WrittenModel> WriteModel(const Checkpoint& checkpoint, const Catalog& catalog,
                                const std::vector<Choice>& choices, const WriteOptions& options,
                                const std::filesystem::path& directory);

// config.json with its "quantization": the most frequent choice as the default, every module
// listed.
Result<std::string> ConfigJsonText(const Checkpoint& checkpoint, const Catalog& catalog,
                                   const std::vector<Choice>& choices);

}  // namespace ram
