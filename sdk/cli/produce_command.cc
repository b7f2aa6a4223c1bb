// sluice produce: one message per line of stdin, or the whole of a file as one.
//
// How it goes: lines are sent without waiting; where they must become durable (--durability sync, or a sync topic) they
// are waited for in windows: when a window is full, before the input would make it wait, and at the end. Receipts of a
// window are printed once it is durable.
//
// What fails alone (a line that is too large) is counted and passed over, and the others are sent; what would fail for
// the next line too ends the command. Nothing that was sent is taken back.

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <memory>
#include <optional>

#include "sdk/cli/arguments.h"
#include "sdk/cli/command.h"
#include "sdk/cli/interrupt.h"
#include "sdk/cli/line_reader.h"
#include "sdk/cli/message_text.h"

namespace sluice::cli {
namespace {

constexpr const char* kCommand = "produce";
// Messages in flight before the first of them must be durable.
constexpr std::size_t kWindowMax = 4096;
// What a key may take of a line, besides the payload; the bus's own limit is lower or the same.
constexpr std::size_t kKeySizeMax = 16 * 1024;
// How long a send waits before we look whether the user wants to end.
constexpr Duration kSendSlice = std::chrono::milliseconds(200);
// Errors that are printed one by one; the rest is counted.
constexpr std::uint64_t kErrorsShownMax = 10;

struct ProduceFlags {
  std::string topic, key, key_delimiter, tag, durability, producer, file, timeout, delay, deliver_at, expire;
  std::vector<std::string> headers;
  std::optional<std::uint32_t> partition;
  double rate = 0;
  bool receipts = false;
};

// The flags as values.
struct Plan {
  std::optional<char> key_delimiter;
  std::vector<std::pair<std::string, std::string>> headers;
  std::vector<std::pair<std::string_view, std::string_view>> header_views;
  Duration timeout = std::chrono::seconds(30);
  Duration delay{0};
  std::uint64_t deliver_at_ns = 0;
  Duration expire_after{0};
  bool sync = false;
};

Status plan_headers(const ProduceFlags& flags, Plan& plan) {
  for (const std::string& text : flags.headers) {
    SLUICE_ASSIGN(auto header, header_argument(text));
    plan.headers.push_back(std::move(header));
  }
  for (const auto& [name, value] : plan.headers) plan.header_views.emplace_back(name, value);
  return {};
}

Status plan_duration(const std::string& text, Duration& duration) {
  if (text.empty()) return {};
  SLUICE_ASSIGN(const std::uint64_t ns, duration_argument(text));
  duration = Duration(static_cast<Duration::rep>(ns));
  return {};
}

Status make_plan(const ProduceFlags& flags, Plan& plan) {
  SLUICE_TRY(plan_headers(flags, plan));
  SLUICE_TRY(plan_duration(flags.timeout, plan.timeout));
  SLUICE_TRY(plan_duration(flags.delay, plan.delay));
  SLUICE_TRY(plan_duration(flags.expire, plan.expire_after));
  if (!flags.deliver_at.empty()) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    SLUICE_ASSIGN(plan.deliver_at_ns,
                  time_argument(flags.deliver_at, static_cast<std::uint64_t>(std::chrono::nanoseconds(now).count())));
  }
  if (!flags.key_delimiter.empty()) {
    SLUICE_ASSIGN(plan.key_delimiter, delimiter_argument(flags.key_delimiter));
  }
  if (!flags.durability.empty() && flags.durability != "sync")
    return fail(ErrorCode::invalid,
                "--durability can only be sync; what a send means otherwise is the topic's setting");
  plan.sync = flags.durability == "sync";
  return {};
}

// Codes of a send that has sent nothing, and may do so when it is tried again.
bool may_succeed_later(ErrorCode code) {
  return code == ErrorCode::would_block || code == ErrorCode::timed_out || code == ErrorCode::no_daemon;
}

class Produce {
 public:
  Produce(const ProduceFlags& flags, const Plan& plan, Producer& producer, bool wait_durable)
      : flags_(flags), plan_(plan), producer_(producer), wait_durable_(wait_durable), started_(Clock::now()) {
    options_.key = flags.key;
    options_.partition = flags.partition;
    options_.tag = flags.tag;
    options_.headers = plan_.header_views;
    options_.delay = plan_.delay;
    options_.deliver_at_ns = plan_.deliver_at_ns;
    options_.expire_after = plan_.expire_after;
  }

