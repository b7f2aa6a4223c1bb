// sluice consume (its flags, and without a group), sluice msg show
//
// Batches are read in place and printed into one buffer, which is written when it is large and before anything waits:
// what was received is never held back.

#include <fnmatch.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>

#include "sdk/cli/arguments.h"
#include "sdk/cli/command.h"
#include "sdk/cli/consume.h"
#include "sdk/cli/interrupt.h"
#include "sdk/cli/message_text.h"

namespace sluice::cli {
namespace {

constexpr std::size_t kBatchMax = 1024;

std::uint64_t wall_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
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

// Reads until there is a reason to end.
ExitCode read_loop(Reader& reader, const ConsumeFlags& flags, Patience& patience, ConsumeOutput& output) {
  const std::function<void(const Message&)> handler = [&output](const Message& message) { output.print(message); };
  Duration wait{0};
  while (!output.enough() && !interrupt::requested() && !output.broken()) {
    const std::size_t batch =
        flags.count == 0
            ? kBatchMax
            : static_cast<std::size_t>(std::min<std::uint64_t>(kBatchMax, flags.count - output.messages()));
    const auto got = reader.poll(batch, wait, handler);
    const std::optional<ErrorCode> failed = got ? std::nullopt : std::optional(got.error().code());
    if (failed == ErrorCode::no_daemon && patience.wait_for_daemon()) {
      // on_state says so.
      output.flush();
      wait = kConsumeWaitSlice;
      interrupt::sleep_ms(kConsumeAwaySleepMs);
      continue;
    }
    if (failed != ErrorCode::no_daemon) patience.daemon_answers();
    if (failed && failed != ErrorCode::timed_out) return output.report_end(got.error());
    output.show_progress();
    if (got && *got > 0) {
      wait = Duration{0};
      patience.message_came();
      if (flags.exit && reader.at_initial_end()) break;
      continue;
    }
    if (flags.exit && reader.at_initial_end()) break;
    // Nothing is there now: let go of what was received before waiting.
    output.flush();
    if (patience.timed_out())
      return output.report_end(Error(ErrorCode::timed_out, "no message came for " + flags.timeout));
    wait = patience.slice();
  }
  return kExitDone;
}

int consume_all(Client& client, const ConsumeFlags& flags, const ConsumeSettings& settings,
                const std::vector<std::string>& topics) {
  ConsumeOutput output(flags, settings.format);
  ReaderOptions options;
  options.from = settings.from;
  options.partitions = flags.partitions;
  options.tag = flags.tag;
  options.on_loss = [&output](const LossEvent& event) { output.on_loss(event); };
  auto reader = client.reader(topics, std::move(options));
  if (!reader) return report("consume", reader.error());
  Patience patience(flags, settings.timeout);
  return output.finish(read_loop(*reader, flags, patience, output));
}

// A POSITION alone is clear only where there is one partition.
Status check_from(Client& client, const FromArgument& from, const std::vector<std::string>& topics) {
  if (from.from.kind != From::Kind::position) return {};
  if (topics.size() != 1 || is_pattern(topics.front()))
    return fail(ErrorCode::invalid, "--from with a position needs a single topic");
  if (from.partition_given) return {};
  SLUICE_ASSIGN(const TopicInfo topic, client.topic(topics.front()));
  if (topic.config.partitions == 1) return {};
  return fail(ErrorCode::invalid, "topic " + topics.front() + " has " + std::to_string(topic.config.partitions) +
                                      " partitions: write --from PARTITION@POSITION");
}

int consume(const Context& context, const ConsumeFlags& flags) {
  ConsumeSettings settings;
  // What has an end starts at the beginning; what goes on starts with what comes.
  const std::string from_text = !flags.from.empty() ? flags.from : flags.exit ? "earliest" : "latest";
  const auto from = from_argument(from_text, wall_ns());
  if (!from) return report_usage("consume", "--from: " + from.error().context());
  settings.from = from->from;
  if (!flags.format.empty()) {
    auto parsed = Format::parse(flags.format);
    if (!parsed) return report_usage("consume", parsed.error().context());
    settings.format = std::move(*parsed);
  }
  if (!flags.mode.empty()) {
    if (const auto mode = group_mode_argument(flags.mode); !mode)
      return report_usage("consume", "--mode: " + mode.error().context());
  }
  if (!flags.timeout.empty()) {
    const auto ns = duration_argument(flags.timeout);
    if (!ns) return report_usage("consume", "--timeout: " + ns.error().context());
    settings.timeout = Duration(static_cast<Duration::rep>(*ns));
  }
  auto client = connect_for_long(context, "consume");
  if (!client) return report("consume", client.error());
  // A group's patterns are the daemon's to match: topics that are made later belong to it too.
  const auto topics = flags.group.empty() ? expand(*client, flags.topics) : flags.topics;
  if (!topics) return report("consume", topics.error());
  if (Status clear = check_from(*client, *from, *topics); !clear) return report("consume", clear.error());
  if (!flags.group.empty()) return consume_in_group(*client, flags, settings);
  return consume_all(*client, flags, settings, *topics);
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

// A script's variable that is not set would read everything and ack nothing.
std::string not_empty(const std::string& text) { return text.empty() ? "the name is empty" : ""; }

}  // namespace

void add_consume_command(CLI::App& app, Context& context) {
  CLI::App& sub = *app.add_subcommand("consume", "Print messages; as a member of a group, or all of them");
  const auto flags = std::make_shared<ConsumeFlags>();
  sub.add_option("TOPIC", flags->topics,
                 "Names, or patterns like 'orders.*' (without --group: of the topics there are now)")
      ->required();
  sub.add_option("--from", flags->from,
                 "Where to start; of a group: where it has no cursor (latest; with --exit: earliest)")
      ->type_name("earliest|latest|POSITION|PARTITION@POSITION|TIME");
  CLI::Option* partition =
      sub.add_option("--partition", flags->partitions, "Read this partition; may be repeated (all)")
          ->type_name("P")
          ->allow_extra_args(false);
  CLI::Option* group =
      sub.add_option("--group", flags->group, "Share the messages with the group's other members, and ack them")
          ->type_name("G")
          ->check(not_empty)
          ->excludes(partition);
  sub.add_option("--mode", flags->mode, "Of a group that is made now (ordered)")
      ->type_name("ordered|shared")
      ->needs(group);
  sub.add_flag("--no-ack", flags->no_ack, "Ack nothing: the messages come again")->needs(group);
  sub.add_option("--count", flags->count, "End after so many messages")->type_name("N")->check(CLI::PositiveNumber);
  sub.add_flag("--exit", flags->exit, "End at the end that stood at the start; of a group: once it is settled");
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
