// The store in several copies: what is answered is committed in every good one.
#include "daemon/store/mirror_store.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// A store of one copy that can be made to fail.
class FailingStore final : public Store {
 public:
  FailingStore(std::unique_ptr<Store> store, const ErrorCode* failure) : store_(std::move(store)), failure_(failure) {}

  Result<std::uint64_t> commits() override { return store_->commits(); }
  Result<std::unique_ptr<StoreCopy>> copy_to(const std::string& path) override { return store_->copy_to(path); }
  Result<Incarnation> next_incarnation() override {
    SLUICE_TRY(works());
    return store_->next_incarnation();
  }
  Result<std::vector<core::TopicRecord>> topics() override {
    SLUICE_TRY(works());
    return store_->topics();
  }
  Result<TopicId> create_topic(const core::TopicConfig& config, std::uint64_t created_ns) override {
    SLUICE_TRY(works());
    return store_->create_topic(config, created_ns);
  }
  Status alter_topic(TopicId id, const core::TopicConfig& config) override { return store_->alter_topic(id, config); }
  Status delete_topic(TopicId id) override { return store_->delete_topic(id); }
  Result<ProducerId> lease_producer_ids(std::uint32_t count) override { return store_->lease_producer_ids(count); }
  Result<std::vector<NamedProducer>> named_producers(TopicId topic) override { return store_->named_producers(topic); }
  Status add_named_producer(TopicId topic, const NamedProducer& producer) override {
    return store_->add_named_producer(topic, producer);
  }
  Status forget_former_producers(TopicId topic) override { return store_->forget_former_producers(topic); }
  Result<std::vector<FenceRecord>> fences(TopicId topic) override { return store_->fences(topic); }
  Status add_fence(TopicId topic, const FenceRecord& fence) override { return store_->add_fence(topic, fence); }
  Status drop_fences_below(TopicId topic, PartitionNumber partition, Position trimmed) override {
    return store_->drop_fences_below(topic, partition, trimmed);
  }
  Result<Position> position_lease(TopicId topic, PartitionNumber partition) override {
    return store_->position_lease(topic, partition);
  }
  Status set_position_lease(TopicId topic, PartitionNumber partition, Position lease) override {
    return store_->set_position_lease(topic, partition, lease);
  }
  Result<AuditSnapshot> audit_snapshot(TopicId topic, PartitionNumber partition) override {
    return store_->audit_snapshot(topic, partition);
  }
  Status save_audit_snapshot(TopicId topic, PartitionNumber partition, const AuditSnapshot& snapshot) override {
    return store_->save_audit_snapshot(topic, partition, snapshot);
  }
  Status save_audit_rows(TopicId topic, const std::vector<ReportedRow>& rows) override {
    return store_->save_audit_rows(topic, rows);
  }
  Result<std::vector<GroupRecord>> groups() override { return store_->groups(); }
  Result<std::uint64_t> create_group(const GroupRecord& record) override {
    SLUICE_TRY(works());
    return store_->create_group(record);
  }
  Status update_group(const GroupRecord& record) override { return store_->update_group(record); }
  Status delete_group(std::uint64_t group) override { return store_->delete_group(group); }
  Result<GroupState> group_state(std::uint64_t group) override {
    SLUICE_TRY(works());
    return store_->group_state(group);
  }
  Status save_groups(const std::vector<GroupSave>& saves) override {
    SLUICE_TRY(works());
    return store_->save_groups(saves);
  }
  Result<std::vector<DeadLetterRecord>> dead_letters(std::uint64_t group, std::uint64_t after,
                                                     std::uint32_t limit) override {
    return store_->dead_letters(group, after, limit);
  }
  Result<DeadLetterCounts> count_dead_letters(std::uint64_t group) override {
    return store_->count_dead_letters(group);
  }
  Result<std::vector<std::pair<GroupPosition, std::uint64_t>>> count_parked(std::uint64_t group) override {
    return store_->count_parked(group);
  }
  Result<std::vector<Position>> parked_from(std::uint64_t group, const GroupPosition& origin,
                                            std::uint32_t limit) override {
    return store_->parked_from(group, origin, limit);
  }
  Status forget_dead_letters(std::uint64_t group, std::uint64_t keep) override {
    return store_->forget_dead_letters(group, keep);
  }
  Status save_decisions(std::vector<Decision>& decisions, const std::vector<GroupSave>& acks) override {
    return store_->save_decisions(decisions, acks);
  }
  Result<std::optional<Decision>> decision(TransactionId transaction) override { return store_->decision(transaction); }
  Result<std::vector<DecidedHalf>> decided_halves(TopicId topic, PartitionNumber partition) override {
    return store_->decided_halves(topic, partition);
  }
  Result<TransactionNotes> transaction_notes() override { return store_->transaction_notes(); }
  Status save_transaction_notes(const TransactionNotes& notes) override {
    return store_->save_transaction_notes(notes);
  }
  Result<std::uint64_t> forget_decisions(std::uint64_t before_ns, std::uint64_t keep, std::uint32_t count) override {
    return store_->forget_decisions(before_ns, keep, count);
  }
  Status close() override { return store_->close(); }

