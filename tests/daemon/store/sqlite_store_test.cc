// What only the SQLite store can meet: damaged files, newer versions, copies made in the middle of a write,
// permissions.

#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "daemon/store/reserve.h"
#include "daemon/store/store.h"

namespace sluice::store {
namespace {

namespace fs = std::filesystem;

class SqliteStoreTest : public testing::Test {
 protected:
  SqliteStoreTest() {
    std::string name = (fs::temp_directory_path() / "sluice-store-XXXXXX").string();
    directory_ = mkdtemp(name.data());
    path_ = (directory_ / "store.db").string();
  }
  ~SqliteStoreTest() override {
    fs::permissions(directory_, fs::perms::owner_all, fs::perm_options::add);
    fs::remove_all(directory_);
  }

  // A closed store with one topic.
  void make_store() {
    auto store = open_sqlite_store(path_);
    ASSERT_TRUE(store) << store.error().message();
    core::TopicConfig config;
    config.name = "a";
    ASSERT_TRUE((*store)->create_topic(config, 1));
    ASSERT_TRUE((*store)->close());
  }
  void sql(const char* text) {
    sqlite3* handle = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &handle), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(handle, text, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(handle);
    ASSERT_EQ(sqlite3_close(handle), SQLITE_OK);
  }
  static std::string read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  static void write(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }
  void expect_refused(ErrorCode code) {
    const auto store = open_sqlite_store(path_);
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code(), code) << store.error().message();
    EXPECT_NE(store.error().message().find(path_), std::string::npos) << store.error().message();
  }

