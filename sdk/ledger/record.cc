// A row per message, and one per id of the application.
#include <span>
#include <string>
#include <utility>
#include <variant>

#include "sdk/ledger/core.h"

namespace sluice::ledger {
namespace {

// Of a row with one column, which may be NULL.
std::optional<std::string> text_in(const Answer& answer) {
  if (answer.rows.empty() || answer.rows.front().empty()) return std::nullopt;
  const std::string* text = std::get_if<std::string>(&answer.rows.front().front());
  return text != nullptr ? std::optional(*text) : std::nullopt;
}

// One call's connection, statements and key.
class Recording {
 public:
  static Result<Recording> begin(Connection& connection, const Statements& sql, const char* verb,
                                 const MessageKey& key) {
    std::string doing = verb + (" " + describe(key)) + " in the ledger";
    if (Status ready = connection.require_transaction(); !ready) return fail(explain(doing, ready.error()));
    SLUICE_ASSIGN(const KeyColumns columns, columns_of(doing, key));
    return Recording(connection, sql, std::move(doing), columns);
  }
  const std::string& doing() const { return doing_; }

  // A later statement sees what was committed before it, which the insert itself may not: so the horizon is looked at
  // last.
  Result<bool> insert() {
    SLUICE_ASSIGN(const Answer inserted, run_with_key(sql_.insert_message));
    if (inserted.changed == 0) return false;
    SLUICE_ASSIGN(const bool late, settled());
    if (!late) return true;
    SLUICE_TRY(run_with_key(sql_.delete_message));
    return false;
  }
  Result<bool> insert_id(const ApplicationId& id) {
    SLUICE_ASSIGN(const std::int64_t time, as_signed(doing_, "time", id.time_ns));
    SLUICE_ASSIGN(const Answer inserted,
                  run(connection_, doing_, sql_.insert_id,
                      {key_.group, key_.epoch, id.id, time, key_.topic, key_.partition, key_.position}));
    return inserted.changed != 0;
  }
  Result<bool> settled() {
    SLUICE_ASSIGN(const Answer horizons, run_with_key(sql_.select_settled));
    return !horizons.rows.empty();
  }
  // What is kept of the message; its row may be gone by now.
  Result<Record> repeat() {
    SLUICE_ASSIGN(const Answer row, run_with_key(sql_.select_message));
    return Record{Outcome::repeat, text_in(row)};
  }
  Result<Record> repeat_of(const ApplicationId& id) {
    SLUICE_ASSIGN(Record own, repeat());
    if (own.result) return own;
    SLUICE_ASSIGN(const Answer row, run(connection_, doing_, sql_.select_id, {key_.group, key_.epoch, id.id}));
    return Record{Outcome::repeat, text_in(row)};
  }
  Result<std::optional<Record>> find() {
    SLUICE_ASSIGN(const Answer row, run_with_key(sql_.select_message));
    if (!row.rows.empty()) return std::optional(Record{Outcome::repeat, text_in(row)});
    SLUICE_ASSIGN(const bool late, settled());
    return late ? std::optional(Record{Outcome::repeat, std::nullopt}) : std::nullopt;
  }
  Result<bool> keep(std::string_view result) {
    SLUICE_ASSIGN(const Answer updated, run(connection_, doing_, sql_.update_result,
                                            {std::as_bytes(std::span(result)), key_.group, key_.topic, key_.partition,
                                             key_.position, key_.epoch}));
    return updated.changed != 0;
  }

 private:
  Recording(Connection& connection, const Statements& sql, std::string doing, const KeyColumns& key)
      : connection_(connection), sql_(sql), doing_(std::move(doing)), key_(key) {}
  Result<Answer> run_with_key(const std::string& statement) {
    return run(connection_, doing_, statement, {key_.group, key_.topic, key_.partition, key_.position, key_.epoch});
  }

  Connection& connection_;
  const Statements& sql_;
  std::string doing_;
  KeyColumns key_;
};

}  // namespace

Result<Record> Ledger::record(const MessageKey& key) {
  SLUICE_ASSIGN(Recording recording, Recording::begin(impl_->connection, impl_->sql, "recording", key));
  SLUICE_ASSIGN(const bool first, recording.insert());
  if (first) return Record{};
  return recording.repeat();
}

Result<Record> Ledger::record(const MessageKey& key, const ApplicationId& id) {
  SLUICE_ASSIGN(Recording recording, Recording::begin(impl_->connection, impl_->sql, "recording", key));
  SLUICE_TRY(check_text(recording.doing(), "application's id", id.id, kIdSizeMax));
  SLUICE_ASSIGN(const bool first, recording.insert());
  if (first) {
    SLUICE_ASSIGN(const bool new_id, recording.insert_id(id));
    if (new_id) return Record{};
  }
  return recording.repeat_of(id);
}

Status Ledger::keep_result(const MessageKey& key, std::string_view result) {
  SLUICE_ASSIGN(Recording recording, Recording::begin(impl_->connection, impl_->sql, "keeping the result of", key));
  if (result.size() > kResultSizeMax)
    return fail(ErrorCode::too_large, recording.doing() + ": it has " + std::to_string(result.size()) +
                                          " bytes, at most " + std::to_string(kResultSizeMax) + " are kept");
  SLUICE_ASSIGN(const bool kept, recording.keep(result));
  if (!kept) return fail(ErrorCode::not_found, recording.doing() + ": it was not recorded: record() comes first");
  return {};
}

Result<std::optional<Record>> Ledger::check(const MessageKey& key) {
  SLUICE_ASSIGN(Recording recording, Recording::begin(impl_->connection, impl_->sql, "looking for", key));
  return recording.find();
}

}  // namespace sluice::ledger
