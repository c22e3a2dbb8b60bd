#include "ram/writer/pack_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <optional>
#include <set>

#include "ram/base/bytes.h"
#include "ram/base/file.h"
#include "ram/checkpoint/safetensors.h"
#include "ram/writer/staged_file.h"

namespace ram {
namespace {

constexpr uint64_t kPieceBytes = 4 * kMiB;

// One source tensor and the tensors of the new file that it becomes.
struct Job {
  const TensorInfo* source;
  bool packed;
  uint64_t rows;
  uint64_t cols;
  size_t first_out;  // Index into the new file's tensors: one, or three when packed.
};

// A few MiB of whole rows, or of bytes for tensors that are copied.
struct Piece {
  size_t job;
  uint64_t first;  // Row or byte.
  uint64_t count;
};

bool IsLegalMatrix(const TensorInfo& tensor, const Choice& choice) {
  const bool floating =
      tensor.dtype == Dtype::kBF16 || tensor.dtype == Dtype::kF16 || tensor.dtype == Dtype::kF32;
  return floating && tensor.shape.size() >= 2 && NumElements(tensor) > 0 &&
         IsLegal(choice, tensor.shape.back());
}

}  // namespace

Result<PackedFile> PackFile(const std::filesystem::path& in, const std::filesystem::path& out,
                            const PackOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  RAM_ASSIGN_OR_RETURN(const File file, File::OpenForReading(in));
  RAM_ASSIGN_OR_RETURN(const SafetensorsHeader header, ReadSafetensorsHeader(file));
  const Choice& choice = options.choice;
  RAM_CHECK(choice.mode == Mode::kAffine);
  const auto bits = static_cast<uint64_t>(choice.bits);
  const auto group = static_cast<uint64_t>(choice.group_size);

  PackedFile result;
  std::vector<Job> jobs;
  std::vector<TensorSpec> specs;
  std::set<std::string> names;
  for (const TensorInfo& tensor : header.tensors) {
    result.source_bytes += tensor.num_bytes;
    Job job{&tensor, IsLegalMatrix(tensor, choice), 1, 1, specs.size()};
    if (job.packed) {
      const std::string module = tensor.name.ends_with(".weight")
                                     ? tensor.name.substr(0, tensor.name.size() - 7)
                                     : tensor.name;
      job.cols = tensor.shape.back();
      job.rows = NumElements(tensor) / job.cols;
      std::vector<uint64_t> shape = tensor.shape;
      shape.back() = job.cols * bits / 32;
      specs.push_back({module + ".weight", Dtype::kU32, shape});
      shape.back() = job.cols / group;
      specs.push_back({module + ".scales", tensor.dtype, shape});
      specs.push_back({module + ".biases", tensor.dtype, shape});
      ++result.num_packed;
    } else {
      specs.push_back({tensor.name, tensor.dtype, tensor.shape});
      result.kept.push_back(tensor.name);
    }
    for (size_t i = job.first_out; i < specs.size(); ++i) {
      if (!names.insert(specs[i].name).second) {
        return Error{ErrorCode::kInvalidArgument,
                     fmt::format("{}: two tensors would be named {}", in.string(), specs[i].name)};
      }
    }
    jobs.push_back(job);
  }

  const SafetensorsLayout layout = LayOutSafetensors(specs);
  result.file_bytes = layout.file_bytes;
  RAM_ASSIGN_OR_RETURN(StagedFile staged,
                       StagedFile::Create(out, options.overwrite, layout.file_bytes));
  const std::string& prefix = layout.prefix;
  RAM_RETURN_IF_ERROR(staged.file().WriteAt(
      0, std::span(reinterpret_cast<const uint8_t*>(prefix.data()), prefix.size())));

  std::vector<Piece> pieces;
  for (size_t j = 0; j < jobs.size(); ++j) {
    const Job& job = jobs[j];
    const uint64_t total = job.packed ? job.rows : job.source->num_bytes;
    const uint64_t unit_bytes = job.packed ? job.source->num_bytes / job.rows : 1;
    const uint64_t step = std::max<uint64_t>(1, kPieceBytes / unit_bytes);
    for (uint64_t at = 0; at < total; at += step) {
      pieces.push_back({j, at, std::min(step, total - at)});
    }
  }

  std::mutex mutex;  // Guards the three below.
  uint64_t done_bytes = 0;
  std::optional<Error> error;
  size_t error_piece = pieces.size();
  std::vector<std::vector<uint8_t>> inputs(options.pool->num_threads());
  std::vector<std::vector<uint8_t>> outputs(options.pool->num_threads());
  const auto write_piece = [&](const Piece& piece, std::vector<uint8_t>& input,
                               std::vector<uint8_t>& output) -> Status {
    RAM_RETURN_IF_ERROR(options.watcher.Check());
    const Job& job = jobs[piece.job];
    const uint64_t unit_bytes = job.packed ? job.source->num_bytes / job.rows : 1;
    input.resize(piece.count * unit_bytes);
    RAM_RETURN_IF_ERROR(file.ReadAt(job.source->offset + piece.first * unit_bytes, input));
    const uint64_t* offset = &layout.offsets[job.first_out];
    if (!job.packed) return staged.file().WriteAt(offset[0] + piece.first, input);

    const uint64_t code_row = job.cols * bits / 8;
    const uint64_t scale_row =
        job.cols / group * static_cast<uint64_t>(BitsOf(job.source->dtype)) / 8;
    output.resize(piece.count * (code_row + 2 * scale_row));
    const std::span<uint8_t> all(output);
    const PackedMatrix packed{all.first(piece.count * code_row),
                              all.subspan(piece.count * code_row, piece.count * scale_row),
                              all.subspan(piece.count * (code_row + scale_row))};
    const auto quantized = Quantize({input.data(), job.source->dtype, piece.count, job.cols},
                                    {choice, options.quantizer, options.rounding, {}}, packed);
    if (!quantized) {
      return Error{quantized.error().code,
                   fmt::format("{}: tensor {}: {} (rows counted from row {})", in.string(),
                               job.source->name, quantized.error().message, piece.first)};
    }
    RAM_RETURN_IF_ERROR(staged.file().WriteAt(offset[0] + piece.first * code_row, packed.codes));
    RAM_RETURN_IF_ERROR(staged.file().WriteAt(offset[1] + piece.first * scale_row, packed.scales));
    return staged.file().WriteAt(offset[2] + piece.first * scale_row, packed.biases);
  };
  options.pool->ParallelFor(pieces.size(), [&](size_t index, size_t thread) {
    {
      const std::lock_guard lock(mutex);
      if (error) return;
    }
    const Status status = write_piece(pieces[index], inputs[thread], outputs[thread]);
    const std::lock_guard lock(mutex);
    if (!status) {
      if (index < error_piece) {
        error = status.error();
        error_piece = index;
      }
      return;
    }
    done_bytes += inputs[thread].size();
    options.watcher.Report(
        {"pack", done_bytes, result.source_bytes, jobs[pieces[index].job].source->name});
  });
  if (error) return *std::move(error);
  RAM_RETURN_IF_ERROR(staged.Publish());
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace ram