  // Each returns when the input has ended, or nothing more can be sent.
  void lines(int fd);
  void whole_file(const std::string& path);
  // The last line on stderr, and the exit code.
  int finish();

 private:
  using Clock = std::chrono::steady_clock;

  // False: stop.
  bool send(std::string_view line);
  bool send_payload(std::string_view payload);
  Result<Receipt> send_patiently(std::string_view payload);
  void keep_to_rate();
  void settle();
  void fail_line(const Error& error);
  void print_receipt(std::uint64_t line, const Receipt& receipt, const char* state);
  std::string progress() const;

  const ProduceFlags& flags_;
  const Plan& plan_;
  Producer& producer_;
  const bool wait_durable_;
  MessageOptions options_;
  struct InFlight {
    std::uint64_t line;
    Receipt receipt;
  };
  std::vector<InFlight> window_;  // receipts that wait for durable; empty without --receipts
  std::size_t in_flight_ = 0;
  std::uint64_t line_ = 0;
  std::uint64_t messages_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t errors_ = 0;
  ExitCode exit_ = kExitDone;  // of the first error
  bool stop_ = false;
  Writer out_{STDOUT_FILENO};
  ProgressLine progress_;
  Clock::time_point started_;
};

void Produce::fail_line(const Error& error) {
  if (exit_ == kExitDone) exit_ = exit_code(error.code());
  ++errors_;
  if (flags_.receipts) {
    Json document;
    if (flags_.file.empty())
      document["line"] = line_;
    else
      document["file"] = flags_.file;
    document["error"] = name(error.code());
    document["message"] = error.message();
    out_.write(document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  }
  if (errors_ > kErrorsShownMax) return;
  progress_.clear();
  const std::string place = flags_.file.empty() ? "line " + std::to_string(line_) : flags_.file;
  const Error placed(error.code(), place + ": " + error.context(), error.system_errno());
  report(kCommand, placed);
  if (errors_ == kErrorsShownMax) report_usage(kCommand, "further errors are counted alone");
}

void Produce::print_receipt(std::uint64_t line, const Receipt& receipt, const char* state) {
  std::string& out = out_.buffer();
  if (flags_.file.empty()) {
    out += "{\"line\":" + std::to_string(line);
  } else {
    out += "{\"file\":";
    append_json_string(out, flags_.file);
  }
  out += ",\"topic\":";
  append_json_string(out, flags_.topic);
  out += ",\"partition\":" + std::to_string(receipt.partition) +
         ",\"position\":" + std::to_string(receipt.position.value) + ",\"end\":" + std::to_string(receipt.end.value) +
         ",\"sequence\":" + std::to_string(receipt.sequence.value) + ",\"state\":\"" + state + "\"}\n";
  out_.written();
}

// Waits until all that is in flight is durable, and prints its receipts.
void Produce::settle() {
  if (wait_durable_ && in_flight_ != 0) {
    const Status flushed = producer_.flush(plan_.timeout);
    const char* state = flushed ? "durable" : "unknown";
    for (const InFlight& sent : window_) print_receipt(sent.line, sent.receipt, state);
    if (!flushed) {
      fail_line(flushed.error());
      stop_ = true;
    }
    window_.clear();
    in_flight_ = 0;
  }
  if (flags_.receipts) out_.flush();
}

// Waits for room, or for the daemon, in slices: each ends without anything sent, and the user may have had enough.
Result<Receipt> Produce::send_patiently(std::string_view payload) {
  Result<Receipt> receipt = producer_.send_async(payload, options_);
  if (receipt || !may_succeed_later(receipt.error().code())) [[likely]]
    return receipt;
  // What stands before it is on its way; its receipts need not wait.
  if (flags_.receipts && !wait_durable_) out_.flush();
  const auto deadline = Clock::now() + plan_.timeout;
  while (Clock::now() < deadline && !interrupt::requested()) {
    receipt = producer_.send_async(payload, options_);
    if (receipt || !may_succeed_later(receipt.error().code())) return receipt;
  }
  const Error& error = receipt.error();
  return fail(error.code(),
              (interrupt::requested() ? "interrupted: " : "given up after the timeout: ") + error.context(),
              error.system_errno());
}

bool Produce::send_payload(std::string_view payload) {
  const auto receipt = send_patiently(payload);
  if (!receipt) {
    fail_line(receipt.error());
    // Too large: the next line may be fine.
    return receipt.error().code() == ErrorCode::too_large;
  }
  ++messages_;
  bytes_ += payload.size();
  if (flags_.receipts && !wait_durable_) print_receipt(line_, *receipt, "committed");
  if (flags_.receipts && wait_durable_) window_.push_back({line_, *receipt});
  if (wait_durable_ && ++in_flight_ >= kWindowMax) settle();
  return !stop_;
}

bool Produce::send(std::string_view line) {
  if (!plan_.key_delimiter) return send_payload(line);
  const auto at = line.find(*plan_.key_delimiter);
  // A line without a delimiter is a message without a key of its own: nothing is lost.
  options_.key = at == line.npos ? std::string_view(flags_.key) : line.substr(0, at);
  return send_payload(at == line.npos ? line : line.substr(at + 1));
}

// The n-th line goes out n / rate seconds after the start.
void Produce::keep_to_rate() {
  if (flags_.rate <= 0) return;
  const auto due = started_ + std::chrono::duration_cast<Clock::duration>(
                                  std::chrono::duration<double>(static_cast<double>(line_ - 1) / flags_.rate));
  if (Clock::now() >= due) return;
  settle();
  while (!interrupt::requested()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(due - Clock::now()).count();
    if (left < 1) return;
    interrupt::sleep_ms(static_cast<int>(std::min<long>(left, 1000)));
  }
}

std::string Produce::progress() const {
  const double seconds = std::chrono::duration<double>(Clock::now() - started_).count();
  const auto rate = static_cast<std::uint64_t>(static_cast<double>(messages_) / seconds);
  return human_count(messages_) + " messages, " + human_size(bytes_) + ", " + human_count(rate) + " a second";
}

void Produce::lines(int fd) {
  const std::size_t line_max = producer_.payload_size_max() + (plan_.key_delimiter ? kKeySizeMax + 1 : 0);
  LineReader reader(fd, line_max, interrupt::descriptor(), [this] { settle(); });
  while (!stop_) {
    const auto event = reader.next();
    ++line_;
    if (!event) {
      fail_line(event.error());
      return;
    }
    if (*event == LineReader::Event::end || *event == LineReader::Event::interrupted) return;
    keep_to_rate();
    if (*event == LineReader::Event::too_large) {
      fail_line(Error(ErrorCode::too_large, "a message of " + std::to_string(reader.size()) + " bytes; topic " +
                                                flags_.topic + " takes " +
                                                std::to_string(producer_.payload_size_max()) + " at most"));
    } else if (!send(reader.text())) {
      return;
    }
    if (interrupt::requested() || out_.broken()) return;
    // A clock read per line would cost as much as sending it.
    if (line_ % 1024 == 0 || flags_.rate > 0) progress_.update([this] { return progress(); });
  }
}

Result<std::string> contents(const std::string& path) {
  const std::string doing = "reading " + path;
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(system_error(errno, doing));
  // A directory opens, and fails here.
  std::string bytes;
  std::vector<char> piece(1024 * 1024);
  do {
    errno = 0;
    in.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    bytes.append(piece.data(), static_cast<std::size_t>(in.gcount()));
  } while (in);
  if (in.bad()) return fail(system_error(errno, doing));
  return bytes;
}

void Produce::whole_file(const std::string& path) {
  line_ = 1;
  const auto bytes = contents(path);
  if (!bytes) {
    fail_line(bytes.error());
  } else {
    send_payload(*bytes);
  }
}

int Produce::finish() {
  if (!stop_) settle();
  out_.flush();
  progress_.clear();
  const std::string summary = std::to_string(messages_) + " messages, " + std::to_string(bytes_) + " bytes, " +
                              std::to_string(errors_) + " errors\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, summary.data(), summary.size());
  return exit_;
}

// True if what is sent must become durable before the command ends.
Result<bool> must_be_durable(Client& client, const ProduceFlags& flags, const Plan& plan) {
  SLUICE_ASSIGN(const TopicInfo topic, client.topic(flags.topic));
  if (plan.sync && topic.config.durability == Durability::volatile_)
    return fail(ErrorCode::invalid, "topic " + flags.topic +
                                        " is volatile: its messages never become durable; leave --durability sync out");
  return plan.sync || topic.config.durability == Durability::sync;
}

int produce(const Context& context, const ProduceFlags& flags) {
  Plan plan;
  if (Status planned = make_plan(flags, plan); !planned) return report_usage(kCommand, planned.error().context());
  auto client = connect_for_long(context, kCommand);
  if (!client) return report(kCommand, client.error());
  const auto wait_durable = must_be_durable(*client, flags, plan);
  if (!wait_durable) return report(kCommand, wait_durable.error());
  ProducerOptions options;
  options.name = flags.producer;
  options.send_timeout = std::min(plan.timeout, kSendSlice);
  auto producer = client->producer(flags.topic, options);
  if (!producer) return report(kCommand, producer.error());
  Produce run(flags, plan, *producer, *wait_durable);
  if (flags.file.empty()) {
    run.lines(STDIN_FILENO);
  } else {
    run.whole_file(flags.file);
  }
  return run.finish();
}

}  // namespace

void add_produce_command(CLI::App& app, Context& context) {
  CLI::App& sub = *app.add_subcommand("produce", "Send each line of stdin as a message");
  const auto flags = std::make_shared<ProduceFlags>();
  sub.add_option("TOPIC", flags->topic)->required();
  CLI::Option* key =
      sub.add_option("--key", flags->key, "Of every message; also chooses the partition")->type_name("K");
  sub.add_option("--key-delimiter", flags->key_delimiter, "What stands before it in a line is the key (\\t for a tab)")
      ->type_name("C")
      ->excludes(key);
  sub.add_option("--partition", flags->partition, "Send to this partition")->type_name("P");
  sub.add_option("--tag", flags->tag, "Of every message; consumers can filter by it")->type_name("T");
  sub.add_option("--header", flags->headers, "Of every message; may be repeated")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  CLI::Option* delay =
      sub.add_option("--delay", flags->delay, "Consumers get it so long after it was sent")->type_name("DUR");
  sub.add_option("--deliver-at", flags->deliver_at, "Consumers get it at this time")
      ->type_name("TIME")
      ->excludes(delay);
  sub.add_option("--expire", flags->expire, "Consumers that come to it later pass over it")->type_name("DUR");
  sub.add_option("--durability", flags->durability, "sync: wait until all is on stable storage")->type_name("sync");
  sub.add_option("--producer", flags->producer, "A name whose sequence numbers continue; fences an older holder")
      ->type_name("NAME");
  sub.add_option("--file", flags->file, "Send the whole of this file as one message")->type_name("PATH");
  sub.add_option("--rate", flags->rate, "Messages a second at most")->type_name("N")->check(CLI::PositiveNumber);
  sub.add_flag("--receipts", flags->receipts, "Print one JSON line per message");
  sub.add_option("--timeout", flags->timeout, "How long a message waits for room, or to become durable (30s)")
      ->type_name("DUR");
  sub.callback([&context, flags] { context.run = [&context, flags] { return produce(context, *flags); }; });
}

}  // namespace sluice::cli
