#include "sdk/cli/output.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "sdk/cli/interrupt.h"

namespace sluice::cli {
namespace {

constexpr std::string_view kClearLine = "\r\x1b[K";

void write_stderr(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stderr); }

std::string one_decimal(double value, std::string_view unit) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), value < 100 ? "%.1f" : "%.0f", value);
  return std::string(text.data()) + " " + std::string(unit);
}

}  // namespace

void Writer::flush() {
  std::string_view rest = buffer_;
  while (!rest.empty() && !broken_) {
    const ssize_t written = ::write(fd_, rest.data(), rest.size());
    if (written >= 0) {
      rest.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno != EINTR || interrupt::requested()) {
      broken_ = true;
      broken_errno_ = errno;
    }
  }
  buffer_.clear();
}

bool colours_on(int fd) {
  const char* none = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  if (none != nullptr && *none != '\0') return false;
  if (terminal != nullptr && std::strcmp(terminal, "dumb") == 0) return false;
  return ::isatty(fd) == 1;
}

std::string coloured(int fd, Colour colour, std::string_view text) {
  if (!colours_on(fd)) return std::string(text);
  constexpr std::array<std::string_view, 4> kCodes = {"31", "32", "33", "1"};
  return "\x1b[" + std::string(kCodes[static_cast<std::size_t>(colour)]) + "m" + std::string(text) + "\x1b[0m";
}

Table::Table(std::vector<std::string> header, std::vector<bool> right) : right_(std::move(right)) {
  right_.resize(header.size(), false);
  rows_.push_back(std::move(header));
}

std::string Table::text() const {
  std::vector<std::size_t> widths(right_.size(), 0);
  for (const auto& row : rows_)
    for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i) {
      const std::string padding(widths[i] - row[i].size(), ' ');
      if (i != 0) line += "  ";
      line += right_[i] ? padding + row[i] : row[i] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string human_size(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 5> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return one_decimal(value, kUnits[unit]);
}

std::string human_count(std::uint64_t count) {
  const std::string digits = std::to_string(count);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i != 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string human_duration(std::uint64_t ns) {
  const double value = static_cast<double>(ns);
  if (ns < 1'000) return std::to_string(ns) + " ns";
  if (ns < 1'000'000) return one_decimal(value / 1e3, "µs");
  if (ns < 1'000'000'000) return one_decimal(value / 1e6, "ms");
  if (ns < 120'000'000'000) return one_decimal(value / 1e9, "s");
  if (ns < 7'200'000'000'000) return one_decimal(value / 60e9, "min");
  if (ns < 172'800'000'000'000) return one_decimal(value / 3600e9, "h");
  return one_decimal(value / 86400e9, "d");
}

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      out += c;
      continue;
    }
    std::array<char, 5> escaped;
    std::snprintf(escaped.data(), escaped.size(), "\\x%02x", byte);
    out += escaped.data();
  }
  return out;
}

ExitCode report(std::string_view command, const Error& error) {
  write_stderr("sluice " + std::string(command) + ": " + coloured(2, Colour::red, printable(error.message())) + "\n");
  if (const std::string_view todo = advice(error.code()); !todo.empty()) write_stderr("  " + std::string(todo) + "\n");
  return exit_code(error.code());
}

ExitCode report_usage(std::string_view command, std::string_view what) {
  write_stderr("sluice" + std::string(command.empty() ? "" : " ") + std::string(command) + ": " + printable(what) +
               "\n");
  return kExitUsage;
}

ProgressLine::ProgressLine()
    : on_(::isatty(2) == 1), next_(std::chrono::steady_clock::now() + std::chrono::seconds(1)) {}

bool ProgressLine::due() {
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) return false;
  next_ = now + std::chrono::milliseconds(200);
  return true;
}

void ProgressLine::show(const std::string& text) {
  shown_ = true;
  write_stderr(std::string(kClearLine) + text);
}

void ProgressLine::clear() {
  if (shown_) write_stderr(kClearLine);
  shown_ = false;
}

Waiting::Waiting(std::string what) : what_(std::move(what)) {
  if (::isatty(2) == 1) thread_ = std::thread([this] { run(); });
}

Waiting::~Waiting() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
  }
  ended_.notify_one();
  thread_.join();
}

void Waiting::run() {
  std::unique_lock lock(mutex_);
  bool shown = false;
  for (int seconds = 1; !ended_.wait_for(lock, std::chrono::seconds(1), [this] { return end_; }); ++seconds) {
    shown = true;
    write_stderr(std::string(kClearLine) + what_ + " … " + std::to_string(seconds) + " s");
  }
  if (shown) write_stderr(kClearLine);
}

}  // namespace sluice::cli
