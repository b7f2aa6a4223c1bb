// sluice consume (without a group), sluice msg show
//
// Batches are read in place and printed into one buffer, which is written when it is large and before anything waits:
// what was received is never held back.

#include <fnmatch.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>

#include "sdk/cli/arguments.h"
#include "sdk/cli/command.h"
#include "sdk/cli/interrupt.h"
#include "sdk/cli/message_text.h"

namespace sluice::cli {
namespace {

constexpr std::size_t kBatchMax = 1024;
// How long a wait goes on without looking whether the user wants to end.
constexpr auto kWaitSlice = std::chrono::milliseconds(100);
// How long --exit and --count wait for a daemon that has gone.
constexpr auto kAwayMax = std::chrono::seconds(30);
constexpr int kAwaySleepMs = 50;
constexpr std::uint64_t kLossesShownMax = 10;

struct ConsumeFlags {
  std::vector<std::string> topics;
  std::vector<std::uint32_t> partitions;
  std::string from, tag, format, timeout;
  std::uint64_t count = 0;
  bool exit = false;
  bool json = false;
  bool payload = false;  // msg show
};

std::uint64_t wall_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
}

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

// The topics that names and patterns mean now.
Result<std::vector<std::string>> expand(Client& client, const std::vector<std::string>& wanted) {
  std::vector<std::string> out;
  const auto add = [&out](const std::string& name) {
    if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
  };
  for (const std::string& text : wanted) {
    if (!is_pattern(text)) {
      add(text);
      continue;
    }
    SLUICE_ASSIGN(const std::vector<TopicInfo> topics, client.topics());
    const auto before = out.size();
    for (const TopicInfo& topic : topics)
      if (::fnmatch(text.c_str(), topic.config.name.c_str(), 0) == 0) add(topic.config.name);
    if (out.size() == before)
      return fail(ErrorCode::not_found, "no topic matches \"" + text + "\"; see sluice topic list");
  }
  return out;
}

class Consume {
 public:
  Consume(const ConsumeFlags& flags, std::optional<Format> format, std::optional<Duration> timeout)
      : flags_(flags), format_(std::move(format)), timeout_(timeout), started_(Clock::now()) {}

  int run(Client& client, const std::vector<std::string>& topics, ReaderOptions options);

 private:
  using Clock = std::chrono::steady_clock;

  void handle(const Message& message);
  void on_loss(const LossEvent& event);
  // Reads until there is a reason to end.
  ExitCode loop(Reader& reader);
  bool may_wait_for_daemon(Clock::time_point last_message, Clock::time_point away_since) const;
  bool enough() const { return flags_.count != 0 && messages_ >= flags_.count; }
  int finish(ExitCode exit);
  std::string progress() const;

