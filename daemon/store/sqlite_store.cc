// The store in one SQLite file. The tables are below; `counters` holds the last id given of each kind, so that an id
// whose row is gone is still never given again, and the number of commits. The tables of consumer groups are those of
// SqliteGroups.

#include <functional>
#include <memory>

#include "daemon/store/sqlite_copy.h"
#include "daemon/store/sqlite_database.h"
#include "daemon/store/sqlite_delays.h"
#include "daemon/store/sqlite_groups.h"
#include "daemon/store/sqlite_transactions.h"
#include "daemon/store/store.h"
#include "shm/base/assert.h"

namespace sluice::store {
namespace {

// One statement of SQL may be long; each table stands here as it is in the file.
constexpr const char* kFirstTables = R"sql(
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('incarnation', 0), ('topic', 0), ('producer', 0);

CREATE TABLE topics (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_ns INTEGER NOT NULL, partitions INTEGER NOT NULL,
  durability INTEGER NOT NULL, visibility INTEGER NOT NULL, segment_size INTEGER NOT NULL, slots INTEGER NOT NULL,
  retention_bytes INTEGER NOT NULL, retention_time_ns INTEGER NOT NULL, overflow INTEGER NOT NULL,
  claim_deadline_ns INTEGER NOT NULL, checksum INTEGER NOT NULL, time_mode INTEGER NOT NULL);

-- role: 0 may publish, 1 may consume
CREATE TABLE topic_grants (
  topic INTEGER NOT NULL REFERENCES topics ON DELETE CASCADE, role INTEGER NOT NULL, ordinal INTEGER NOT NULL,
  grantee TEXT NOT NULL, PRIMARY KEY (topic, role, ordinal)) WITHOUT ROWID;

CREATE TABLE named_producers (
  topic INTEGER NOT NULL REFERENCES topics ON DELETE CASCADE, name TEXT NOT NULL, producer INTEGER NOT NULL,
  PRIMARY KEY (topic, producer)) WITHOUT ROWID;

CREATE TABLE fences (
  topic INTEGER NOT NULL REFERENCES topics ON DELETE CASCADE, partition INTEGER NOT NULL, old_producer INTEGER NOT NULL,
  position INTEGER NOT NULL, PRIMARY KEY (topic, partition, old_producer)) WITHOUT ROWID;

CREATE TABLE position_leases (
  topic INTEGER NOT NULL REFERENCES topics ON DELETE CASCADE, partition INTEGER NOT NULL, lease INTEGER NOT NULL,
  PRIMARY KEY (topic, partition)) WITHOUT ROWID;

CREATE TABLE audits (
  topic INTEGER NOT NULL REFERENCES topics ON DELETE CASCADE, partition INTEGER NOT NULL, upto INTEGER NOT NULL,
  PRIMARY KEY (topic, partition)) WITHOUT ROWID;

CREATE TABLE audit_rows (
  topic INTEGER NOT NULL, partition INTEGER NOT NULL, producer INTEGER NOT NULL, name TEXT NOT NULL,
  sequence_first INTEGER NOT NULL, sequence_last INTEGER NOT NULL, data INTEGER NOT NULL,
  committed_halves INTEGER NOT NULL, rolled_back INTEGER NOT NULL, open INTEGER NOT NULL, delayed INTEGER NOT NULL,
  aborted INTEGER NOT NULL, fenced INTEGER NOT NULL, dropped INTEGER NOT NULL, expired INTEGER NOT NULL,
  cut INTEGER NOT NULL, quarantined INTEGER NOT NULL, gaps INTEGER NOT NULL, repeats INTEGER NOT NULL,
  PRIMARY KEY (topic, partition, producer),
  FOREIGN KEY (topic, partition) REFERENCES audits ON DELETE CASCADE) WITHOUT ROWID;

CREATE TABLE audit_bookmarks (
  topic INTEGER NOT NULL, partition INTEGER NOT NULL, producer_name TEXT NOT NULL, sequence INTEGER NOT NULL,
  bookmark BLOB NOT NULL, PRIMARY KEY (topic, partition, producer_name),
  FOREIGN KEY (topic, partition) REFERENCES audits ON DELETE CASCADE) WITHOUT ROWID;
)sql";

constexpr const char* kTopicMirrors = R"sql(
CREATE TABLE topic_mirrors (
  topic INTEGER NOT NULL REFERENCES topics ON DELETE CASCADE, ordinal INTEGER NOT NULL, path TEXT NOT NULL,
  PRIMARY KEY (topic, ordinal)) WITHOUT ROWID;
)sql";

