#include "daemon/store/sqlite_groups.h"

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <string_view>

namespace sluice::store {

// An id of a dead letter is given by the counts of its group (group_store.h); they also stand for letters that are
// forgotten. `settled` and `backoff_steps` are 64-bit numbers, little-endian; a settled range is two, begin and end.
// Rows of group_cursors may be long, so they are not kept inside the key's own tree.
const char* const kGroupTables = R"sql(
INSERT INTO counters VALUES ('group', 0);

CREATE TABLE consumer_groups (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, mode INTEGER NOT NULL, ack_timeout_ns INTEGER NOT NULL,
  member_timeout_ns INTEGER NOT NULL, max_attempts INTEGER NOT NULL, backoff_steps BLOB NOT NULL,
  backoff_first_ns INTEGER NOT NULL, backoff_max_ns INTEGER NOT NULL, strict INTEGER NOT NULL, hold INTEGER NOT NULL,
  paused INTEGER NOT NULL, epoch INTEGER NOT NULL, members INTEGER NOT NULL, tag TEXT NOT NULL,
  letters_parked INTEGER NOT NULL, letters_redriven INTEGER NOT NULL, letters_purged INTEGER NOT NULL);

CREATE TABLE group_subscriptions (
  consumer_group INTEGER NOT NULL REFERENCES consumer_groups ON DELETE CASCADE, ordinal INTEGER NOT NULL,
  pattern TEXT NOT NULL, PRIMARY KEY (consumer_group, ordinal)) WITHOUT ROWID;

CREATE TABLE group_cursors (
  consumer_group INTEGER NOT NULL REFERENCES consumer_groups ON DELETE CASCADE,
  topic INTEGER NOT NULL REFERENCES topics ON DELETE CASCADE, partition INTEGER NOT NULL, cursor INTEGER NOT NULL,
  settled BLOB NOT NULL, PRIMARY KEY (consumer_group, topic, partition));
CREATE INDEX group_cursors_of_topic ON group_cursors (topic);

-- place_in_key: the order of its hand-out among those of one key; state is the daemon's own
CREATE TABLE group_pending (
  consumer_group INTEGER NOT NULL, topic INTEGER NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL,
  place_in_key INTEGER NOT NULL, delivered INTEGER NOT NULL, failed INTEGER NOT NULL, due_ns INTEGER NOT NULL,
  key_hash INTEGER NOT NULL, state INTEGER NOT NULL, letter INTEGER NOT NULL, reason TEXT NOT NULL,
  PRIMARY KEY (consumer_group, topic, partition, position),
  FOREIGN KEY (consumer_group, topic, partition) REFERENCES group_cursors ON DELETE CASCADE) WITHOUT ROWID;

-- state: 0 parked, 1 redriven, 2 purged; the topic may be gone
CREATE TABLE dead_letters (
  consumer_group INTEGER NOT NULL REFERENCES consumer_groups ON DELETE CASCADE, id INTEGER NOT NULL,
  topic INTEGER NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL, topic_name TEXT NOT NULL,
  parked_at INTEGER NOT NULL, delivered INTEGER NOT NULL, failed INTEGER NOT NULL, parked_ns INTEGER NOT NULL,
  reason TEXT NOT NULL, state INTEGER NOT NULL, PRIMARY KEY (consumer_group, id)) WITHOUT ROWID;
CREATE INDEX dead_letters_done ON dead_letters (consumer_group, id) WHERE state <> 0;
)sql";

// `epochs`: pairs of position and epoch.
const char* const kGroupMarkTable = R"sql(
CREATE TABLE group_marks (
  consumer_group INTEGER NOT NULL, topic INTEGER NOT NULL, partition INTEGER NOT NULL, seeks INTEGER NOT NULL,
  horizon INTEGER NOT NULL, epochs BLOB NOT NULL, PRIMARY KEY (consumer_group, topic, partition),
  FOREIGN KEY (consumer_group, topic, partition) REFERENCES group_cursors ON DELETE CASCADE) WITHOUT ROWID;
CREATE INDEX dead_letters_parked ON dead_letters (consumer_group, topic, partition, position) WHERE state = 0;
)sql";