  const ConsumeFlags& flags_;
  const std::optional<Format> format_;
  const std::optional<Duration> timeout_;
  MessageFields fields_;
  Writer out_{STDOUT_FILENO};
  ProgressLine progress_;
  std::uint64_t messages_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t losses_ = 0;
  std::uint64_t corrupt_ = 0;
  Clock::time_point started_;
};

void Consume::handle(const Message& message) {
  std::string& out = out_.buffer();
  if (flags_.json || format_) {
    read_fields(message, fields_);
    flags_.json ? append_json(out, fields_) : format_->append(out, fields_);
  } else {
    out += message.text();
    out += '\n';
  }
  out_.written();
  ++messages_;
  bytes_ += message.payload().size();
}

void Consume::on_loss(const LossEvent& event) {
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

// A consumer that follows waits for as long as it takes; one that is to end has an end.
bool Consume::may_wait_for_daemon(Clock::time_point last_message, Clock::time_point away_since) const {
  const auto now = Clock::now();
  if (timeout_) return now - last_message < *timeout_;
  return (!flags_.exit && flags_.count == 0) || now - away_since < kAwayMax;
}

std::string Consume::progress() const {
  const double seconds = std::chrono::duration<double>(Clock::now() - started_).count();
  const auto rate = static_cast<std::uint64_t>(static_cast<double>(messages_) / seconds);
  return human_count(messages_) + " messages, " + human_size(bytes_) + ", " + human_count(rate) + " a second";
}

ExitCode Consume::loop(Reader& reader) {
  const std::function<void(const Message&)> handler = [this](const Message& message) { handle(message); };
  // Data on the same terminal is progress enough.
  const bool show_progress = ::isatty(STDOUT_FILENO) == 0;
  Duration wait{0};
  auto last_message = Clock::now();
  std::optional<Clock::time_point> away_since;
  while (!enough() && !interrupt::requested() && !out_.broken()) {
    const std::size_t batch =
        flags_.count == 0 ? kBatchMax
                          : static_cast<std::size_t>(std::min<std::uint64_t>(kBatchMax, flags_.count - messages_));
    const auto got = reader.poll(batch, wait, handler);
    const std::optional<ErrorCode> failed = got ? std::nullopt : std::optional(got.error().code());
    if (failed != ErrorCode::no_daemon) away_since.reset();
    if (failed == ErrorCode::no_daemon && !away_since) away_since = Clock::now();
    if (away_since && may_wait_for_daemon(last_message, *away_since)) {
      // The SDK connects again by itself; on_state says so.
      out_.flush();
      wait = kWaitSlice;
      interrupt::sleep_ms(kAwaySleepMs);
      continue;
    }
    if (failed && failed != ErrorCode::timed_out) {
      out_.flush();
      progress_.clear();
      return report("consume", got.error());
    }
    if (show_progress) progress_.update([this] { return progress(); });
    if (got && *got > 0) {
      wait = Duration{0};
      last_message = Clock::now();
      if (flags_.exit && reader.at_initial_end()) break;
      continue;
    }
    if (flags_.exit && reader.at_initial_end()) break;
    // Nothing is there now: let go of what was received before waiting.
    out_.flush();
    wait = kWaitSlice;
    if (timeout_ && Clock::now() - last_message >= *timeout_) {
      progress_.clear();
      return report("consume", Error(ErrorCode::timed_out, "no message came for " + flags_.timeout));
    }
    if (timeout_) wait = std::min<Duration>(wait, *timeout_);
  }
  return kExitDone;
}

int Consume::finish(ExitCode exit) {
  out_.flush();
  progress_.clear();
  const int broken = out_.broken_errno();
  if (broken != 0 && broken != EPIPE && broken != EINTR) {
    report("consume", system_error(broken, "writing to stdout"));
    return kExitIo;
  }
  std::string summary = std::to_string(messages_) + " messages, " + std::to_string(bytes_) + " bytes";
  if (losses_ != 0) summary += ", " + std::to_string(losses_) + " gaps, repeats or damaged records";
  summary += "\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, summary.data(), summary.size());
  return exit == kExitDone && corrupt_ != 0 ? kExitIo : exit;
}

int Consume::run(Client& client, const std::vector<std::string>& topics, ReaderOptions options) {
  options.on_loss = [this](const LossEvent& event) { on_loss(event); };
  auto reader = client.reader(topics, std::move(options));
  if (!reader) return report("consume", reader.error());
  return finish(loop(*reader));
}

// A POSITION alone is clear only where there is one partition.
Status check_from(Client& client, const FromArgument& from, const std::vector<std::string>& topics) {
  if (from.from.kind != From::Kind::position) return {};
  if (topics.size() != 1)
    return fail(ErrorCode::invalid,
                "--from with a position needs a single topic, not " + std::to_string(topics.size()));
  if (from.partition_given) return {};
  SLUICE_ASSIGN(const TopicInfo topic, client.topic(topics.front()));
  if (topic.config.partitions == 1) return {};
  return fail(ErrorCode::invalid, "topic " + topics.front() + " has " + std::to_string(topic.config.partitions) +
                                      " partitions: write --from PARTITION@POSITION");
}

int consume(const Context& context, const ConsumeFlags& flags) {
  ReaderOptions options;
  // What has an end starts at the beginning; what goes on starts with what comes.
  const std::string from_text = !flags.from.empty() ? flags.from : flags.exit ? "earliest" : "latest";
  const auto from = from_argument(from_text, wall_ns());
  if (!from) return report_usage("consume", "--from: " + from.error().context());
  std::optional<Format> format;
  if (!flags.format.empty()) {
    auto parsed = Format::parse(flags.format);
    if (!parsed) return report_usage("consume", parsed.error().context());
    format = std::move(*parsed);
  }
  std::optional<Duration> timeout;
  if (!flags.timeout.empty()) {
    const auto ns = duration_argument(flags.timeout);
    if (!ns) return report_usage("consume", "--timeout: " + ns.error().context());
    timeout = Duration(static_cast<Duration::rep>(*ns));
  }
  auto client = connect_for_long(context, "consume");
  if (!client) return report("consume", client.error());
  const auto topics = expand(*client, flags.topics);
  if (!topics) return report("consume", topics.error());
  if (Status clear = check_from(*client, *from, *topics); !clear) return report("consume", clear.error());
  options.from = from->from;
  options.partitions = flags.partitions;
  options.tag = flags.tag;
  Consume run(flags, std::move(format), timeout);
  return run.run(*client, *topics, std::move(options));
}

// ---- msg show ----

std::string message_text(const MessageFields& m) {
  std::string out;
  const auto line = [&out](std::string_view name, const std::string& value) {
    out += std::string(name) + std::string(10 - name.size(), ' ') + value + "\n";
  };
  line("address", std::string(m.topic) + "/" + std::to_string(m.partition) + "@" + std::to_string(m.position.value));
  line("producer", std::to_string(m.producer.value));
  line("sequence", std::to_string(m.sequence.value));
  line("time", m.time_ns == 0 ? "none" : rfc3339(m.time_ns));
  if (!m.key.empty()) line("key", printable(m.key));
  if (!m.tag.empty()) line("tag", printable(m.tag));
  for (const auto& [name, value] : m.headers) line("header", printable(name) + "=" + printable(value));
  line("payload", std::to_string(m.payload.size()) + " bytes");
  return out + "\n" + (::isatty(STDOUT_FILENO) == 1 ? printable(m.payload) : std::string(m.payload)) + "\n";
}

Result<Message> find_message(Client& client, const AddressArgument& address) {
  ReaderOptions options;
  options.from = From::position(address.partition, address.position);
  options.partitions = {address.partition};
  SLUICE_ASSIGN(Reader reader, client.reader({address.topic}, std::move(options)));
  Result<Message> message = reader.next(std::chrono::seconds(1));
  if (!message && message.error().code() == ErrorCode::timed_out)
    return fail(ErrorCode::not_found, "no message at or after position " + std::to_string(address.position.value) +
                                          " in " + address.topic + "/" + std::to_string(address.partition));
  return message;
}

int show(const Context& context, const std::string& text, const ConsumeFlags& flags) {
  const std::string command = "msg show";
  const auto address = address_argument(text);
  if (!address) return report_usage(command, address.error().context());
  return with_client(context, command, [&](Client& client) -> int {
    const auto message = find_message(client, *address);
    if (!message) return report(command, message.error());
    if (message->position() != address->position)
      report_usage(command, "no message begins at " + text + "; the next one is at " + message->address().to_string());
    MessageFields fields;
    read_fields(*message, fields);
    std::string json;
    if (flags.json) append_json(json, fields);
    print(flags.json      ? std::string_view(json)
          : flags.payload ? fields.payload
                          : std::string_view(message_text(fields)));
    return kExitDone;
  });
}

}  // namespace

void add_consume_command(CLI::App& app, Context& context) {
  CLI::App& sub = *app.add_subcommand("consume", "Print messages; moves no cursor");
  const auto flags = std::make_shared<ConsumeFlags>();
  sub.add_option("TOPIC", flags->topics, "Names, or patterns like 'orders.*' (of the topics there are now)")
      ->required();
  sub.add_option("--from", flags->from, "Where to start (latest; with --exit: earliest)")
      ->type_name("earliest|latest|POSITION|PARTITION@POSITION|TIME");
  sub.add_option("--partition", flags->partitions, "Read this partition; may be repeated (all)")
      ->type_name("P")
      ->allow_extra_args(false);
  sub.add_option("--count", flags->count, "End after so many messages")->type_name("N")->check(CLI::PositiveNumber);
  sub.add_flag("--exit", flags->exit, "End at the end that stood at the start");
  sub.add_option("--tag", flags->tag, "Messages with this tag alone")->type_name("T");
  CLI::Option* format =
      sub.add_option("--format", flags->format,
                     "%t topic %p partition %o position %k key %s payload %T time %h headers %% \\n \\t")
          ->type_name("FMT");
  sub.add_flag("--json", flags->json, "One JSON object a line")->excludes(format);
  sub.add_option("--timeout", flags->timeout, "End with 6 if no message comes for so long")->type_name("DUR");
  sub.callback([&context, flags] { context.run = [&context, flags] { return consume(context, *flags); }; });
}

void add_message_command(CLI::App& app, Context& context) {
  CLI::App& group = *app.add_subcommand("msg", "Single messages");
  group.require_subcommand(1);
  group.fallthrough();
  CLI::App& sub = *group.add_subcommand("show", "One message and all that is known of it");
  const auto flags = std::make_shared<ConsumeFlags>();
  const auto address = std::make_shared<std::string>();
  sub.add_option("ADDRESS", *address, "TOPIC/PARTITION@POSITION; snaps to the next record")->required();
  CLI::Option* payload = sub.add_flag("--payload", flags->payload, "The payload's bytes alone, exactly");
  sub.add_flag("--json", flags->json, "One JSON document")->excludes(payload);
  sub.callback([&context, flags, address] {
    context.run = [&context, flags, address] { return show(context, *address, *flags); };
  });
}

}  // namespace sluice::cli
