// sluice audit TOPIC

#include <algorithm>
#include <memory>
#include <set>

#include "sdk/cli/command.h"

namespace sluice::cli {
namespace {

struct Column {
  const char* header;
  std::uint64_t AuditRow::*count;
};
constexpr Column kColumns[] = {
    {"DATA", &AuditRow::data},
    {"COMMITTED HALVES", &AuditRow::committed_halves},
    {"ROLLED BACK", &AuditRow::rolled_back},
    {"OPEN", &AuditRow::open},
    {"DELAYED", &AuditRow::delayed},
    {"ABORTED", &AuditRow::aborted},
    {"FENCED", &AuditRow::fenced},
    {"DROPPED", &AuditRow::dropped},
    {"EXPIRED", &AuditRow::expired},
    {"CUT", &AuditRow::cut},
    {"QUARANTINED", &AuditRow::quarantined},
    {"GAPS", &AuditRow::gaps},
    {"REPEATS", &AuditRow::repeats},
};

// Producer 0 stands for those that ended long ago.
std::string name_of(const AuditRow& row) {
  if (row.producer.value == 0) return "(ended)";
  return row.name.empty() ? "-" : printable(row.name);
}

// Columns that are zero in every row say nothing and are left out, but for DATA.
std::string table_text(const AuditReport& report) {
  std::vector<std::string> header = {"PARTITION", "PRODUCER", "NAME", "FIRST", "LAST"};
  std::vector<bool> right = {true, true, false, true, true};
  std::vector<Column> shown;
  for (const Column& column : kColumns) {
    const bool used = std::any_of(report.rows.begin(), report.rows.end(),
                                  [&](const AuditRow& row) { return row.*column.count != 0; });
    if (!used && column.count != &AuditRow::data) continue;
    shown.push_back(column);
    header.emplace_back(column.header);
    right.push_back(true);
  }
  header.emplace_back("");
  Table table(std::move(header), std::move(right));
  for (const AuditRow& row : report.rows) {
    std::vector<std::string> cells = {std::to_string(row.partition), std::to_string(row.producer.value), name_of(row),
                                      std::to_string(row.sequence_first.value),
                                      std::to_string(row.sequence_last.value)};
    for (const Column& column : shown) cells.push_back(std::to_string(row.*column.count));
    cells.push_back(row_holds(row) ? "" : coloured(1, Colour::red, "<-"));
    table.add(std::move(cells));
  }
  return table.text();
}

std::string verdict(const std::string& topic, const AuditReport& report) {
  std::uint64_t messages = 0;
  std::uint64_t wrong = 0;
  std::set<ProducerId> producers;
  for (const AuditRow& row : report.rows) {
    messages += row.data + row.delayed;
    wrong += row_holds(row) ? 0 : 1;
    producers.insert(row.producer);
  }
  const bool folded = producers.erase(ProducerId(0)) != 0;
  const std::string what = human_count(messages) + " messages of " + std::to_string(producers.size()) + " producers" +
                           (folded ? " and others that ended long ago" : "") + " in " + topic;
  if (report.holds)
    return coloured(1, Colour::green, "holds") + ": every sequence number is accounted for, " + what + "\n";
  return coloured(1, Colour::red, "does not hold") + ": " + std::to_string(wrong) + " of " +
         std::to_string(report.rows.size()) + " rows have gaps, repeats, or cut or quarantined messages, " + what +
         "\n";
}

int audit(const Context& context, const std::string& topic, bool json) {
  const std::string command = "audit";
  return with_client(context, command, [&](Client& client) -> int {
    const auto report_or_error = [&] {
      const Waiting waiting("auditing " + topic);
      return client.audit(topic);
    }();
    if (!report_or_error) return report(command, report_or_error.error());
    if (json) {
      print_json(to_json(topic, *report_or_error));
    } else {
      print((report_or_error->rows.empty() ? "" : table_text(*report_or_error) + "\n") +
            verdict(topic, *report_or_error));
    }
    return report_or_error->holds ? kExitDone : kExitCheckFailed;
  });
}

}  // namespace

void add_audit_command(CLI::App& app, Context& context) {
  CLI::App& sub = *app.add_subcommand("audit", "Prove for each producer what became of all it sent");
  struct Flags {
    std::string topic;
    bool json = false;
  };
  const auto flags = std::make_shared<Flags>();
  sub.add_option("TOPIC", flags->topic)->required();
  sub.add_flag("--json", flags->json, "Print one JSON document");
  sub.callback(
      [&context, flags] { context.run = [&context, flags] { return audit(context, flags->topic, flags->json); }; });
}

}  // namespace sluice::cli