constexpr const char* kTopicTtl = "ALTER TABLE topics ADD COLUMN message_ttl_ns INTEGER NOT NULL DEFAULT 0";

const SchemaPart kSchema[] = {
    {1, kFirstTables},  {2, kGroupTables},    {2, kDelaySchema}, {3, kTransactionSchema},
    {3, kTopicMirrors}, {4, kGroupMarkTable}, {4, kTopicTtl},    {5, kSilentGroupSchema},
};

// Column of audit_rows: behind producer, name, sequence_first, sequence_last.
constexpr int kAuditFirstCategory = 4;

enum class Role : std::uint64_t { publish = 0, consume = 1 };

std::uint64_t number(auto enumerator) { return static_cast<std::uint64_t>(enumerator); }

class SqliteStore final : public Store {
 public:
  explicit SqliteStore(std::unique_ptr<Database> database) : database_(std::move(database)), groups_(*database_) {}

  Result<Incarnation> next_incarnation() override;
  Result<std::vector<core::TopicRecord>> topics() override;
  Result<TopicId> create_topic(const core::TopicConfig& config, std::uint64_t created_ns) override;
  Status alter_topic(TopicId id, const core::TopicConfig& config) override;
  Status delete_topic(TopicId id) override;
  Result<ProducerId> lease_producer_ids(std::uint32_t count) override;
  Result<std::vector<NamedProducer>> named_producers(TopicId topic) override;
  Status add_named_producer(TopicId topic, const NamedProducer& producer) override;
  Status forget_former_producers(TopicId topic) override;
  Result<std::vector<FenceRecord>> fences(TopicId topic) override;
  Status add_fence(TopicId topic, const FenceRecord& fence) override;
  Status drop_fences_below(TopicId topic, PartitionNumber partition, Position trimmed) override;
  Result<Position> position_lease(TopicId topic, PartitionNumber partition) override;
  Status set_position_lease(TopicId topic, PartitionNumber partition, Position lease) override;
  Result<AuditSnapshot> audit_snapshot(TopicId topic, PartitionNumber partition) override;
  Status save_audit_snapshot(TopicId topic, PartitionNumber partition, const AuditSnapshot& snapshot) override;
  Status save_audit_rows(TopicId topic, const std::vector<ReportedRow>& rows) override;
  Result<std::vector<GroupRecord>> groups() override { return groups_.groups(); }
  Result<std::uint64_t> create_group(const GroupRecord& record) override;
  Status update_group(const GroupRecord& record) override;
  Status delete_group(std::uint64_t group) override;
  Result<GroupState> group_state(std::uint64_t group) override { return groups_.state(group); }
  Status save_groups(const std::vector<GroupSave>& saves) override;
  Result<std::vector<DeadLetterRecord>> dead_letters(std::uint64_t group, std::uint64_t after,
                                                     std::uint32_t limit) override {
    return groups_.letters(group, after, limit);
  }
  Result<DeadLetterCounts> count_dead_letters(std::uint64_t group) override { return groups_.count(group); }
  Result<std::vector<std::pair<GroupPosition, std::uint64_t>>> count_parked(std::uint64_t group) override {
    return groups_.count_parked(group);
  }
  Result<std::vector<Position>> parked_from(std::uint64_t group, const GroupPosition& origin,
                                            std::uint32_t limit) override {
    return groups_.parked_from(group, origin, limit);
  }
  Status forget_dead_letters(std::uint64_t group, std::uint64_t keep) override;
  Status save_decisions(std::vector<Decision>& decisions, const std::vector<GroupSave>& acks) override;
  Result<std::optional<Decision>> decision(TransactionId transaction) override {
    return read_decision(*database_, transaction);
  }
  Result<std::vector<DecidedHalf>> decided_halves(TopicId topic, PartitionNumber partition) override {
    return read_decided_halves(*database_, topic, partition);
  }
  Result<TransactionNotes> transaction_notes() override { return read_transaction_notes(*database_); }
  Status save_transaction_notes(const TransactionNotes& notes) override;
  Result<std::uint64_t> forget_decisions(std::uint64_t before_ns, std::uint64_t keep, std::uint32_t count) override;
  Result<std::uint64_t> commits() override;
  Result<std::unique_ptr<StoreCopy>> copy_to(const std::string& path) override {
    return begin_sqlite_copy(*database_, path);
  }
  Status close() override { return database_->close(); }

