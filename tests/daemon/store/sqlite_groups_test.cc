// Consumer groups in a SQLite file that is damaged, or was copied in the middle of a write.

#include <sqlite3.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/store/store.h"

namespace sluice::store {
namespace {

namespace fs = std::filesystem;

class SqliteGroupsTest : public testing::Test {
 protected:
  SqliteGroupsTest() {
    std::string name = (fs::temp_directory_path() / "sluice-store-XXXXXX").string();
    directory_ = mkdtemp(name.data());
    path_ = (directory_ / "store.db").string();
  }
  ~SqliteGroupsTest() override { fs::remove_all(directory_); }

  std::unique_ptr<Store> open() { return std::move(open_sqlite_store(path_).value()); }
  // What round `n` leaves of each group: a cursor, and n pending messages.
  static GroupSave round(std::uint64_t group, std::uint64_t n) {
    GroupSave save;
    save.group = group;
    save.cursors = {{{TopicId(1), 0}, Position(n), {{Position(n + 100), Position(n + 200)}}}};
    save.pending = {{{TopicId(1), 0}, Position(n), 0, 1, 1, n, 0, 0, 0, "later"}};
    save.letters.emplace_back().origin_topic = "a";
    return save;
  }
  // A closed store with a topic and two groups, and everything that these have.
  void make_store() {
    const auto store = open();
    core::TopicConfig config;
    config.name = "a";
    ASSERT_TRUE(store->create_topic(config, 1));
    for (const char* name : {"g", "h"}) {
      GroupRecord record;
      record.config.name = name;
      record.config.backoff.steps_ns = {1000};
      record.subscriptions = {"a"};
      ASSERT_TRUE(store->create_group(record));
    }
    ASSERT_TRUE(store->save_groups({round(1, 1), round(2, 1)}));
    ASSERT_TRUE(store->close());
  }
  void sql(const std::string& text) {
    sqlite3* handle = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &handle), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(handle, text.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(handle);
    ASSERT_EQ(sqlite3_close(handle), SQLITE_OK);
  }
  static std::string read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  static void write(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

  fs::path directory_;
  std::string path_;
};

TEST_F(SqliteGroupsTest, settings_that_no_group_can_have_are_corrupt_and_not_believed) {
  for (const char* damage : {"mode = 2", "strict = 3", "hold = 2", "paused = 7", "max_attempts = 5000000000",
                             "members = -1", "name = '../x'", "ack_timeout_ns = 0", "backoff_steps = x'01'",
                             "tag = replace(hex(zeroblob(200)), '00', 'tt')"}) {
    fs::remove(path_);
    make_store();
    sql("UPDATE consumer_groups SET " + std::string(damage) + " WHERE id = 2");
    const auto groups = open()->groups();
    ASSERT_FALSE(groups) << damage;
    EXPECT_EQ(groups.error().code(), ErrorCode::corrupt) << groups.error().message();
  }
  fs::remove(path_);
  make_store();
  sql("UPDATE group_subscriptions SET pattern = 'a/b'");
  EXPECT_EQ(open()->groups().error().code(), ErrorCode::corrupt);
}

TEST_F(SqliteGroupsTest, a_cursor_or_pending_message_that_cannot_be_is_corrupt_and_not_believed) {
  const std::string one_to_two = "01000000000000000200000000000000";
  const std::string two_to_four = "02000000000000000400000000000000";
  const std::string three_to_five = "03000000000000000500000000000000";
  const std::string three_to_three = "03000000000000000300000000000000";
  const std::vector<std::string> damages = {"group_cursors SET settled = x'00'",
                                            "group_cursors SET settled = x'0300000000000000'",
                                            "group_cursors SET settled = x'" + three_to_five + two_to_four + "'",
                                            "group_cursors SET settled = x'" + two_to_four + three_to_five + "'",
                                            "group_cursors SET settled = x'" + three_to_three + "'",
                                            "group_cursors SET cursor = 2, settled = x'" + one_to_two + "'",
                                            "group_cursors SET partition = 5000000000",
                                            "group_pending SET delivered = -1",
                                            "group_pending SET failed = 5000000000",
                                            "group_pending SET state = -1"};
  for (const std::string& damage : damages) {
    fs::remove(path_);
    make_store();
    sql("UPDATE " + damage);
    const auto store = open();
    const auto state = store->group_state(1);
    ASSERT_FALSE(state) << damage;
    EXPECT_EQ(state.error().code(), ErrorCode::corrupt) << state.error().message();
    EXPECT_NE(state.error().message().find(path_), std::string::npos) << state.error().message();
  }
}

TEST_F(SqliteGroupsTest, a_dead_letter_that_cannot_be_is_corrupt_and_not_believed) {
  for (const char* damage : {"state = 3", "topic = -1", "partition = 5000000000", "delivered = -1"}) {
    fs::remove(path_);
    make_store();
    sql("UPDATE dead_letters SET " + std::string(damage));
    EXPECT_EQ(open()->dead_letters(1, 0, 10).error().code(), ErrorCode::corrupt) << damage;
  }
  fs::remove(path_);
  make_store();
  sql("UPDATE consumer_groups SET letters_parked = 0, letters_purged = 1");
  GroupSave save;
  save.group = 1;
  save.letter_states = {{1, LetterState::redriven}};
  EXPECT_EQ(open()->save_groups({save}).error().code(), ErrorCode::corrupt) << "more letters than were counted";
}

TEST_F(SqliteGroupsTest, random_damage_is_an_error_or_a_store_that_answers_and_never_a_crash) {
  make_store();
  const std::string good = read(path_);
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    std::mt19937_64 random(seed);
    std::string bytes = good;
    for (int i = 0; i < 32; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    write(path_, bytes);
    if (auto store = open_sqlite_store(path_)) {
      (void)(*store)->groups();
      (void)(*store)->group_state(1);
      (void)(*store)->dead_letters(1, 0, 10);
      (void)(*store)->save_groups({round(1, 2), round(2, 2)});
      (void)(*store)->forget_dead_letters(1, 0);
      (void)(*store)->delete_group(2);
      (void)(*store)->delete_topic(TopicId(1));
    }
    fs::remove(path_ + "-wal");
  }
}

// A copy whose WAL ends anywhere is what a power loss leaves.
TEST_F(SqliteGroupsTest, a_copy_made_in_the_middle_of_a_write_holds_whole_saves_of_all_groups) {
  make_store();
  const auto store = open();
  constexpr std::uint64_t kRounds = 8;
  for (std::uint64_t n = 2; n <= kRounds; ++n) ASSERT_TRUE(store->save_groups({round(1, n), round(2, n)}));
  const std::string file = read(path_);
  const std::string wal = read(path_ + "-wal");
  const fs::path copy = directory_ / "copy.db";
  std::uint64_t before = 1;
  for (std::size_t size = 0;; size = std::min(size + 997, wal.size())) {
    write(copy, file);
    write(copy.string() + "-wal", wal.substr(0, size));
    auto survivor = open_sqlite_store(copy.string());
    ASSERT_TRUE(survivor) << survivor.error().message();
    const std::uint64_t reached = (*survivor)->count_dead_letters(1)->parked;
    for (const std::uint64_t group : {1u, 2u}) {
      const GroupState state = (*survivor)->group_state(group).value();
      ASSERT_EQ(state.cursors, round(group, reached).cursors);
      ASSERT_EQ(state.pending.size(), reached);
      ASSERT_EQ((*survivor)->dead_letters(group, 0, 100)->size(), reached);
    }
    ASSERT_GE(reached, before);
    before = reached;
    if (size == wal.size()) break;
  }
  EXPECT_EQ(before, kRounds);
}

}  // namespace
}  // namespace sluice::store
