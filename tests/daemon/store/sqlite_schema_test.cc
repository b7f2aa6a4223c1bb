// Files of an older version: brought up in place, whole or not at all, and with nothing lost.

#include <sqlite3.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

#include "daemon/store/store.h"
#include "shm/base/failpoint.h"

namespace sluice::store {
namespace {

namespace fs = std::filesystem;

// As version 1 was, with something in its tables. Never changed.
constexpr const char* kVersion1 = R"sql(
PRAGMA journal_mode=WAL;
PRAGMA application_id=1397511491;
PRAGMA user_version=1;
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
INSERT INTO counters VALUES ('commit', 7);
UPDATE counters SET value = 3 WHERE name = 'incarnation';
UPDATE counters SET value = 5 WHERE name = 'topic';
UPDATE counters SET value = 9 WHERE name = 'producer';
INSERT INTO topics VALUES (4, 'orders', 11, 2, 1, 0, 4194304, 8, 0, 0, 0, 1000000000, 1, 0);
INSERT INTO topic_grants VALUES (4, 0, 0, 'user:ann');
INSERT INTO named_producers VALUES (4, 'feed', 8);
INSERT INTO fences VALUES (4, 1, 7, 640);
INSERT INTO position_leases VALUES (4, 0, 4096);
INSERT INTO audits VALUES (4, 1, 640);
INSERT INTO audit_bookmarks VALUES (4, 1, 'feed', 12, x'00ff');
)sql";

class SqliteSchemaTest : public testing::Test {
 protected:
  SqliteSchemaTest() {
    std::string name = (fs::temp_directory_path() / "sluice-store-XXXXXX").string();
    directory_ = mkdtemp(name.data());
    path_ = (directory_ / "store.db").string();
  }
  ~SqliteSchemaTest() override { fs::remove_all(directory_); }

  void sql(const char* text) {
    sqlite3* handle = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &handle), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(handle, text, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(handle);
    ASSERT_EQ(sqlite3_close(handle), SQLITE_OK);
  }
  // Everything that is in the schema, by kind and name.
  static std::string schema_of(const fs::path& path) {
    std::string all;
    sqlite3* handle = nullptr;
    EXPECT_EQ(sqlite3_open(path.c_str(), &handle), SQLITE_OK);
    const auto add = [](void* out, int, char** values, char**) {
      *static_cast<std::string*>(out) += std::string(values[0]) + "\n";
      return 0;
    };
    const char* query =
        "SELECT type || ' ' || name || ' ' || ifnull(sql, '') FROM sqlite_schema "
        "UNION ALL SELECT name FROM counters WHERE name <> 'commit' ORDER BY 1";
    EXPECT_EQ(sqlite3_exec(handle, query, add, &all, nullptr), SQLITE_OK) << sqlite3_errmsg(handle);
    sqlite3_close(handle);
    return all;
  }
  static std::string read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  static void write(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }
  // What version 1 knew is there, and what this version added works.
  static void expect_all(Store& store) {
    const auto topics = store.topics();
    ASSERT_TRUE(topics) << topics.error().message();
    ASSERT_EQ(topics->size(), 1u);
    EXPECT_EQ(topics->front().id, TopicId(4));
    EXPECT_EQ(topics->front().config.name, "orders");
    EXPECT_EQ(topics->front().config.publishers, std::vector<std::string>{"user:ann"});
    EXPECT_EQ(store.named_producers(TopicId(4))->front().id, ProducerId(8));
    EXPECT_EQ(store.fences(TopicId(4))->front().position, Position(640));
    EXPECT_EQ(*store.position_lease(TopicId(4), 0), Position(4096));
    EXPECT_EQ(store.audit_snapshot(TopicId(4), 1)->bookmarks.front().bookmark, std::string("\0\xff", 2));
    EXPECT_EQ(store.commits().value(), 7u) << "of two copies the one with more of them would win";
    EXPECT_EQ(store.lease_producer_ids(1)->value, 10u);
    EXPECT_EQ(store.next_incarnation()->value, 4u);
    EXPECT_TRUE(store.groups()->empty());
    GroupRecord group;
    group.config.name = "g";
    EXPECT_EQ(store.create_group(group).value(), 1u);
    GroupSave save;
    save.group = 1;
    save.cursors = {{{TopicId(4), 1}, Position(640), {}}};
    ASSERT_TRUE(store.save_groups({save}));
    ASSERT_TRUE(store.delete_topic(TopicId(4)));
    EXPECT_TRUE(store.group_state(1)->cursors.empty());
  }