 private:
  template <typename... Values>
  Status run(const char* sql, const Values&... values) {
    return database_->run(sql, values...);
  }
  // Counts the commit in the same transaction.
  Status transaction(const char* what, const std::function<Status()>& body);
  // Raises a counter by `by`, inside a transaction; returns its value before.
  Result<std::uint64_t> raise(std::string_view counter, std::uint64_t by, std::uint64_t limit);
  Status write_grants(TopicId id, Role role, const std::vector<std::string>& grants);
  Status require_topic(TopicId id, std::string_view what);
  Status read_grants(core::TopicRecord& record);
  Status read_mirrors(core::TopicRecord& record);
  Status read_audit_rows(TopicId topic, PartitionNumber partition, AuditSnapshot& snapshot);
  Status read_bookmarks(TopicId topic, PartitionNumber partition, AuditSnapshot& snapshot);
  Status write_audit_row(TopicId topic, PartitionNumber partition, const core::AuditRow& row);
  Error damaged(const std::string& what) const { return database_->damaged(what); }

  std::unique_ptr<Database> database_;
  SqliteGroups groups_;
};

Status SqliteStore::transaction(const char* what, const std::function<Status()>& body) {
  return database_->transaction(what, [&]() -> Status {
    SLUICE_TRY(body());
    return run("INSERT INTO counters VALUES ('commit', 1) ON CONFLICT DO UPDATE SET value = value + 1");
  });
}

Result<std::uint64_t> SqliteStore::commits() {
  SLUICE_ASSIGN(Statement * select, database_->statement("SELECT value FROM counters WHERE name = 'commit'"));
  SLUICE_ASSIGN(const bool found, select->step());
  const std::uint64_t commits = found ? select->number(0) : 0;  // none yet, or only by a version that did not count
  select->reset();
  return commits;
}

Result<std::uint64_t> SqliteStore::raise(std::string_view counter, std::uint64_t by, std::uint64_t limit) {
  SLUICE_ASSIGN(Statement * select, database_->statement("SELECT value FROM counters WHERE name = ?"));
  SLUICE_ASSIGN(const bool found, select->bind(counter).step());
  if (!found) return fail(damaged("the counter " + std::string(counter) + " is missing"));
  const std::uint64_t before = select->number(0);
  select->reset();
  if (before > limit || by > limit - before)
    return fail(ErrorCode::quota,
                "store " + database_->path() + ": all ids of kind " + std::string(counter) + " were given");
  SLUICE_TRY(run("UPDATE counters SET value = ? WHERE name = ?", before + by, counter));
  return before;
}

