#pragma once

// Result<T>: a value, or the reason there is none.
//
// Input can be wrong in ways we cannot prevent (a truncated shard, an unknown model family, a
// budget below the floor): functions that meet such input return a Result. Code that is wrong is a
// different matter: state what must hold with RAM_CHECK, which stops the program and names the
// condition.
//
//   Result<Checkpoint> OpenCheckpoint(const std::filesystem::path& dir);
//
//   RAM_ASSIGN_OR_RETURN(Checkpoint checkpoint, OpenCheckpoint(dir));
//   RAM_RETURN_IF_ERROR(writer.Finish());

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

namespace ram {

// What a caller can act on. The command maps each code to one exit status (ram/cli/verb.h).
enum class ErrorCode : uint8_t {
  kInvalidArgument,  // The request cannot be met as stated, e.g. a budget that is too low.
  kNotFound,         // A file or tensor that was named does not exist.
  kCorrupt,          // Bytes contradict their own format, or two files contradict each other.
  kUnsupported,      // Valid input that this version does not handle.
  kIo,               // The operating system refused: permission, a read that failed.
  kNoSpace,          // The machine is too small: disk or memory.
  kCancelled,        // The user asked to stop.
};

// `message` is one sentence for a person; it names the file, the tensor or the byte offset
// concerned, and what was expected there.
struct Error {
  ErrorCode code;
  std::string message;
};

// Value type of a Result that carries nothing on success.
struct Done {};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT: implicit on purpose
  Result(Error error) : state_(std::move(error)) {}  // NOLINT: implicit on purpose

  bool ok() const { return std::holds_alternative<T>(state_); }
  explicit operator bool() const { return ok(); }

  // Only when ok().
  T& operator*() & { return std::get<T>(state_); }
  const T& operator*() const& { return std::get<T>(state_); }
  T&& operator*() && { return std::get<T>(std::move(state_)); }
  T* operator->() { return &std::get<T>(state_); }
  const T* operator->() const { return &std::get<T>(state_); }

  // Only when !ok().
  const Error& error() const& { return std::get<Error>(state_); }
  Error&& error() && { return std::get<Error>(std::move(state_)); }

 private:
  std::variant<T, Error> state_;
};

using Status = Result<Done>;

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "%s:%d: RAM_CHECK failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace ram

#define RAM_CHECK(condition) \
  ((condition) ? (void)0 : ::ram::CheckFailed(__FILE__, __LINE__, #condition))

#define RAM_RETURN_IF_ERROR(expr)                \
  do {                                           \
    if (auto ram_result = (expr); !ram_result) { \
      return std::move(ram_result).error();      \
    }                                            \
  } while (0)

#define RAM_ASSIGN_OR_RETURN(lhs, expr) \
  RAM_ASSIGN_OR_RETURN_IMPL_(RAM_CONCAT_(ram_result_, __LINE__), lhs, expr)
#define RAM_ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                               \
  if (!tmp) return std::move(tmp).error();         \
  lhs = *std::move(tmp)
#define RAM_CONCAT_(a, b) RAM_CONCAT_IMPL_(a, b)
#define RAM_CONCAT_IMPL_(a, b) a##b