 private:
  Status works() const {
    if (*failure_ == ErrorCode{}) return {};
    return fail(*failure_, "a store that is made to fail");
  }
  const std::unique_ptr<Store> store_;
  const ErrorCode* const failure_;
};

class MirrorStoreTest : public testing::Test, protected Copies {
 protected:
  MirrorStoreTest() {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-store-XXXXXX").string();
    directory_ = mkdtemp(name.data());
    for (std::size_t copy = 0; copy < count(); ++copy)
      std::filesystem::create_directories(std::filesystem::path(store_path(copy)).parent_path());
  }
  ~MirrorStoreTest() override {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }

  std::size_t count() const override { return 2; }
  bool is_good(std::size_t copy) const override { return good_[copy]; }
  Status mark_stale(std::size_t copy, const std::string&) override {
    good_[copy] = false;
    marked_.push_back(copy);
    return {};
  }
  std::string store_path(std::size_t copy) const override {
    return (directory_ / std::to_string(copy) / "store.db").string();
  }

  void open() {
    store_.reset();
    auto opened = open_mirror_store(*this, [this](const std::string& path) -> Result<std::unique_ptr<Store>> {
      SLUICE_ASSIGN(std::unique_ptr<Store> store, open_sqlite_store(path));
      return std::unique_ptr<Store>(
          std::make_unique<FailingStore>(std::move(store), &failures_[path == store_path(1) ? 1 : 0]));
    });
    ASSERT_TRUE(opened) << opened.error().message();
    store_ = std::move(*opened);
  }
  void close() {
    ASSERT_TRUE(store_->close());
    store_.reset();
  }
  static core::TopicConfig topic(const std::string& name) {
    core::TopicConfig config;
    config.name = name;
    return config;
  }
  // The names of the topics in one copy's file.
  std::vector<std::string> topics_in(std::size_t copy) {
    const auto alone = std::move(open_sqlite_store(store_path(copy)).value());
    std::vector<std::string> names;
    const auto records = alone->topics();
    for (const core::TopicRecord& record : records.value()) names.push_back(record.config.name);
    EXPECT_TRUE(alone->close());
    return names;
  }

  std::filesystem::path directory_;
  std::vector<bool> good_ = {true, true};
  std::vector<std::size_t> marked_;
  std::vector<ErrorCode> failures_ = {ErrorCode{}, ErrorCode{}};
  std::unique_ptr<MirrorStore> store_;
};

TEST_F(MirrorStoreTest, a_commit_is_in_every_copy) {
  open();
  ASSERT_TRUE(store_->create_topic(topic("a"), 1));
  close();
  EXPECT_THAT(topics_in(0), ElementsAre("a"));
  EXPECT_THAT(topics_in(1), ElementsAre("a"));
}