Result<Incarnation> SqliteStore::next_incarnation() {
  Incarnation next;
  const auto body = [&]() -> Status {
    SLUICE_ASSIGN(const std::uint64_t before, raise("incarnation", 1, INT64_MAX));
    next = Incarnation(before + 1);
    return {};
  };
  SLUICE_TRY(transaction("raising the incarnation", body));
  return next;
}

Status SqliteStore::read_grants(core::TopicRecord& record) {
  SLUICE_ASSIGN(Statement * select,
                database_->statement("SELECT role, grantee FROM topic_grants WHERE topic = ? ORDER BY role, ordinal"));
  select->bind(record.id.value);
  for (;;) {
    SLUICE_ASSIGN(const bool row, select->step());
    if (!row) return {};
    auto& list = select->number(0) == number(Role::publish) ? record.config.publishers : record.config.consumers;
    list.push_back(select->text(1));
  }
}

Status SqliteStore::read_mirrors(core::TopicRecord& record) {
  SLUICE_ASSIGN(Statement * select,
                database_->statement("SELECT path FROM topic_mirrors WHERE topic = ? ORDER BY ordinal"));
  select->bind(record.id.value);
  for (;;) {
    SLUICE_ASSIGN(const bool row, select->step());
    if (!row) return {};
    record.config.mirrors.push_back(select->text(0));
  }
}

// Fills the record from a row of `topics`; false if a value is out of its range.
bool read_topic(const Statement& row, core::TopicRecord& record) {
  record.id = TopicId(static_cast<std::uint32_t>(row.number(0)));
  core::TopicConfig& config = record.config;
  config.name = row.text(1);
  record.created_ns = row.number(2);
  config.partitions = static_cast<std::uint32_t>(row.number(3));
  config.durability = static_cast<core::Durability>(row.number(4));
  config.visibility = static_cast<core::Visibility>(row.number(5));
  config.segment_size = row.number(6);
  config.slots = static_cast<std::uint32_t>(row.number(7));
  config.retention_bytes = row.number(8);
  config.retention_time_ns = row.number(9);
  config.overflow = static_cast<core::Overflow>(row.number(10));
  config.claim_deadline_ns = row.number(11);
  config.checksum = row.number(12) != 0;
  config.time_mode = static_cast<core::TimeMode>(row.number(13));
  config.message_ttl_ns = row.number(14);
  return row.number(0) - 1 < UINT32_MAX && row.number(3) <= UINT32_MAX && row.number(7) <= UINT32_MAX &&
         row.number(4) <= number(core::Durability::sync) && row.number(5) <= number(core::Visibility::durable) &&
         row.number(10) <= number(core::Overflow::drop_oldest) && row.number(13) <= number(core::TimeMode::none);
}

Result<std::vector<core::TopicRecord>> SqliteStore::topics() {
  std::vector<core::TopicRecord> all;
  SLUICE_ASSIGN(
      Statement * select,
      database_->statement("SELECT id, name, created_ns, partitions, durability, visibility, segment_size, slots, "
                           "retention_bytes, retention_time_ns, overflow, claim_deadline_ns, checksum, time_mode, "
                           "message_ttl_ns FROM topics ORDER BY id"));
  for (;;) {
    SLUICE_ASSIGN(const bool row, select->step());
    if (!row) break;
    if (!read_topic(*select, all.emplace_back())) return fail(damaged("topic " + all.back().config.name));
  }
  for (core::TopicRecord& record : all) {
    SLUICE_TRY(read_grants(record));
    SLUICE_TRY(read_mirrors(record));
    if (Status valid = core::check(record.config); !valid) return fail(damaged(valid.error().context()));
  }
  return all;
}

Status SqliteStore::write_grants(TopicId id, Role role, const std::vector<std::string>& grants) {
  for (std::uint64_t i = 0; i < grants.size(); ++i)
    SLUICE_TRY(
        run("INSERT INTO topic_grants VALUES (?, ?, ?, ?)", id.value, number(role), i, std::string_view(grants[i])));
  return {};
}

