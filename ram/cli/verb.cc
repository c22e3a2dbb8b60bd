#include "ram/cli/verb.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "ram/base/bytes.h"

namespace ram::cli {

std::atomic<bool> g_cancelled = false;

namespace {

extern "C" void OnSignal(int signal) {
  if (g_cancelled.exchange(true)) std::_Exit(128 + signal);  // Asked twice: at once.
}

bool IsTerminal(std::FILE* stream) { return ::isatty(::fileno(stream)) == 1; }

int TerminalWidth(std::FILE* stream) {
  winsize size = {};
  if (::ioctl(::fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const char* columns = std::getenv("COLUMNS");
  const int width = columns == nullptr ? 0 : std::atoi(columns);
  return width > 0 ? width : 80;
}

bool SpeaksUnicode() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    const std::string_view locale = value;
    return locale.find("UTF-8") != std::string_view::npos ||
           locale.find("utf8") != std::string_view::npos;
  }
  return false;
}

std::string TimeText(double seconds) {
  const int64_t whole = std::llround(seconds);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02} min", whole / 60, whole % 60);
  return fmt::format("{}:{:02} h", whole / 3600, whole / 60 % 60);
}

}  // namespace

ExitStatus StatusOf(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kNotFound:
    case ErrorCode::kCorrupt:
    case ErrorCode::kUnsupported:
      return kWrongInput;
    case ErrorCode::kIo:
    case ErrorCode::kNoSpace:
      return kMachine;
    case ErrorCode::kCancelled:
      return kInterrupted;
  }
  return kWrongInput;
}

void CatchSignals() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // A file larger than allowed is an error of the write.
}

// One line that is redrawn on a terminal, a line every ten seconds elsewhere, or JSON lines.
class Context::ProgressPrinter {
 public:
  enum class Form : uint8_t { kBar, kPlain, kJson, kNone };

  ProgressPrinter(Form form, bool unicode) : form_(form), unicode_(unicode) {}
  ~ProgressPrinter() { End(); }

  void Report(const Progress& progress) {
    if (form_ == Form::kNone) return;
    const auto now = Clock::now();
    if (progress.stage != stage_) {
      End();
      stage_ = progress.stage;
      start_ = now;
      start_done_ = progress.done;
      last_plain_ = now;
    }
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const auto done = static_cast<double>(progress.done - start_done_);
    const double rate = seconds > 0 ? done / seconds : 0;
    const double left = rate > 0 ? static_cast<double>(progress.total - progress.done) / rate : 0;
    const bool finished = progress.done >= progress.total;

    if (form_ == Form::kJson) {
      const std::string unit = progress.unit == Progress::Unit::kBytes ? "bytes" : "tokens";
      const OrderedJson line = {{"stage", stage_},
                                {"done_" + unit, progress.done},
                                {"total_" + unit, progress.total},
                                {unit + "_per_second", static_cast<int64_t>(rate)},
                                {"seconds_left", left},
                                {"item", std::string(progress.item)}};
      fmt::print(stderr, "{}\n", line.dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
      return;
    }
    const double share = progress.total == 0 ? 1
                                             : static_cast<double>(progress.done) /
                                                   static_cast<double>(progress.total);
    std::string text = fmt::format("{:<8} {:>3}%  {}  {}", stage_, static_cast<int>(share * 100),
                                   AmountText(progress, rate),
                                   finished ? TimeText(seconds) : TimeText(left) + " left");
    if (form_ == Form::kPlain) {
      if (!finished && now - last_plain_ < std::chrono::seconds(10)) return;
      if (finished && seconds < 1) return;  // Not worth a line in a log.
      last_plain_ = now;
      fmt::print(stderr, "{}\n", text);
      return;
    }
    const int width = TerminalWidth(stderr);
    const int bar_width = std::min(24, width - 2 - static_cast<int>(text.size()) - 4);
    if (bar_width >= 6) text += "  " + Bar(share, bar_width);
    fmt::print(stderr, "\r\x1b[K{}", text);
    std::fflush(stderr);
    line_open_ = true;
  }

  void End() {
    if (line_open_) std::fputs("\n", stderr);
    line_open_ = false;
    stage_.clear();
  }

 private:
  using Clock = std::chrono::steady_clock;

  // "1.2 of 3.4 GiB  0.52 GB/s", "4,096 of 262,016 tokens  1,040 tokens/s".
  static std::string AmountText(const Progress& progress, double rate) {
    if (progress.unit == Progress::Unit::kTokens) {
      return fmt::format("{} of {} tokens  {:.0f}/s", progress.done, progress.total, rate);
    }
    return fmt::format("{} of {}  {:.2f} GB/s", FormatBytesShort(progress.done),
                       FormatBytesShort(progress.total), rate / 1e9);
  }

  std::string Bar(double share, int width) const {
    const int full = static_cast<int>(share * width);
    std::string bar;
    for (int i = 0; i < width; ++i) {
      bar += i < full ? (unicode_ ? "━" : "#") : (unicode_ ? "─" : ".");
    }
    return bar;
  }

  Form form_;
  bool unicode_;
  bool line_open_ = false;
  std::string stage_;
  Clock::time_point start_;
  Clock::time_point last_plain_;
  uint64_t start_done_ = 0;
};

void Context::AddOptions(CLI::App* verb) {
  verb->add_flag("--json", json_, "Print the result as JSON")->group("Output");
  verb->add_flag("-q,--quiet", quiet_, "Print nothing but errors")->group("Output");
  verb->add_option("--progress", progress_, "auto, bar, plain, json or none (standard error)")
      ->check(CLI::IsMember({"auto", "bar", "plain", "json", "none"}))
      ->group("Output");
  verb->add_option("--color", color_, "auto, always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->group("Output");
  verb->add_option("--threads", num_threads_, "Threads (default: one per core)")
      ->check(CLI::Range(1, 1024))
      ->group("Output");
}

ThreadPool& Context::pool() {
  if (pool_ == nullptr) pool_ = std::make_unique<ThreadPool>(num_threads_);
  return *pool_;
}

Watcher Context::MakeWatcher() {
  using Form = ProgressPrinter::Form;
  Form form = IsTerminal(stderr) ? Form::kBar : Form::kPlain;
  if (progress_ == "bar") form = Form::kBar;
  if (progress_ == "plain") form = Form::kPlain;
  if (progress_ == "none" || (progress_ == "auto" && (quiet_ || json_))) form = Form::kNone;
  if (progress_ == "json") form = Form::kJson;
  if (printer_ == nullptr) printer_ = std::make_shared<ProgressPrinter>(form, SpeaksUnicode());
  Watcher watcher;
  watcher.report = [printer = printer_](const Progress& progress) { printer->Report(progress); };
  watcher.cancelled = &g_cancelled;
  return watcher;
}

void Context::EndProgress() {
  if (printer_ != nullptr) printer_->End();
}

Style Context::style() const {
  Style style;
  style.width = TerminalWidth(stdout);
  style.color = color_ == "always" ||
                (color_ == "auto" && IsTerminal(stdout) && std::getenv("NO_COLOR") == nullptr);
  style.unicode = SpeaksUnicode();
  return style;
}

void Context::Print(std::string_view text) const {
  if (quiet_ || json_) return;
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void Context::PrintJson(const OrderedJson& json) const {
  if (!json_) return;
  std::puts(json.dump(2, ' ', false, OrderedJson::error_handler_t::replace).c_str());
}

void Context::Note(std::string_view text) {
  if (quiet_ || json_) return;
  EndProgress();
  fmt::print(stderr, "{}\n", text);
}

}  // namespace ram::cli
