#include "sdk/ledger/core.h"

#include <limits>
#include <span>
#include <utility>
#include <variant>

namespace sluice::ledger {

Connection::~Connection() = default;

Error explain(const std::string& doing, const Error& error) {
  return Error(error.code(), doing + ": " + error.context(), error.system_errno());
}

Result<Answer> run(Connection& connection, const std::string& doing, const std::string& sql,
                   std::initializer_list<Parameter> parameters) {
  auto answer = connection.run(sql, std::span(parameters.begin(), parameters.size()));
  if (!answer) return fail(explain(doing, answer.error()));
  return answer;
}

Result<std::uint64_t> number(const std::string& doing, const Answer& answer, std::size_t row, std::size_t column) {
  const bool there = row < answer.rows.size() && column < answer.rows[row].size();
  const std::int64_t* value = there ? std::get_if<std::int64_t>(&answer.rows[row][column]) : nullptr;
  if (value == nullptr || *value < 0)
    return fail(ErrorCode::corrupt, doing + ": there is something else than a number in the row; look at the table");
  return static_cast<std::uint64_t>(*value);
}

Result<std::int64_t> as_signed(const std::string& doing, std::string_view what, std::uint64_t value) {
  if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return fail(ErrorCode::invalid, doing + ": " + std::string(what) + " " + std::to_string(value) +
                                        " is beyond what databases keep (2^63 - 1): it cannot be right");
  return static_cast<std::int64_t>(value);
}

Status check_text(const std::string& doing, std::string_view what, std::string_view text, std::size_t size_max) {
  if (text.empty() || text.find('\0') != std::string_view::npos)
    return fail(ErrorCode::invalid, doing + ": the " + std::string(what) +
                                        " is empty or has a zero byte, which no database keeps in a text");
  if (text.size() > size_max)
    return fail(ErrorCode::too_large, doing + ": the " + std::string(what) + " has " + std::to_string(text.size()) +
                                          " bytes, at most " + std::to_string(size_max) + " are taken");
  return {};
}

Result<KeyColumns> columns_of(const std::string& doing, const MessageKey& key) {
  SLUICE_TRY(check_text(doing, "group", key.group, kGroupSizeMax));
  KeyColumns columns;
  columns.group = key.group;
  columns.topic = key.topic.value;
  columns.partition = key.partition;
  SLUICE_ASSIGN(columns.position, as_signed(doing, "position", key.position.value));
  SLUICE_ASSIGN(columns.epoch, as_signed(doing, "epoch", key.epoch));
  return columns;
}

std::string describe(const MessageKey& key) {
  return "message " + std::to_string(key.topic.value) + "/" + std::to_string(key.partition) + "@" +
         std::to_string(key.position.value) + " of group " + key.group + " (epoch " + std::to_string(key.epoch) + ")";
}

}  // namespace sluice::ledger