Result<TopicId> SqliteStore::create_topic(const core::TopicConfig& config, std::uint64_t created_ns) {
  SLUICE_TRY(core::check(config));
  TopicId id;
  const auto body = [&]() -> Status {
    SLUICE_ASSIGN(Statement * same, database_->statement("SELECT 1 FROM topics WHERE name = ?"));
    SLUICE_ASSIGN(const bool exists, same->bind(std::string_view(config.name)).step());
    same->reset();
    if (exists) return fail(ErrorCode::exists, "creating topic \"" + config.name + "\": it is there already");
    SLUICE_ASSIGN(const std::uint64_t before, raise("topic", 1, UINT32_MAX));
    id = TopicId(static_cast<std::uint32_t>(before + 1));
    SLUICE_TRY(run("INSERT INTO topics VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", id.value, std::string_view(config.name),
                   created_ns, config.partitions, number(config.durability), number(config.visibility),
                   config.segment_size, config.slots, config.retention_bytes, config.retention_time_ns,
                   number(config.overflow), config.claim_deadline_ns, number(config.checksum), number(config.time_mode),
                   config.message_ttl_ns));
    for (std::uint64_t i = 0; i < config.mirrors.size(); ++i)
      SLUICE_TRY(run("INSERT INTO topic_mirrors VALUES (?, ?, ?)", id.value, i, std::string_view(config.mirrors[i])));
    SLUICE_TRY(write_grants(id, Role::publish, config.publishers));
    return write_grants(id, Role::consume, config.consumers);
  };
  SLUICE_TRY(transaction("creating a topic", body));
  return id;
}

Status SqliteStore::require_topic(TopicId id, std::string_view what) {
  SLUICE_ASSIGN(Statement * select, database_->statement("SELECT 1 FROM topics WHERE id = ?"));
  SLUICE_ASSIGN(const bool found, select->bind(id.value).step());
  select->reset();
  if (!found)
    return fail(ErrorCode::not_found, std::string(what) + " topic " + std::to_string(id.value) + ": there is none");
  return {};
}

Status SqliteStore::alter_topic(TopicId id, const core::TopicConfig& config) {
  SLUICE_TRY(core::check(config));
  return transaction("altering a topic", [&]() -> Status {
    SLUICE_TRY(require_topic(id, "altering"));
    SLUICE_TRY(run(
        "UPDATE topics SET name = ?, partitions = ?, durability = ?, visibility = ?, segment_size = ?, slots = ?, "
        "retention_bytes = ?, retention_time_ns = ?, overflow = ?, claim_deadline_ns = ?, checksum = ?, "
        "time_mode = ?, message_ttl_ns = ? WHERE id = ?",
        std::string_view(config.name), config.partitions, number(config.durability), number(config.visibility),
        config.segment_size, config.slots, config.retention_bytes, config.retention_time_ns, number(config.overflow),
        config.claim_deadline_ns, number(config.checksum), number(config.time_mode), config.message_ttl_ns, id.value));
    SLUICE_TRY(run("DELETE FROM topic_grants WHERE topic = ?", id.value));
    SLUICE_TRY(write_grants(id, Role::publish, config.publishers));
    return write_grants(id, Role::consume, config.consumers);
  });
}

Status SqliteStore::delete_topic(TopicId id) {
  return transaction("deleting a topic", [&]() -> Status {
    SLUICE_TRY(require_topic(id, "deleting"));
    return run("DELETE FROM topics WHERE id = ?", id.value);
  });
}

Result<ProducerId> SqliteStore::lease_producer_ids(std::uint32_t count) {
  SLUICE_ASSERT(count > 0);
  ProducerId first;
  const auto body = [&]() -> Status {
    SLUICE_ASSIGN(const std::uint64_t before, raise("producer", count, UINT32_MAX));
    first = ProducerId(static_cast<std::uint32_t>(before + 1));
    return {};
  };
  SLUICE_TRY(transaction("leasing producer ids", body));
  return first;
}

