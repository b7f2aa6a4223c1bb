#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "sdk/cli/consume.h"

namespace sluice::cli {
namespace {

constexpr std::uint64_t kLossesShownMax = 10;
// How long --exit and --count wait for a daemon that has gone.
constexpr auto kAwayMax = std::chrono::seconds(30);

}  // namespace

void read_fields(const Message& message, MessageFields& fields) {
  fields.topic = message.topic();
  fields.partition = message.partition();
  fields.position = message.position();
  fields.producer = message.producer();
  fields.sequence = message.sequence();
  fields.time_ns = message.time_ns();
  fields.key = message.key();
  fields.tag = message.tag();
  fields.headers.clear();
  for (const auto& header : message.headers()) fields.headers.push_back(header);
  fields.payload = message.text();
}

ConsumeOutput::ConsumeOutput(const ConsumeFlags& flags, const std::optional<Format>& format)
    : flags_(flags),
      format_(format),
      show_progress_(::isatty(STDOUT_FILENO) == 0),  // data on the same terminal is progress enough
      out_(STDOUT_FILENO) {}

void ConsumeOutput::print(const Message& message, std::uint32_t delivered, std::uint32_t failed) {
  std::string& out = out_.buffer();
  if (flags_.json || format_) {
    read_fields(message, fields_);
    fields_.delivered = delivered;
    fields_.failed = failed;
    flags_.json ? append_json(out, fields_) : format_->append(out, fields_);
  } else {
    out += message.text();
    out += '\n';
  }
  out_.written();
  ++messages_;
  bytes_ += message.payload().size();
}

void ConsumeOutput::on_loss(const LossEvent& event) {
  ++losses_;
  if (event.kind == LossEvent::Kind::corrupt) ++corrupt_;
  if (losses_ > kLossesShownMax) return;
  progress_.clear();
  const std::string place = event.address.to_string();
  const std::string producer = "producer " + std::to_string(event.producer.value);
  const std::string numbers =
      ": expected sequence " + std::to_string(event.expected.value) + ", found " + std::to_string(event.found.value);
  switch (event.kind) {
    case LossEvent::Kind::gap: report_usage("consume", "gap at " + place + " of " + producer + numbers); break;
    case LossEvent::Kind::repeat: report_usage("consume", "repeat at " + place + " of " + producer + numbers); break;
    case LossEvent::Kind::corrupt:
      report_usage("consume", "damaged bytes at " + place + ", passed over: " + event.reason);
      break;
  }
}

std::string ConsumeOutput::progress() const {
  const double seconds = std::chrono::duration<double>(Clock::now() - started_).count();
  const auto rate = static_cast<std::uint64_t>(static_cast<double>(messages_) / seconds);
  return human_count(messages_) + " messages, " + human_size(bytes_) + ", " + human_count(rate) + " a second";
}

void ConsumeOutput::show_progress() {
  if (show_progress_) progress_.update([this] { return progress(); });
}

ExitCode ConsumeOutput::report_end(const Error& error) {
  out_.flush();
  progress_.clear();
  return report("consume", error);
}

int ConsumeOutput::finish(ExitCode exit, const std::string& note) {
  out_.flush();
  progress_.clear();
  const int broken = out_.broken_errno();
  if (broken != 0 && broken != EPIPE && broken != EINTR) {
    report("consume", system_error(broken, "writing to stdout"));
    return kExitIo;
  }
  std::string summary = std::to_string(messages_) + " messages, " + std::to_string(bytes_) + " bytes";
  if (losses_ != 0) summary += ", " + std::to_string(losses_) + " gaps, repeats or damaged records";
  summary += note + "\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, summary.data(), summary.size());
  return exit == kExitDone && corrupt_ != 0 ? kExitIo : exit;
}

Patience::Patience(const ConsumeFlags& flags, std::optional<Duration> timeout)
    : has_end_(flags.exit || flags.count != 0), timeout_(timeout) {}

// A consumer that follows waits for as long as it takes; one that is to end has an end.
bool Patience::wait_for_daemon() {
  const auto now = Clock::now();
  if (!away_since_) away_since_ = now;
  if (timeout_) return now - last_message_ < *timeout_;
  return !has_end_ || now - *away_since_ < kAwayMax;
}

Duration Patience::slice() const {
  return timeout_ ? std::min<Duration>(kConsumeWaitSlice, *timeout_) : Duration(kConsumeWaitSlice);
}

}  // namespace sluice::cli
