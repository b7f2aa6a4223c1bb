#include "daemon/store/sqlite_transactions.h"

#include <string>
#include <string_view>

namespace sluice::store {
namespace {

template <typename Number>
Number narrow(std::uint64_t value) {
  return static_cast<Number>(value);
}

}  // namespace

Result<core::HalfSnapshot> read_halves(Database& database, TopicId topic, PartitionNumber partition) {
  core::HalfSnapshot snapshot;
  SLUICE_ASSIGN(Statement * state,
                database.statement("SELECT decided FROM half_states WHERE topic = ? AND partition = ?"));
  SLUICE_ASSIGN(const bool found, state->bind(topic.value, partition).step());
  if (!found) return snapshot;
  snapshot.decided = state->number(0);
  state->reset();
  SLUICE_ASSIGN(Statement * rows,
                database.statement("SELECT position, txn, producer, check_back, time_ns, producer_group FROM halves "
                                   "WHERE topic = ? AND partition = ? ORDER BY position"));
  rows->bind(topic.value, partition);
  for (;;) {
    SLUICE_ASSIGN(const bool row, rows->step());
    if (!row) return snapshot;
    if (rows->number(2) > UINT32_MAX || rows->number(3) > 1)
      return fail(database.damaged("an open half of topic " + std::to_string(topic.value)));
    snapshot.added.push_back({Position(rows->number(0)), TransactionId(rows->number(1)),
                              ProducerId(narrow<std::uint32_t>(rows->number(2))), rows->number(3) != 0, rows->number(4),
                              rows->text(5)});
  }
}

Status save_halves(Database& database, TopicId topic, PartitionNumber partition, const core::HalfSnapshot& halves) {
  for (const Position position : halves.ended) {
    SLUICE_TRY(database.run("DELETE FROM halves WHERE topic = ? AND partition = ? AND position = ?", topic.value,
                            partition, position.value));
    SLUICE_TRY(database.run("DELETE FROM decision_halves WHERE topic = ? AND partition = ? AND position = ?",
                            topic.value, partition, position.value));
  }
  for (const core::Half& half : halves.added)
    SLUICE_TRY(database.run("INSERT OR REPLACE INTO halves VALUES (?,?,?,?,?,?,?,?)", topic.value, partition,
                            half.position.value, half.transaction.value, half.producer.value,
                            std::uint64_t{half.check_back}, half.time_ns, std::string_view(half.group)));
  return database.run("INSERT OR REPLACE INTO half_states VALUES (?,?,?)", topic.value, partition, halves.decided);
}

Status write_decision(Database& database, Decision& decision) {
  SLUICE_ASSIGN(const std::optional<Decision> before, read_decision(database, decision.transaction));
  if (before)
    return fail(ErrorCode::exists,
                "saving the decision on transaction " + std::to_string(decision.transaction.value) + ": it has one");
  SLUICE_TRY(database.run("INSERT INTO decisions (txn, is_commit, decided_ns, decided_by) VALUES (?,?,?,?)",
                          decision.transaction.value, std::uint64_t{decision.commit}, decision.decided_ns,
                          std::string_view(decision.by)));
  SLUICE_ASSIGN(Statement * last, database.statement("SELECT last_insert_rowid()"));
  SLUICE_ASSIGN(const bool found, last->step());
  if (!found) return fail(database.damaged("no order was given to a decision"));
  decision.order = last->number(0);
  last->reset();
  for (const HalfPlace& half : decision.halves)
    SLUICE_TRY(
        database.run("INSERT OR REPLACE INTO decision_halves SELECT ?,?,?,? "
                     "WHERE EXISTS (SELECT 1 FROM topics WHERE id = ?)",
                     half.topic.value, half.partition, half.position.value, decision.order, half.topic.value));
  return database.run("DELETE FROM transaction_notes WHERE txn = ?", decision.transaction.value);
}

Result<std::optional<Decision>> read_decision(Database& database, TransactionId transaction) {
  SLUICE_ASSIGN(Statement * row,
                database.statement("SELECT place, is_commit, decided_ns, decided_by FROM decisions WHERE txn = ?"));
  SLUICE_ASSIGN(const bool found, row->bind(transaction.value).step());
  if (!found) return std::optional<Decision>();
  Decision decision{transaction, row->number(1) != 0, row->number(0), row->number(2), row->text(3), {}};
  row->reset();
  SLUICE_ASSIGN(Statement * halves, database.statement("SELECT topic, partition, position FROM decision_halves "
                                                       "WHERE place = ? ORDER BY topic, partition, position"));
  halves->bind(decision.order);
  for (;;) {
    SLUICE_ASSIGN(const bool half, halves->step());
    if (!half) return std::optional(std::move(decision));
    decision.halves.push_back({TopicId(narrow<std::uint32_t>(halves->number(0))),
                               narrow<PartitionNumber>(halves->number(1)), Position(halves->number(2))});
  }
}

Result<std::vector<DecidedHalf>> read_decided_halves(Database& database, TopicId topic, PartitionNumber partition) {
  std::vector<DecidedHalf> all;
  SLUICE_ASSIGN(Statement * rows,
                database.statement("SELECT d.place, h.position, d.is_commit FROM decision_halves h JOIN decisions d "
                                   "ON d.place = h.place WHERE h.topic = ? AND h.partition = ? "
                                   "ORDER BY d.place, h.position"));
  rows->bind(topic.value, partition);
  for (;;) {
    SLUICE_ASSIGN(const bool row, rows->step());
    if (!row) return all;
    all.push_back({rows->number(0), Position(rows->number(1)), rows->number(2) != 0});
  }
}

Result<TransactionNotes> read_transaction_notes(Database& database) {
  TransactionNotes all;
  SLUICE_ASSIGN(Statement * rows,
                database.statement("SELECT txn, unknowns, parked_ns FROM transaction_notes ORDER BY txn"));
  for (;;) {
    SLUICE_ASSIGN(const bool row, rows->step());
    if (!row) break;
    if (rows->number(1) > UINT32_MAX) return fail(database.damaged("the checks of a transaction"));
    all.transactions.push_back(
        {TransactionId(rows->number(0)), narrow<std::uint32_t>(rows->number(1)), rows->number(2)});
  }
  SLUICE_ASSIGN(Statement * groups,
                database.statement("SELECT producer_group, since_ns FROM silent_groups ORDER BY producer_group"));
  for (;;) {
    SLUICE_ASSIGN(const bool row, groups->step());
    if (!row) return all;
    all.groups.push_back({groups->text(0), groups->number(1)});
  }
}

Status write_transaction_note(Database& database, const TransactionNote& note) {
  if (note.unknowns == 0 && note.parked_ns == 0)
    return database.run("DELETE FROM transaction_notes WHERE txn = ?", note.transaction.value);
  return database.run("INSERT OR REPLACE INTO transaction_notes VALUES (?,?,?)", note.transaction.value, note.unknowns,
                      note.parked_ns);
}

Status write_silent_group(Database& database, const SilentGroup& group) {
  const std::string_view name(group.group);
  if (group.since_ns == 0) return database.run("DELETE FROM silent_groups WHERE producer_group = ?", name);
  return database.run("INSERT OR REPLACE INTO silent_groups VALUES (?,?)", name, group.since_ns);
}

// Looks at no more rows than it may erase: the table can be long, and the bus waits.
Result<std::uint64_t> erase_decisions(Database& database, std::uint64_t before_ns, std::uint64_t keep,
                                      std::uint32_t count) {
  SLUICE_TRY(database.run(
      "DELETE FROM decisions WHERE place IN (SELECT place FROM (SELECT place, decided_ns FROM decisions ORDER BY place "
      "LIMIT ?) d WHERE (decided_ns < ? OR place <= (SELECT MAX(place) FROM decisions) - ?) "
      "AND NOT EXISTS (SELECT 1 FROM decision_halves h WHERE h.place = d.place))",
      count, before_ns, keep));
  SLUICE_ASSIGN(Statement * changes, database.statement("SELECT changes()"));
  SLUICE_ASSIGN(const bool found, changes->step());
  if (!found) return fail(database.damaged("nobody says how many decisions were forgotten"));
  const std::uint64_t erased = changes->number(0);
  changes->reset();
  return erased;
}

}  // namespace sluice::store