Result<std::vector<NamedProducer>> SqliteStore::named_producers(TopicId topic) {
  std::vector<NamedProducer> all;
  SLUICE_ASSIGN(Statement * select,
                database_->statement("SELECT name, producer FROM named_producers WHERE topic = ? ORDER BY producer"));
  select->bind(topic.value);
  for (;;) {
    SLUICE_ASSIGN(const bool row, select->step());
    if (!row) return all;
    all.push_back({select->text(0), ProducerId(static_cast<std::uint32_t>(select->number(1)))});
  }
}

Status SqliteStore::add_named_producer(TopicId topic, const NamedProducer& producer) {
  return transaction("naming a producer", [&]() -> Status {
    SLUICE_TRY(require_topic(topic, "naming a producer of"));
    return run("INSERT INTO named_producers VALUES (?,?,?)", topic.value, std::string_view(producer.name),
               producer.id.value);
  });
}

Status SqliteStore::forget_former_producers(TopicId topic) {
  return transaction("forgetting former producers", [&]() -> Status {
    return run(
        "DELETE FROM named_producers WHERE topic = ?1 AND producer NOT IN "
        "(SELECT max(producer) FROM named_producers WHERE topic = ?1 GROUP BY name)",
        topic.value);
  });
}

Result<std::vector<FenceRecord>> SqliteStore::fences(TopicId topic) {
  std::vector<FenceRecord> all;
  SLUICE_ASSIGN(Statement * select, database_->statement("SELECT partition, old_producer, position FROM fences "
                                                         "WHERE topic = ? ORDER BY partition, position, old_producer"));
  select->bind(topic.value);
  for (;;) {
    SLUICE_ASSIGN(const bool row, select->step());
    if (!row) return all;
    all.push_back({static_cast<PartitionNumber>(select->number(0)),
                   ProducerId(static_cast<std::uint32_t>(select->number(1))), Position(select->number(2))});
  }
}

Status SqliteStore::add_fence(TopicId topic, const FenceRecord& fence) {
  return transaction("adding a fence", [&]() -> Status {
    SLUICE_TRY(require_topic(topic, "adding a fence to"));
    return run("INSERT INTO fences VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET position = excluded.position",
               topic.value, fence.partition, fence.old_id.value, fence.position.value);
  });
}

Status SqliteStore::drop_fences_below(TopicId topic, PartitionNumber partition, Position trimmed) {
  return transaction("dropping fences", [&]() -> Status {
    return run("DELETE FROM fences WHERE topic = ? AND partition = ? AND position < ?", topic.value, partition,
               trimmed.value);
  });
}

Result<Position> SqliteStore::position_lease(TopicId topic, PartitionNumber partition) {
  SLUICE_ASSIGN(Statement * select,
                database_->statement("SELECT lease FROM position_leases WHERE topic = ? AND partition = ?"));
  SLUICE_ASSIGN(const bool found, select->bind(topic.value, partition).step());
  const Position lease(found ? select->number(0) : 0);
  select->reset();
  return lease;
}

Status SqliteStore::set_position_lease(TopicId topic, PartitionNumber partition, Position lease) {
  return transaction("leasing positions", [&]() -> Status {
    SLUICE_TRY(require_topic(topic, "leasing positions of"));
    return run(
        "INSERT INTO position_leases VALUES (?,?,?) ON CONFLICT DO UPDATE SET lease = max(lease, excluded.lease)",
        topic.value, partition, lease.value);
  });
}