TEST_F(MirrorStoreTest, what_is_saved_of_a_group_is_in_every_copy_that_works_and_one_that_fails_is_marked) {
  open();
  ASSERT_TRUE(store_->create_topic(topic("a"), 1));
  GroupRecord record;
  record.config.name = "g";
  ASSERT_EQ(store_->create_group(record).value(), 1u);
  GroupSave save;
  save.group = 1;
  save.cursors = {{{TopicId(1), 0}, Position(100), {{Position(200), Position(300)}}}};
  save.pending = {{{TopicId(1), 0}, Position(200), 1, 1, 1, 5, 0, 0, 0, "later"}};
  save.letters.emplace_back().origin_topic = "a";
  ASSERT_TRUE(store_->save_groups({save}));
  failures_[1] = ErrorCode::io;
  GroupSave further;
  further.group = 1;
  further.cursors = {{{TopicId(1), 0}, Position(300), {}}};
  ASSERT_TRUE(store_->save_groups({further}));
  EXPECT_THAT(marked_, ElementsAre(1u));
  close();
  for (const std::size_t copy : {0u, 1u}) {
    const auto alone = std::move(open_sqlite_store(store_path(copy)).value());
    const GroupState state = alone->group_state(1).value();
    EXPECT_EQ(state.cursors, copy == 0 ? further.cursors : save.cursors);
    EXPECT_EQ(state.pending, save.pending);
    EXPECT_EQ(alone->dead_letters(1, 0, 10)->size(), 1u);
  }
}

TEST_F(MirrorStoreTest, a_copy_that_gives_another_group_id_has_diverged) {
  open();
  GroupRecord record;
  record.config.name = "only-in-1";
  close();
  {
    // As many commits in both, and not the same ones.
    const auto first = std::move(open_sqlite_store(store_path(0)).value());
    const auto second = std::move(open_sqlite_store(store_path(1)).value());
    ASSERT_TRUE(first->next_incarnation());
    ASSERT_TRUE(second->create_group(record));
  }
  open();
  record.config.name = "g";
  EXPECT_EQ(store_->create_group(record).value(), 1u);
  EXPECT_THAT(marked_, ElementsAre(1u));
}

TEST_F(MirrorStoreTest, a_copy_that_is_behind_is_brought_up_at_the_start) {
  open();
  ASSERT_TRUE(store_->create_topic(topic("a"), 1));
  close();
  for (const std::size_t ahead : {1u, 0u}) {
    // The daemon died between two commits.
    const auto alone = std::move(open_sqlite_store(store_path(ahead)).value());
    ASSERT_TRUE(alone->create_topic(topic("only-in-" + std::to_string(ahead)), 2));
    ASSERT_TRUE(alone->close());
    open();
    EXPECT_EQ(store_->topics()->size(), ahead == 1 ? 2u : 3u);
    close();
    EXPECT_EQ(topics_in(0), topics_in(1));
  }
  EXPECT_THAT(topics_in(0), ElementsAre("a", "only-in-1", "only-in-0"));
  EXPECT_THAT(marked_, IsEmpty());
}

TEST_F(MirrorStoreTest, a_copy_that_is_gone_or_damaged_is_made_again) {
  open();
  ASSERT_TRUE(store_->create_topic(topic("a"), 1));
  close();
  for (const std::size_t copy : {0u, 1u}) {
    std::filesystem::remove(store_path(copy));
    open();
    EXPECT_EQ(store_->topics()->size(), 1u);
    close();
    std::ofstream(store_path(copy), std::ios::trunc) << "this is no database, and it is longer than a header, too ....";
    open();
    EXPECT_EQ(store_->topics()->size(), 1u);
    close();
    EXPECT_THAT(topics_in(copy), ElementsAre("a"));
    EXPECT_TRUE(std::filesystem::exists(store_path(copy) + ".damaged"));
  }
  EXPECT_THAT(marked_, IsEmpty());
}