namespace {

constexpr std::uint64_t kNumberMax = std::numeric_limits<std::int64_t>::max();  // that SQLite compares as we do

std::uint64_t number(auto enumerator) { return static_cast<std::uint64_t>(enumerator); }

void append(std::string& blob, std::uint64_t value) {
  for (int shift = 0; shift < 64; shift += 8) blob.push_back(static_cast<char>(value >> shift & 0xff));
}

// False: no whole numbers.
bool read_numbers(const std::string& blob, std::vector<std::uint64_t>& numbers) {
  if (blob.size() % sizeof(std::uint64_t) != 0) return false;
  for (std::size_t at = 0; at < blob.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t value = 0;
    for (std::size_t byte = 0; byte < sizeof(std::uint64_t); ++byte)
      value |= static_cast<std::uint64_t>(static_cast<unsigned char>(blob[at + byte])) << 8 * byte;
    numbers.push_back(value);
  }
  return true;
}

std::span<const std::byte> bytes(const std::string& blob) { return std::as_bytes(std::span(blob)); }

std::string steps_of(const core::Backoff& backoff) {
  std::string blob;
  for (const std::uint64_t step : backoff.steps_ns) append(blob, step);
  return blob;
}

std::string settled_of(const GroupCursor& cursor) {
  std::string blob;
  blob.reserve(cursor.settled.size() * 2 * sizeof(std::uint64_t));
  for (const auto& [begin, end] : cursor.settled) {
    append(blob, begin.value);
    append(blob, end.value);
  }
  return blob;
}

// add(first, second) of each pair; false: no whole pairs.
template <typename Add>
bool read_pairs(const std::string& blob, Add&& add) {
  std::vector<std::uint64_t> numbers;
  if (!read_numbers(blob, numbers) || numbers.size() % 2 != 0) return false;
  for (std::size_t i = 0; i < numbers.size(); i += 2) add(numbers[i], numbers[i + 1]);
  return true;
}

bool read_settled(const std::string& blob, GroupCursor& cursor) {
  const auto add = [&](std::uint64_t begin, std::uint64_t end) {
    cursor.settled.emplace_back(Position(begin), Position(end));
  };
  return read_pairs(blob, add) && check(cursor).has_value();
}

std::string epochs_of(const core::SeekMark& mark) {
  std::string blob;
  for (const core::EpochStart& one : mark.epochs) {
    append(blob, one.from.value);
    append(blob, one.epoch);
  }
  return blob;
}

bool read_epochs(const std::string& blob, GroupMark& mark) {
  const auto add = [&](std::uint64_t from, std::uint64_t epoch) {
    mark.mark.epochs.push_back({Position(from), epoch});
  };
  return read_pairs(blob, add) && check(mark).has_value();
}

// Reads columns one after the other, and remembers if one had no room in its type.
class Columns {
 public:
  explicit Columns(const Statement& row) : row_(row) {}

  std::uint64_t number() { return row_.number(column_++); }
  std::uint32_t number32() {
    const std::uint64_t value = number();
    fit_ = fit_ && value <= UINT32_MAX;
    return static_cast<std::uint32_t>(value);
  }
  template <typename Enum>
  Enum one_of(Enum last) {
    const std::uint64_t value = number();
    fit_ = fit_ && value <= store::number(last);
    return static_cast<Enum>(value);
  }
  bool truth() {
    const std::uint64_t value = number();
    fit_ = fit_ && value <= 1;
    return value != 0;
  }
  GroupPosition place() {
    const TopicId topic(number32());
    return {topic, number32()};
  }
  Position position() { return Position(number()); }
  std::string text() { return row_.text(column_++); }
  bool fit() const { return fit_; }