Status SqliteStore::read_audit_rows(TopicId topic, PartitionNumber partition, AuditSnapshot& snapshot) {
  SLUICE_ASSIGN(
      Statement * select,
      database_->statement("SELECT producer, name, sequence_first, sequence_last, data, committed_halves, "
                           "rolled_back, open, delayed, aborted, fenced, dropped, expired, cut, quarantined, "
                           "gaps, repeats FROM audit_rows WHERE topic = ? AND partition = ? ORDER BY producer"));
  select->bind(topic.value, partition);
  for (;;) {
    SLUICE_ASSIGN(const bool found, select->step());
    if (!found) return {};
    core::AuditRow& row = snapshot.rows.emplace_back();
    row.producer = ProducerId(static_cast<std::uint32_t>(select->number(0)));
    row.name = select->text(1);
    row.counts.sequence_first = Sequence(select->number(2));
    row.counts.sequence_last = Sequence(select->number(3));
    int column = kAuditFirstCategory;
    for (const auto category : core::kAuditCategories) row.counts.*category = select->number(column++);
    // What is restored is asserted on from then on.
    if (!row.counts.sum_holds()) return fail(damaged("the audit of producer " + std::to_string(row.producer.value)));
  }
}

Status SqliteStore::read_bookmarks(TopicId topic, PartitionNumber partition, AuditSnapshot& snapshot) {
  SLUICE_ASSIGN(Statement * select,
                database_->statement("SELECT producer_name, sequence, bookmark FROM audit_bookmarks "
                                     "WHERE topic = ? AND partition = ? ORDER BY producer_name"));
  select->bind(topic.value, partition);
  for (;;) {
    SLUICE_ASSIGN(const bool row, select->step());
    if (!row) return {};
    snapshot.bookmarks.push_back({select->text(0), Sequence(select->number(1)), select->text(2)});
  }
}

Result<AuditSnapshot> SqliteStore::audit_snapshot(TopicId topic, PartitionNumber partition) {
  AuditSnapshot snapshot;
  SLUICE_ASSIGN(Statement * select, database_->statement("SELECT upto FROM audits WHERE topic = ? AND partition = ?"));
  SLUICE_ASSIGN(const bool found, select->bind(topic.value, partition).step());
  if (found) snapshot.upto = Position(select->number(0));
  select->reset();
  SLUICE_TRY(read_audit_rows(topic, partition, snapshot));
  SLUICE_TRY(read_bookmarks(topic, partition, snapshot));
  SLUICE_ASSIGN(snapshot.delays, read_delays(*database_, topic, partition));
  SLUICE_ASSIGN(snapshot.halves, read_halves(*database_, topic, partition));
  return snapshot;
}

Status SqliteStore::write_audit_row(TopicId topic, PartitionNumber partition, const core::AuditRow& row) {
  SLUICE_ASSIGN(Statement * insert,
                database_->statement("INSERT INTO audit_rows VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"));
  insert->bind(topic.value, partition, row.producer.value, std::string_view(row.name), row.counts.sequence_first.value,
               row.counts.sequence_last.value);
  int parameter = kAuditFirstCategory + 2;  // topic and partition stand before
  for (const auto category : core::kAuditCategories) insert->bind_one(parameter++, row.counts.*category);
  return insert->run();
}

Status SqliteStore::save_audit_snapshot(TopicId topic, PartitionNumber partition, const AuditSnapshot& snapshot) {
  return transaction("saving an audit", [&]() -> Status {
    SLUICE_TRY(require_topic(topic, "saving the audit of"));
    SLUICE_TRY(run("DELETE FROM audits WHERE topic = ? AND partition = ?", topic.value, partition));
    SLUICE_TRY(run("INSERT INTO audits VALUES (?,?,?)", topic.value, partition, snapshot.upto.value));
    for (const core::AuditRow& row : snapshot.rows) SLUICE_TRY(write_audit_row(topic, partition, row));
    for (const AuditSnapshot::Bookmark& bookmark : snapshot.bookmarks)
      SLUICE_TRY(run("INSERT INTO audit_bookmarks VALUES (?,?,?,?,?)", topic.value, partition,
                     std::string_view(bookmark.producer_name), bookmark.sequence.value,
                     std::as_bytes(std::span(bookmark.bookmark))));
    SLUICE_TRY(save_delays(*database_, topic, partition, snapshot.delays));
    return save_halves(*database_, topic, partition, snapshot.halves);
  });
}

