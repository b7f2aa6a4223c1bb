// sluice topic scrub

#include <memory>
#include <optional>
#include <string>

#include "sdk/cli/command.h"
#include "sdk/cli/interrupt.h"
#include "sdk/cli/message_text.h"

namespace sluice::cli {
namespace {

constexpr int kLookAgainMs = 50;

// Until it has ended. Another run than the one that was started is a later daemon's, or nobody's: it is started anew.
Result<ScrubReport> run(Client& client, const std::string& topic, std::optional<PartitionNumber> partition) {
  SLUICE_ASSIGN(ScrubReport report, client.start_scrub(topic, partition));
  std::uint64_t started = report.run;
  while (report.running) {
    interrupt::sleep_ms(kLookAgainMs);
    if (interrupt::requested())
      return fail(ErrorCode::timed_out, "scrubbing " + topic + ": interrupted; the daemon goes on with it");
    SLUICE_ASSIGN(report, client.scrub(topic));
    if (report.run == started) continue;
    SLUICE_ASSIGN(report, client.start_scrub(topic, partition));
    started = report.run;
  }
  return report;
}

bool is_well(const ScrubReport& report) { return report.damaged_bytes == 0 && report.errors.empty(); }

std::string text_of(const std::string& topic, const ScrubReport& report) {
  std::string out;
  if (!report.damaged.empty()) {
    Table table({"PARTITION", "BEGIN", "END", "BYTES", "REASON"}, {true, true, true, true, false});
    for (const ScrubRange& range : report.damaged)
      table.add({std::to_string(range.partition), std::to_string(range.begin.value), std::to_string(range.end.value),
                 std::to_string(range.end - range.begin), printable(range.reason)});
    out += table.text() + "\n";
  }
  for (const std::string& error : report.errors) out += coloured(1, Colour::red, printable(error)) + "\n";
  const std::string copies = report.copies == 1 ? "one copy" : std::to_string(report.copies) + " copies";
  const std::string what = std::to_string(report.segments) + " segments of " + topic + " (" + human_size(report.bytes) +
                           ") in " + copies + ", " + std::to_string(report.mended_segments) +
                           " mended from a good copy (" + human_size(report.mended_bytes) + " written)\n";
  if (is_well(report)) return out + coloured(1, Colour::green, "whole") + ": " + what;
  return out + coloured(1, Colour::red, "damaged") + ": " + human_size(report.damaged_bytes) +
         " are intact on no copy and not served; " + what;
}

int scrub(const Context& context, const std::string& topic, std::optional<PartitionNumber> partition, bool json) {
  const std::string command = "topic scrub";
  return with_client(context, command, [&](Client& client) -> int {
    const auto scrubbed = [&] {
      const Waiting waiting("scrubbing " + topic);
      return run(client, topic, partition);
    }();
    if (!scrubbed) return report(command, scrubbed.error());
    if (json)
      print_json(to_json(topic, *scrubbed));
    else
      print(text_of(topic, *scrubbed));
    return is_well(*scrubbed) ? kExitDone : kExitCheckFailed;
  });
}

}  // namespace

void add_topic_scrub(CLI::App& group, Context& context) {
  CLI::App& sub =
      *group.add_subcommand("scrub", "Check a topic's log files, and mend what is damaged from another copy");
  struct Flags {
    std::string topic;
    std::optional<PartitionNumber> partition;
    bool json = false;
  };
  const auto flags = std::make_shared<Flags>();
  sub.add_option("NAME", flags->topic)->required();
  sub.add_option("--partition", flags->partition, "This one alone")->type_name("P");
  sub.add_flag("--json", flags->json, "Print one JSON document");
  sub.callback([&context, flags] {
    context.run = [&context, flags] { return scrub(context, flags->topic, flags->partition, flags->json); };
  });
}

}  // namespace sluice::cli