 private:
  const Statement& row_;
  int column_ = 0;
  bool fit_ = true;
};

// False: a value is out of its range.
bool read_group(const Statement& row, GroupRecord& record) {
  Columns columns(row);
  core::GroupConfig& config = record.config;
  record.id = columns.number();
  config.name = columns.text();
  config.mode = columns.one_of(core::GroupMode::shared);
  config.ack_timeout_ns = columns.number();
  config.member_timeout_ns = columns.number();
  config.max_attempts = columns.number32();
  const bool whole = read_numbers(columns.text(), config.backoff.steps_ns);
  config.backoff.first_ns = columns.number();
  config.backoff.max_ns = columns.number();
  config.strict = columns.one_of(core::Strict::partition);
  config.hold = columns.truth();
  record.paused = columns.truth();
  record.epoch = columns.number();
  record.members = columns.number32();
  record.tag = columns.text();
  return whole && columns.fit();
}

bool read_pending_row(const Statement& row, GroupPending& pending) {
  Columns columns(row);
  pending.place = columns.place();
  pending.position = columns.position();
  pending.order = columns.number();
  pending.delivered = columns.number32();
  pending.failed = columns.number32();
  pending.due_ns = columns.number();
  pending.key_hash = columns.number();
  pending.state = columns.number32();
  pending.letter = columns.number();
  pending.reason = columns.text();
  return columns.fit();
}

bool read_letter(const Statement& row, DeadLetterRecord& letter) {
  Columns columns(row);
  letter.id = columns.number();
  letter.origin = columns.place();
  letter.position = columns.position();
  letter.origin_topic = columns.text();
  letter.parked_at = columns.position();
  letter.delivered = columns.number32();
  letter.failed = columns.number32();
  letter.parked_ns = columns.number();
  letter.reason = columns.text();
  letter.state = columns.one_of(LetterState::purged);
  return columns.fit();
}

std::string named(std::uint64_t group) { return "group " + std::to_string(group); }

// SQLite does not say which reference failed.
Status or_missing(Status done, std::uint64_t group, const GroupPosition& place, std::string_view what) {
  if (done || done.error().code() != ErrorCode::not_found) return done;
  return fail(ErrorCode::not_found, "saving " + named(group) + ", topic " + std::to_string(place.topic.value) +
                                        ", partition " + std::to_string(place.partition) + ": " + std::string(what) +
                                        "; nothing was saved");
}

}  // namespace

Result<std::vector<GroupRecord>> SqliteGroups::groups() {
  std::vector<GroupRecord> all;
  SLUICE_ASSIGN(
      Statement * select,
      database_.statement("SELECT id, name, mode, ack_timeout_ns, member_timeout_ns, max_attempts, backoff_steps, "
                          "backoff_first_ns, backoff_max_ns, strict, hold, paused, epoch, members, tag "
                          "FROM consumer_groups ORDER BY id"));
  for (;;) {
    SLUICE_ASSIGN(const bool row, select->step());
    if (!row) break;
    if (!read_group(*select, all.emplace_back())) return fail(database_.damaged(named(all.back().id)));
  }
  for (GroupRecord& record : all) {
    SLUICE_TRY(read_subscriptions(record));
    if (const Status valid = check(record); !valid) return fail(database_.damaged(valid.error().context()));
  }
  return all;
}

Status SqliteGroups::read_subscriptions(GroupRecord& record) {
  SLUICE_ASSIGN(Statement * select, database_.statement("SELECT pattern FROM group_subscriptions "
                                                        "WHERE consumer_group = ? ORDER BY ordinal"));
  select->bind(record.id);
  for (;;) {
    SLUICE_ASSIGN(const bool row, select->step());
    if (!row) return {};
    record.subscriptions.push_back(select->text(0));
  }
}

Status SqliteGroups::write_subscriptions(std::uint64_t group, const std::vector<std::string>& subscriptions) {
  SLUICE_TRY(database_.run("DELETE FROM group_subscriptions WHERE consumer_group = ?", group));
  SLUICE_ASSIGN(Statement * insert, database_.statement("INSERT INTO group_subscriptions VALUES (?,?,?)"));
  for (std::uint64_t i = 0; i < subscriptions.size(); ++i)
    SLUICE_TRY(insert->bind(group, i, std::string_view(subscriptions[i])).run());
  return {};
}

Status SqliteGroups::create(std::uint64_t id, const GroupRecord& record) {
  const core::GroupConfig& config = record.config;
  SLUICE_ASSIGN(Statement * same, database_.statement("SELECT 1 FROM consumer_groups WHERE name = ?"));
  SLUICE_ASSIGN(const bool exists, same->bind(std::string_view(config.name)).step());
  same->reset();
  if (exists) return fail(ErrorCode::exists, "creating group \"" + config.name + "\": it is there already");
  SLUICE_TRY(database_.run("INSERT INTO consumer_groups VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,0,0,0)", id,
                           std::string_view(config.name), number(config.mode), config.ack_timeout_ns,
                           config.member_timeout_ns, config.max_attempts, bytes(steps_of(config.backoff)),
                           config.backoff.first_ns, config.backoff.max_ns, number(config.strict), number(config.hold),
                           number(record.paused), record.epoch, record.members, std::string_view(record.tag)));
  return write_subscriptions(id, record.subscriptions);
}