  fs::path directory_;
  std::string path_;
};

TEST_F(SqliteSchemaTest, a_file_of_version_1_is_brought_up_and_keeps_everything) {
  sql(kVersion1);
  auto store = open_sqlite_store(path_);
  ASSERT_TRUE(store) << store.error().message();
  expect_all(**store);
  ASSERT_TRUE((*store)->close());
  store = open_sqlite_store(path_);
  ASSERT_TRUE(store) << store.error().message();
  EXPECT_EQ((*store)->groups()->size(), 1u);
}

// Version 2 was version 3 without topic_mirrors and the tables of transactions.
TEST_F(SqliteSchemaTest, a_file_of_version_2_is_brought_up_and_topics_may_have_mirrors_then) {
  auto store = open_sqlite_store(path_);
  core::TopicConfig config;
  config.name = "orders";
  ASSERT_TRUE((*store)->create_topic(config, 1));
  ASSERT_TRUE((*store)->close());
  sql("DROP TABLE halves; DROP TABLE half_states; DROP TABLE decision_halves; DROP TABLE decisions;"
      "DROP TABLE transaction_notes; DROP TABLE topic_mirrors; DROP TABLE group_marks; DROP TABLE silent_groups; DROP "
      "INDEX dead_letters_parked;"
      "ALTER TABLE topics DROP COLUMN message_ttl_ns; PRAGMA user_version=2;"
      "PRAGMA wal_checkpoint(TRUNCATE)");
  store = open_sqlite_store(path_);
  ASSERT_TRUE(store) << store.error().message();
  ASSERT_EQ((*store)->topics()->size(), 1u);
  EXPECT_TRUE((*store)->topics()->front().config.mirrors.empty());
  config.name = "mirrored";
  config.mirrors = {"/mnt/b/sluice"};
  ASSERT_TRUE((*store)->create_topic(config, 2));
  ASSERT_EQ((*store)->topics()->size(), 2u);
  EXPECT_EQ((*store)->topics()->back().config.mirrors, config.mirrors);
}

// Version 3 was this one without group_marks and times to live.
TEST_F(SqliteSchemaTest, a_file_of_version_3_is_brought_up_and_its_groups_have_marks_then) {
  auto store = open_sqlite_store(path_);
  core::TopicConfig config;
  config.name = "orders";
  const TopicId topic = (*store)->create_topic(config, 1).value();
  GroupRecord record;
  record.config.name = "billing";
  GroupSave save;
  save.group = (*store)->create_group(record).value();
  save.cursors = {{{topic, 0}, Position(640), {}}};
  ASSERT_TRUE((*store)->save_groups({save}));
  ASSERT_TRUE((*store)->close());
  sql("DROP TABLE group_marks; DROP TABLE silent_groups; DROP INDEX dead_letters_parked; ALTER TABLE topics DROP "
      "COLUMN message_ttl_ns;"
      "PRAGMA user_version=3; PRAGMA wal_checkpoint(TRUNCATE)");
  store = open_sqlite_store(path_);
  ASSERT_TRUE(store) << store.error().message();
  EXPECT_EQ((*store)->group_state(save.group)->cursors, save.cursors);
  EXPECT_TRUE((*store)->group_state(save.group)->marks.empty());
  save.marks = {{{topic, 0}, {1, Position(640), {}}}};
  ASSERT_TRUE((*store)->save_groups({save}));
  EXPECT_EQ((*store)->group_state(save.group)->marks, save.marks);
}

TEST_F(SqliteSchemaTest, a_file_of_version_3_is_brought_up_and_its_topics_have_no_time_to_live) {
  auto store = open_sqlite_store(path_);
  core::TopicConfig config;
  config.name = "orders";
  const TopicId id = (*store)->create_topic(config, 1).value();
  ASSERT_TRUE((*store)->close());
  sql("DROP TABLE group_marks; DROP TABLE silent_groups; DROP INDEX dead_letters_parked; ALTER TABLE topics DROP "
      "COLUMN message_ttl_ns; PRAGMA "
      "user_version=3; PRAGMA wal_checkpoint(TRUNCATE)");
  store = open_sqlite_store(path_);
  ASSERT_TRUE(store) << store.error().message();
  ASSERT_EQ((*store)->topics()->size(), 1u);
  EXPECT_EQ((*store)->topics()->front().config.message_ttl_ns, 0u);
  config.message_ttl_ns = kMessageTtlNsMin;
  ASSERT_TRUE((*store)->alter_topic(id, config));
  EXPECT_EQ((*store)->topics()->front().config.message_ttl_ns, kMessageTtlNsMin);
}

TEST_F(SqliteSchemaTest, a_file_that_was_brought_up_has_the_schema_of_a_new_one) {
  sql(kVersion1);
  ASSERT_TRUE(open_sqlite_store(path_).value()->close());
  const std::string fresh = (directory_ / "fresh.db").string();
  ASSERT_TRUE(open_sqlite_store(fresh).value()->close());
  EXPECT_EQ(schema_of(path_), schema_of(fresh));
}

// Where a build that is older than the file looks before it lets SQLite open it.
TEST_F(SqliteSchemaTest, the_new_version_stands_in_the_files_own_header_at_once) {
  sql(kVersion1);
  const auto store = open_sqlite_store(path_);
  ASSERT_TRUE(store) << store.error().message();
  EXPECT_EQ(read(path_).substr(60, 4), std::string("\0\0\0\5", 4));
}

TEST_F(SqliteSchemaTest, a_file_that_cannot_be_brought_up_stays_as_it_was) {
  sql(kVersion1);
  // Stands in the way of one of the last steps: what was done before it must go again.
  sql("CREATE TABLE dead_letters_done (theirs)");
  const std::string before = schema_of(path_);
  const auto store = open_sqlite_store(path_);
  ASSERT_FALSE(store);
  EXPECT_NE(store.error().message().find(path_), std::string::npos) << store.error().message();
  EXPECT_EQ(schema_of(path_), before);
  EXPECT_EQ(read(path_).substr(60, 4), std::string("\0\0\0\1", 4));
  sql("DROP TABLE dead_letters_done");
  auto again = open_sqlite_store(path_);
  ASSERT_TRUE(again) << again.error().message();
  expect_all(**again);
}

#if defined(SLUICE_FAILPOINTS)
// The power goes while the file is brought up: the WAL ends anywhere.
TEST_F(SqliteSchemaTest, a_power_loss_while_a_file_is_brought_up_costs_nothing) {
  sql(kVersion1);
  std::string file;
  std::string wal;
  failpoint::set_handler([&](std::string_view name) {
    if (name != "store.committed" || !wal.empty()) return;
    file = read(path_);
    wal = read(path_ + "-wal");
  });
  const bool opened = open_sqlite_store(path_).has_value();
  failpoint::set_handler({});
  ASSERT_TRUE(opened);
  ASSERT_FALSE(wal.empty());
  const fs::path copy = directory_ / "copy.db";
  for (std::size_t size = 0;; size = std::min(size + 4001, wal.size())) {
    write(copy, file);
    write(copy.string() + "-wal", wal.substr(0, size));
    auto store = open_sqlite_store(copy.string());
    ASSERT_TRUE(store) << size << ": " << store.error().message();
    expect_all(**store);
    if (size == wal.size()) break;
  }
}
#endif

}  // namespace
}  // namespace sluice::store