  fs::path directory_;
  std::string path_;
};

TEST_F(SqliteStoreTest, ItPutsRoomByAndGivesItBackInSteps) {
  Reserve reserve((directory_ / "reserve").string());
  EXPECT_FALSE(reserve.spend()) << "there is none yet";
  reserve.fill();
  EXPECT_EQ(reserve.size(), kReserveSize);
  for (std::uint64_t left = kReserveSize; left != 0; left -= kReserveStep) {
    EXPECT_EQ(reserve.size(), left);
    EXPECT_TRUE(reserve.spend());
  }
  EXPECT_FALSE(reserve.spend());
  reserve.fill();
  EXPECT_EQ(reserve.size(), kReserveSize);
  make_store();
  EXPECT_EQ(Reserve(path_ + ".reserve").size(), kReserveSize) << "a store has one from its first start on";
}

TEST_F(SqliteStoreTest, a_newer_version_is_refused_and_not_a_byte_is_touched) {
  make_store();
  sql("PRAGMA user_version=99");
  const std::string before = read(path_);
  expect_refused(ErrorCode::version);
  EXPECT_EQ(read(path_), before);
}

TEST_F(SqliteStoreTest, a_lack_of_descriptors_is_said_in_the_systems_words_and_is_no_fault_of_the_disk) {
  make_store();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  // Enough for the file itself, and not for its WAL.
  const int lowest_free = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::close(lowest_free);
  const rlimit few{static_cast<rlim_t>(lowest_free) + 1, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  const auto store = open_sqlite_store(path_);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code(), ErrorCode::no_memory) << store.error().message();
  EXPECT_EQ(store.error().system_errno(), EMFILE) << store.error().message();
  EXPECT_EQ(store.error().message().find("disk"), std::string::npos) << store.error().message();
  EXPECT_EQ(open_sqlite_store(path_).value()->topics()->size(), 1u);
}

TEST_F(SqliteStoreTest, a_store_of_the_version_before_delays_is_taken_over) {
  make_store();
  {
    auto store = open_sqlite_store(path_);
    AuditSnapshot snapshot;
    snapshot.upto = snapshot.delays.upto = Position(4096);
    ASSERT_TRUE((*store)->save_audit_snapshot(TopicId(1), 0, snapshot));
    ASSERT_TRUE((*store)->close());
  }
  sql("DROP TABLE halves; DROP TABLE half_states; DROP TABLE decision_halves; DROP TABLE decisions;"
      "DROP TABLE transaction_notes; DROP TABLE topic_mirrors; DROP TABLE delays; DROP TABLE delay_states; DROP TABLE "
      "dead_letters;"
      "DROP TABLE group_marks; DROP TABLE silent_groups; DROP TABLE group_pending; DROP TABLE group_cursors; DROP "
      "TABLE group_subscriptions;"
      "DROP TABLE consumer_groups; DELETE FROM counters WHERE name = 'group';"
      "ALTER TABLE topics DROP COLUMN message_ttl_ns; PRAGMA user_version=1");
  auto store = open_sqlite_store(path_);
  ASSERT_TRUE(store) << store.error().message();
  const auto back = (*store)->audit_snapshot(TopicId(1), 0);
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(back->upto, Position(4096));
  EXPECT_EQ(back->delays.upto, Position(4096)) << "nothing below can wait, and nothing is read again";
  EXPECT_TRUE(back->delays.delays.empty());
  ASSERT_TRUE((*store)->close());
  store = open_sqlite_store(path_);
  EXPECT_TRUE(store) << "once is enough";
}

TEST_F(SqliteStoreTest, damaged_delays_are_named_and_left_alone) {
  make_store();
  {
    auto store = open_sqlite_store(path_);
    AuditSnapshot snapshot;
    snapshot.delays.delays = {{5, Position(64)}};
    ASSERT_TRUE((*store)->save_audit_snapshot(TopicId(1), 0, snapshot));
    ASSERT_TRUE((*store)->close());
  }
  sql("UPDATE delays SET delays = x'00112233'");
  auto store = open_sqlite_store(path_);
  EXPECT_EQ((*store)->audit_snapshot(TopicId(1), 0).error().code(), ErrorCode::corrupt);
}

TEST_F(SqliteStoreTest, a_newer_version_that_stands_in_the_wal_alone_is_refused_and_stays_there) {
  make_store();
  sqlite3* handle = nullptr;
  ASSERT_EQ(sqlite3_open(path_.c_str(), &handle), SQLITE_OK);
  sqlite3_exec(handle, "PRAGMA user_version=99", nullptr, nullptr, nullptr);
  const fs::path copy = directory_ / "copy.db";
  fs::copy_file(path_, copy);
  fs::copy_file(path_ + "-wal", copy.string() + "-wal");
  sqlite3_close(handle);
  path_ = copy.string();
  const std::string before = read(path_);
  expect_refused(ErrorCode::version);
  EXPECT_EQ(read(path_), before);
  expect_refused(ErrorCode::version);
}

TEST_F(SqliteStoreTest, a_file_that_is_no_database_is_refused_and_left_as_it_is) {
  const std::string bytes(10000, 'x');
  write(path_, bytes);
  expect_refused(ErrorCode::corrupt);
  EXPECT_EQ(read(path_), bytes);
}

TEST_F(SqliteStoreTest, somebody_elses_database_is_refused_and_left_as_it_is) {
  sql("CREATE TABLE theirs (x); PRAGMA user_version=1");
  const std::string before = read(path_);
  expect_refused(ErrorCode::corrupt);
  EXPECT_EQ(read(path_), before);
}

TEST_F(SqliteStoreTest, values_that_no_topic_can_have_are_corrupt_and_not_believed) {
  for (const char* damage : {"UPDATE topics SET durability = 9", "UPDATE topics SET name = '../x'",
                             "UPDATE topics SET partitions = 5000000000", "UPDATE topics SET segment_size = 12345"}) {
    fs::remove(path_);
    make_store();
    sql(damage);
    auto store = open_sqlite_store(path_);
    ASSERT_TRUE(store);
    const auto topics = (*store)->topics();
    ASSERT_FALSE(topics) << damage;
    EXPECT_EQ(topics.error().code(), ErrorCode::corrupt);
  }
}

TEST_F(SqliteStoreTest, random_damage_is_an_error_or_a_store_that_answers_and_never_a_crash) {
  make_store();
  const std::string good = read(path_);
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    std::mt19937_64 random(seed);
    std::string bytes = good;
    for (int i = 0; i < 8; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    if (seed % 4 == 0) bytes.resize(random() % bytes.size());
    write(path_, bytes);
    auto store = open_sqlite_store(path_);
    if (store) {
      (void)(*store)->topics();
      (void)(*store)->next_incarnation();
      (void)(*store)->lease_producer_ids(3);
      (void)(*store)->audit_snapshot(TopicId(1), 0);
    }
    store = open_sqlite_store("/nonexistent/x");
    fs::remove(path_ + "-wal");
  }
}

// A copy whose WAL ends anywhere is what a power loss leaves: it must open, with a prefix of the commits.
TEST_F(SqliteStoreTest, a_copy_made_in_the_middle_of_a_write_holds_a_prefix_of_the_commits) {
  auto store = open_sqlite_store(path_);
  ASSERT_TRUE(store);
  constexpr std::uint64_t kCommits = 12;
  for (std::uint64_t i = 1; i <= kCommits; ++i) {
    ASSERT_TRUE((*store)->next_incarnation());
    ASSERT_TRUE((*store)->lease_producer_ids(1));
  }
  const std::string file = read(path_);
  const std::string wal = read(path_ + "-wal");
  const fs::path copy = directory_ / "copy.db";
  std::uint64_t before = 0;
  for (std::size_t size = 0; size <= wal.size();
       size += std::min<std::size_t>(997, std::max<std::size_t>(1, wal.size() - size))) {
    write(copy, file);
    write(copy.string() + "-wal", wal.substr(0, size));
    auto survivor = open_sqlite_store(copy.string());
    ASSERT_TRUE(survivor) << survivor.error().message();
    const std::uint64_t incarnations = (*survivor)->next_incarnation()->value - 1;
    const std::uint64_t producers = (*survivor)->lease_producer_ids(1)->value - 1;
    ASSERT_TRUE(incarnations == producers || incarnations == producers + 1) << incarnations << " " << producers;
    ASSERT_GE(incarnations + producers, before);
    before = incarnations + producers;
  }
  EXPECT_EQ(before, 2 * kCommits);
}

TEST_F(SqliteStoreTest, a_missing_directory_is_not_found_with_the_path) {
  path_ = (directory_ / "none" / "store.db").string();
  expect_refused(ErrorCode::not_found);
}

TEST_F(SqliteStoreTest, a_read_only_directory_is_refused_with_permission) {
  fs::permissions(directory_, fs::perms::owner_read | fs::perms::owner_exec | fs::perms::group_read |
                                  fs::perms::group_exec | fs::perms::others_read | fs::perms::others_exec);
  const pid_t child = fork();
  if (child == 0) {
    // Root writes everywhere: the check needs somebody else.
    if (geteuid() == 0 && setuid(65534) != 0) _exit(100);
    const auto store = open_sqlite_store(path_);
    _exit(store ? 101 : static_cast<int>(store.error().code()));
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ErrorCode::permission));
}

}  // namespace
}  // namespace sluice::store