Status SqliteGroups::update(const GroupRecord& record) {
  const core::GroupConfig& config = record.config;
  SLUICE_TRY(count(record.id));
  SLUICE_TRY(
      database_.run("UPDATE consumer_groups SET mode = ?, ack_timeout_ns = ?, member_timeout_ns = ?, "
                    "max_attempts = ?, backoff_steps = ?, backoff_first_ns = ?, backoff_max_ns = ?, strict = ?, "
                    "hold = ?, paused = ?, epoch = ?, members = ?, tag = ? WHERE id = ?",
                    number(config.mode), config.ack_timeout_ns, config.member_timeout_ns, config.max_attempts,
                    bytes(steps_of(config.backoff)), config.backoff.first_ns, config.backoff.max_ns,
                    number(config.strict), number(config.hold), number(record.paused), record.epoch, record.members,
                    std::string_view(record.tag), record.id));
  return write_subscriptions(record.id, record.subscriptions);
}

Status SqliteGroups::erase(std::uint64_t group) {
  SLUICE_TRY(count(group));
  return database_.run("DELETE FROM consumer_groups WHERE id = ?", group);
}

Result<GroupState> SqliteGroups::state(std::uint64_t group) {
  SLUICE_TRY(count(group));
  GroupState state;
  SLUICE_TRY(read_cursors(group, state.cursors));
  SLUICE_TRY(read_marks(group, state.marks));
  SLUICE_TRY(read_pending(group, state.pending));
  return state;
}

Status SqliteGroups::read_cursors(std::uint64_t group, std::vector<GroupCursor>& cursors) {
  SLUICE_ASSIGN(Statement * select, database_.statement("SELECT topic, partition, cursor, settled FROM group_cursors "
                                                        "WHERE consumer_group = ? ORDER BY topic, partition"));
  select->bind(group);
  for (;;) {
    SLUICE_ASSIGN(const bool row, select->step());
    if (!row) return {};
    Columns columns(*select);
    GroupCursor& cursor = cursors.emplace_back();
    cursor.place = columns.place();
    cursor.cursor = columns.position();
    if (!read_settled(columns.text(), cursor) || !columns.fit())
      return fail(database_.damaged("a cursor of " + named(group) + " in topic " +
                                    std::to_string(cursor.place.topic.value) + ", partition " +
                                    std::to_string(cursor.place.partition)));
  }
}

Status SqliteGroups::read_marks(std::uint64_t group, std::vector<GroupMark>& marks) {
  SLUICE_ASSIGN(Statement * select,
                database_.statement("SELECT topic, partition, seeks, horizon, epochs FROM group_marks "
                                    "WHERE consumer_group = ? ORDER BY topic, partition"));
  select->bind(group);
  for (;;) {
    SLUICE_ASSIGN(const bool row, select->step());
    if (!row) return {};
    Columns columns(*select);
    GroupMark& mark = marks.emplace_back();
    mark.place = columns.place();
    mark.mark.seeks = columns.number();
    mark.mark.horizon = columns.position();
    if (!read_epochs(columns.text(), mark) || !columns.fit())
      return fail(database_.damaged("a mark of " + named(group) + " in topic " +
                                    std::to_string(mark.place.topic.value) + ", partition " +
                                    std::to_string(mark.place.partition)));
  }
}

Status SqliteGroups::read_pending(std::uint64_t group, std::vector<GroupPending>& pending) {
  SLUICE_ASSIGN(Statement * select,
                database_.statement("SELECT topic, partition, position, place_in_key, delivered, failed, due_ns, "
                                    "key_hash, state, letter, reason FROM group_pending WHERE consumer_group = ? "
                                    "ORDER BY topic, partition, position"));
  select->bind(group);
  for (;;) {
    SLUICE_ASSIGN(const bool row, select->step());
    if (!row) return {};
    if (!read_pending_row(*select, pending.emplace_back()))
      return fail(database_.damaged("a pending message of " + named(group) + " at position " +
                                    std::to_string(pending.back().position.value)));
  }
}

