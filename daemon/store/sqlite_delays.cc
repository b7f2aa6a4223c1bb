#include "daemon/store/sqlite_delays.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace sluice::store {
namespace {

static_assert(std::endian::native == std::endian::little);

// Of one row: small enough for SQLite to handle in one piece, and, sorted by time as they are, to end early.
constexpr std::size_t kDelaysPerRow = 65536;

using Pair = std::array<std::uint64_t, 2>;

std::vector<Pair> encode(std::span<const core::Delay> delays) {
  std::vector<Pair> pairs;
  pairs.reserve(delays.size());
  for (const core::Delay& delay : delays) pairs.push_back({delay.due_ns, delay.position.value});
  return pairs;
}

bool decode(const std::string& bytes, std::vector<core::Delay>& into) {
  if (bytes.size() % sizeof(Pair) != 0) return false;
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(Pair)) {
    Pair pair;
    std::memcpy(&pair, bytes.data() + at, sizeof pair);
    into.push_back({pair[0], Position(pair[1])});
  }
  return true;
}

Error damaged(const Database& database, TopicId topic, PartitionNumber partition) {
  return Error(ErrorCode::corrupt, "store " + database.path() + ": the delayed messages of topic " +
                                       std::to_string(topic.value) + ", partition " + std::to_string(partition) +
                                       "; it was left as it is: restore it from a copy");
}

template <typename... Values>
Status run(Database& database, const char* sql, const Values&... values) {
  SLUICE_ASSIGN(Statement * statement, database.statement(sql));
  return statement->bind(values...).run();
}

}  // namespace

Result<core::DelaySnapshot> read_delays(Database& database, TopicId topic, PartitionNumber partition) {
  core::DelaySnapshot delays;
  SLUICE_ASSIGN(Statement * state, database.statement("SELECT upto, done_due, done_position, late FROM delay_states "
                                                      "WHERE topic = ? AND partition = ?"));
  SLUICE_ASSIGN(const bool found, state->bind(topic.value, partition).step());
  if (!found) return delays;
  delays.upto = Position(state->number(0));
  delays.done = {state->number(1), Position(state->number(2))};
  const bool whole = decode(state->text(3), delays.late);
  state->reset();
  if (!whole) return fail(damaged(database, topic, partition));
  SLUICE_ASSIGN(Statement * rows,
                database.statement("SELECT delays FROM delays WHERE topic = ? AND partition = ? ORDER BY upto, part"));
  rows->bind(topic.value, partition);
  for (;;) {
    SLUICE_ASSIGN(const bool row, rows->step());
    if (!row) return delays;
    if (!decode(rows->text(0), delays.delays)) return fail(damaged(database, topic, partition));
  }
}

Status save_delays(Database& database, TopicId topic, PartitionNumber partition, const core::DelaySnapshot& delays) {
  SLUICE_TRY(run(database, "DELETE FROM delays WHERE topic = ? AND partition = ? AND due_max < ?", topic.value,
                 partition, delays.done.due_ns));
  std::span<const core::Delay> rest(delays.delays);
  for (std::uint64_t part = 0; !rest.empty(); ++part) {
    const auto row = rest.first(std::min(rest.size(), kDelaysPerRow));
    rest = rest.subspan(row.size());
    const std::vector<Pair> pairs = encode(row);
    SLUICE_TRY(run(database, "INSERT OR REPLACE INTO delays VALUES (?,?,?,?,?,?)", topic.value, partition,
                   delays.upto.value, part, row.back().due_ns, std::as_bytes(std::span(pairs))));
  }
  const std::vector<Pair> late = encode(delays.late);
  return run(database, "INSERT OR REPLACE INTO delay_states VALUES (?,?,?,?,?,?)", topic.value, partition,
             delays.upto.value, delays.done.due_ns, delays.done.position.value, std::as_bytes(std::span(late)));
}

}  // namespace sluice::store