TEST_F(MirrorStoreTest, a_copy_that_fails_is_marked_before_the_answer) {
  for (const std::size_t failing : {0u, 1u}) {
    good_ = {true, true};
    marked_.clear();
    open();
    failures_[failing] = ErrorCode::io;
    ASSERT_TRUE(store_->create_topic(topic("t" + std::to_string(failing)), 1));
    EXPECT_THAT(marked_, ElementsAre(failing));
    EXPECT_TRUE(store_->topics());
    failures_[failing] = ErrorCode{};
    ASSERT_TRUE(store_->next_incarnation());
    close();
    const auto has = topics_in(failing);
    EXPECT_EQ(std::count(has.begin(), has.end(), "t" + std::to_string(failing)), 0);
  }
}

TEST_F(MirrorStoreTest, a_read_that_fails_goes_to_the_next_copy) {
  open();
  failures_[0] = ErrorCode::corrupt;
  EXPECT_TRUE(store_->topics());
  EXPECT_THAT(marked_, ElementsAre(0u));
}

TEST_F(MirrorStoreTest, where_every_copy_fails_the_caller_is_told_and_none_is_marked) {
  open();
  failures_ = {ErrorCode::io, ErrorCode::io};
  EXPECT_EQ(store_->create_topic(topic("a"), 1).error().code(), ErrorCode::io);
  EXPECT_THAT(marked_, IsEmpty());
}

TEST_F(MirrorStoreTest, a_full_disk_pushes_back_unless_another_copy_has_committed) {
  open();
  failures_[0] = ErrorCode::would_block;
  EXPECT_EQ(store_->create_topic(topic("a"), 1).error().code(), ErrorCode::would_block);
  EXPECT_THAT(marked_, IsEmpty());
  failures_ = {ErrorCode{}, ErrorCode::would_block};
  EXPECT_TRUE(store_->create_topic(topic("a"), 1));
  EXPECT_THAT(marked_, ElementsAre(1u));
}

TEST_F(MirrorStoreTest, a_refused_call_says_nothing_against_a_copy) {
  open();
  ASSERT_TRUE(store_->create_topic(topic("a"), 1));
  EXPECT_EQ(store_->create_topic(topic("a"), 1).error().code(), ErrorCode::exists);
  EXPECT_EQ(store_->delete_topic(TopicId(77)).error().code(), ErrorCode::not_found);
  EXPECT_THAT(marked_, IsEmpty());
}

TEST_F(MirrorStoreTest, a_stale_copy_is_filled_while_commits_go_on) {
  good_ = {true, false};
  open();
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(store_->create_topic(topic("t" + std::to_string(i)), 1));
  ASSERT_TRUE(store_->begin_fill(1));
  int steps = 0;
  for (;; ++steps) {
    const auto done = store_->fill(2);
    ASSERT_TRUE(done) << done.error().message();
    if (*done) break;
    ASSERT_TRUE(store_->create_topic(topic("meanwhile" + std::to_string(steps)), 1));
  }
  EXPECT_GT(steps, 5);
  // Filled, and not good yet.
  ASSERT_TRUE(store_->create_topic(topic("filled"), 1));
  EXPECT_TRUE(store_->is_filled(1));
  good_[1] = true;
  ASSERT_TRUE(store_->create_topic(topic("good"), 1));
  close();
  EXPECT_EQ(topics_in(0), topics_in(1));
  EXPECT_EQ(topics_in(1).size(), 302u + static_cast<std::size_t>(steps));
  EXPECT_THAT(marked_, IsEmpty());
}

TEST_F(MirrorStoreTest, a_filled_copy_that_fails_before_it_is_good_is_not_filled_any_more) {
  good_ = {true, false};
  open();
  ASSERT_TRUE(store_->begin_fill(1));
  for (auto done = store_->fill(100); !done.value(); done = store_->fill(100)) continue;
  failures_[1] = ErrorCode::io;
  EXPECT_TRUE(store_->create_topic(topic("a"), 1));
  EXPECT_FALSE(store_->is_filled(1));
  EXPECT_THAT(marked_, IsEmpty());
}

}  // namespace
}  // namespace sluice::store