Status SqliteGroups::save(const GroupSave& save) {
  SLUICE_ASSIGN(DeadLetterCounts counts, count(save.group));
  SLUICE_TRY(drop(save));
  SLUICE_TRY(write_cursors(save));
  SLUICE_TRY(write_marks(save));
  SLUICE_TRY(write_pending(save));
  if (save.letters.empty() && save.letter_states.empty()) return {};
  SLUICE_TRY(write_letters(save, counts));
  SLUICE_TRY(write_letter_states(save, counts));
  return database_.run(
      "UPDATE consumer_groups SET letters_parked = ?, letters_redriven = ?, letters_purged = ? WHERE id = ?",
      counts.parked, counts.redriven, counts.purged, save.group);
}

Status SqliteGroups::drop(const GroupSave& save) {
  SLUICE_ASSIGN(
      Statement * cursor,
      database_.statement("DELETE FROM group_cursors WHERE consumer_group = ? AND topic = ? AND partition = ?"));
  for (const GroupPosition& place : save.dropped_cursors)
    SLUICE_TRY(cursor->bind(save.group, place.topic.value, place.partition).run());
  SLUICE_ASSIGN(Statement * pending, database_.statement("DELETE FROM group_pending WHERE consumer_group = ? "
                                                         "AND topic = ? AND partition = ? AND position = ?"));
  for (const auto& [place, position] : save.not_pending)
    SLUICE_TRY(pending->bind(save.group, place.topic.value, place.partition, position.value).run());
  return {};
}

Status SqliteGroups::write_cursors(const GroupSave& save) {
  SLUICE_ASSIGN(Statement * upsert,
                database_.statement("INSERT INTO group_cursors VALUES (?,?,?,?,?) ON CONFLICT DO UPDATE "
                                    "SET cursor = excluded.cursor, settled = excluded.settled"));
  for (const GroupCursor& cursor : save.cursors) {
    upsert->bind(save.group, cursor.place.topic.value, cursor.place.partition, cursor.cursor.value,
                 bytes(settled_of(cursor)));
    SLUICE_TRY(or_missing(upsert->run(), save.group, cursor.place, "the topic is not there"));
  }
  return {};
}

Status SqliteGroups::write_marks(const GroupSave& save) {
  if (save.marks.empty()) return {};
  SLUICE_ASSIGN(Statement * upsert,
                database_.statement("INSERT INTO group_marks VALUES (?,?,?,?,?,?) ON CONFLICT DO UPDATE SET "
                                    "seeks = excluded.seeks, horizon = excluded.horizon, epochs = excluded.epochs"));
  for (const GroupMark& mark : save.marks) {
    upsert->bind(save.group, mark.place.topic.value, mark.place.partition, mark.mark.seeks, mark.mark.horizon.value,
                 bytes(epochs_of(mark.mark)));
    SLUICE_TRY(or_missing(upsert->run(), save.group, mark.place, "a mark is set where no cursor is"));
  }
  return {};
}

Status SqliteGroups::write_pending(const GroupSave& save) {
  SLUICE_ASSIGN(
      Statement * upsert,
      database_.statement("INSERT INTO group_pending VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET "
                          "place_in_key = excluded.place_in_key, delivered = excluded.delivered, "
                          "failed = excluded.failed, due_ns = excluded.due_ns, key_hash = excluded.key_hash, "
                          "state = excluded.state, letter = excluded.letter, reason = excluded.reason"));
  for (const GroupPending& pending : save.pending) {
    upsert->bind(save.group, pending.place.topic.value, pending.place.partition, pending.position.value, pending.order,
                 pending.delivered, pending.failed, pending.due_ns, pending.key_hash, pending.state, pending.letter,
                 std::string_view(pending.reason));
    SLUICE_TRY(or_missing(upsert->run(), save.group, pending.place, "a message is pending where no cursor is"));
  }
  return {};
}

Status SqliteGroups::write_letters(const GroupSave& save, DeadLetterCounts& counts) {
  SLUICE_ASSIGN(Statement * insert, database_.statement("INSERT INTO dead_letters VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"));
  for (const DeadLetterRecord& letter : save.letters) {
    const std::uint64_t id = counts.last_id() + 1;
    ++counts.of(letter.state);
    insert->bind(save.group, id, letter.origin.topic.value, letter.origin.partition, letter.position.value,
                 std::string_view(letter.origin_topic), letter.parked_at.value, letter.delivered, letter.failed,
                 letter.parked_ns, std::string_view(letter.reason), number(letter.state));
    SLUICE_TRY(insert->run());
  }
  return {};
}