Status SqliteStore::save_audit_rows(TopicId topic, const std::vector<ReportedRow>& rows) {
  return transaction("saving what clients report as lost", [&]() -> Status {
    SLUICE_TRY(require_topic(topic, "saving the audit of"));
    for (const ReportedRow& reported : rows) {
      SLUICE_ASSIGN(Statement * select,
                    database_->statement("SELECT upto FROM audits WHERE topic = ? AND partition = ?"));
      SLUICE_ASSIGN(const bool found, select->bind(topic.value, reported.partition).step());
      select->reset();
      if (!found) continue;
      SLUICE_TRY(run("DELETE FROM audit_rows WHERE topic = ? AND partition = ? AND producer = ?", topic.value,
                     reported.partition, reported.row.producer.value));
      SLUICE_TRY(write_audit_row(topic, reported.partition, reported.row));
    }
    return {};
  });
}

Status SqliteStore::save_decisions(std::vector<Decision>& decisions, const std::vector<GroupSave>& acks) {
  SLUICE_TRY(check(acks));
  return transaction("saving decisions on transactions", [&]() -> Status {
    for (Decision& decision : decisions) SLUICE_TRY(write_decision(*database_, decision));
    for (const GroupSave& save : acks) SLUICE_TRY(groups_.save(save));
    return {};
  });
}

Status SqliteStore::save_transaction_notes(const TransactionNotes& notes) {
  return transaction("saving what is known of open transactions", [&]() -> Status {
    for (const TransactionNote& note : notes.transactions) SLUICE_TRY(write_transaction_note(*database_, note));
    for (const SilentGroup& group : notes.groups) SLUICE_TRY(write_silent_group(*database_, group));
    return {};
  });
}

Result<std::uint64_t> SqliteStore::forget_decisions(std::uint64_t before_ns, std::uint64_t keep, std::uint32_t count) {
  std::uint64_t forgotten = 0;
  const auto body = [&]() -> Status {
    SLUICE_ASSIGN(forgotten, erase_decisions(*database_, before_ns, keep, count));
    return {};
  };
  SLUICE_TRY(transaction("forgetting old decisions", body));
  return forgotten;
}

Result<std::uint64_t> SqliteStore::create_group(const GroupRecord& record) {
  SLUICE_TRY(check(record));
  std::uint64_t id = 0;
  const auto body = [&]() -> Status {
    SLUICE_ASSIGN(const std::uint64_t before, raise("group", 1, INT64_MAX));
    id = before + 1;
    return groups_.create(id, record);
  };
  SLUICE_TRY(transaction("creating a group", body));
  return id;
}

Status SqliteStore::update_group(const GroupRecord& record) {
  SLUICE_TRY(check(record));
  return transaction("altering a group", [&] { return groups_.update(record); });
}

Status SqliteStore::delete_group(std::uint64_t group) {
  return transaction("deleting a group", [&] { return groups_.erase(group); });
}

Status SqliteStore::save_groups(const std::vector<GroupSave>& saves) {
  SLUICE_TRY(check(saves));
  return transaction("saving groups", [&]() -> Status {
    for (const GroupSave& save : saves) SLUICE_TRY(groups_.save(save));
    return {};
  });
}

Status SqliteStore::forget_dead_letters(std::uint64_t group, std::uint64_t keep) {
  return transaction("forgetting dead letters", [&] { return groups_.forget_letters(group, keep); });
}

}  // namespace

Result<std::unique_ptr<Store>> open_sqlite_store(const std::string& path) {
  SLUICE_ASSIGN(std::unique_ptr<Database> database, Database::open(path, kSchema));
  return std::make_unique<SqliteStore>(std::move(database));
}

}  // namespace sluice::store