Status SqliteGroups::write_letter_states(const GroupSave& save, DeadLetterCounts& counts) {
  SLUICE_ASSIGN(Statement * select,
                database_.statement("SELECT state FROM dead_letters WHERE consumer_group = ? AND id = ?"));
  SLUICE_ASSIGN(Statement * update,
                database_.statement("UPDATE dead_letters SET state = ? WHERE consumer_group = ? AND id = ?"));
  for (const auto& [id, state] : save.letter_states) {
    SLUICE_ASSIGN(const bool found, select->bind(save.group, id).step());
    Columns columns(*select);
    const LetterState before = found ? columns.one_of(LetterState::purged) : state;
    select->reset();
    if (!found) continue;
    if (!columns.fit() || counts.of(before) == 0)
      return fail(database_.damaged("dead letter " + std::to_string(id) + " of " + named(save.group)));
    --counts.of(before);
    ++counts.of(state);
    SLUICE_TRY(update->bind(number(state), save.group, id).run());
  }
  return {};
}

Result<std::vector<DeadLetterRecord>> SqliteGroups::letters(std::uint64_t group, std::uint64_t after,
                                                            std::uint32_t limit) {
  SLUICE_TRY(count(group));
  std::vector<DeadLetterRecord> all;
  SLUICE_ASSIGN(Statement * select,
                database_.statement("SELECT id, topic, partition, position, topic_name, parked_at, delivered, failed, "
                                    "parked_ns, reason, state FROM dead_letters WHERE consumer_group = ? AND id > ? "
                                    "ORDER BY id LIMIT ?"));
  select->bind(group, std::min(after, kNumberMax), limit);
  for (;;) {
    SLUICE_ASSIGN(const bool row, select->step());
    if (!row) return all;
    if (!read_letter(*select, all.emplace_back()))
      return fail(database_.damaged("dead letter " + std::to_string(all.back().id) + " of " + named(group)));
  }
}

Result<DeadLetterCounts> SqliteGroups::count(std::uint64_t group) {
  SLUICE_ASSIGN(Statement * select, database_.statement("SELECT letters_parked, letters_redriven, letters_purged "
                                                        "FROM consumer_groups WHERE id = ?"));
  SLUICE_ASSIGN(const bool found, select->bind(group).step());
  DeadLetterCounts counts;
  if (found) counts = {select->number(0), select->number(1), select->number(2)};
  select->reset();
  if (!found) return fail(ErrorCode::not_found, "using " + named(group) + ": there is none");
  return counts;
}

Result<std::vector<std::pair<GroupPosition, std::uint64_t>>> SqliteGroups::count_parked(std::uint64_t group) {
  SLUICE_TRY(count(group));
  SLUICE_ASSIGN(Statement * select,
                database_.statement("SELECT topic, partition, COUNT(*) FROM dead_letters "
                                    "WHERE consumer_group = ? AND state = 0 GROUP BY topic, partition"));
  select->bind(group);
  std::vector<std::pair<GroupPosition, std::uint64_t>> counts;
  for (;;) {
    SLUICE_ASSIGN(const bool found, select->step());
    if (!found) break;
    counts.emplace_back(GroupPosition{TopicId(static_cast<std::uint32_t>(select->number(0))),
                                      static_cast<PartitionNumber>(select->number(1))},
                        select->number(2));
  }
  return counts;
}

Result<std::vector<Position>> SqliteGroups::parked_from(std::uint64_t group, const GroupPosition& origin,
                                                        std::uint32_t limit) {
  SLUICE_TRY(count(group));
  SLUICE_ASSIGN(Statement * select,
                database_.statement("SELECT position FROM dead_letters WHERE consumer_group = ? AND topic = ? "
                                    "AND partition = ? AND state = 0 ORDER BY position LIMIT ?"));
  select->bind(group, origin.topic.value, origin.partition, limit);
  std::vector<Position> positions;
  for (;;) {
    SLUICE_ASSIGN(const bool found, select->step());
    if (!found) return positions;
    positions.emplace_back(select->number(0));
  }
}

Status SqliteGroups::forget_letters(std::uint64_t group, std::uint64_t keep) {
  SLUICE_TRY(count(group));
  return database_.run(
      "DELETE FROM dead_letters WHERE consumer_group = ?1 AND state <> 0 AND id <= "
      "(SELECT id FROM dead_letters WHERE consumer_group = ?1 AND state <> 0 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
      group, std::min(keep, kNumberMax));
}

}  // namespace sluice::store
