#include "daemon/store/mirror_store.h"

#include <cerrno>
#include <cstdio>
#include <optional>
#include <type_traits>
#include <utility>

#include "shm/base/assert.h"

namespace sluice::store {
namespace {

constexpr std::uint32_t kPagesAtOnce = 1024;  // of a copy that is made before anything is served

// What says something about the disk or the file, not about the call.
bool is_failure_of_a_copy(ErrorCode code) {
  return code == ErrorCode::io || code == ErrorCode::corrupt || code == ErrorCode::permission ||
         code == ErrorCode::internal;
}

bool same(const Status&, const Status&) { return true; }
template <typename T>
bool same(const Result<T>& one, const Result<T>& other) {
  return *one == *other;
}

class FileMirrorStore final : public MirrorStore {
 public:
  FileMirrorStore(Copies& copies, OpenStore open) : copies_(copies), open_(std::move(open)), stores_(copies.count()) {}

  Status open_all();

  Status begin_fill(std::size_t copy) override;
  Result<bool> fill(std::uint32_t pages) override;
  bool is_filled(std::size_t copy) const override { return stores_[copy] != nullptr; }
  void end_fill() override;

  Result<std::uint64_t> commits() override {
    return read([](Store& s) { return s.commits(); });
  }
  Result<std::unique_ptr<StoreCopy>> copy_to(const std::string& path) override {
    return read([&](Store& s) { return s.copy_to(path); });
  }
  Result<Incarnation> next_incarnation() override {
    return write([](Store& s) { return s.next_incarnation(); });
  }
  Result<std::vector<core::TopicRecord>> topics() override {
    return read([](Store& s) { return s.topics(); });
  }
  Result<TopicId> create_topic(const core::TopicConfig& config, std::uint64_t created_ns) override {
    return write([&](Store& s) { return s.create_topic(config, created_ns); });
  }
  Status alter_topic(TopicId id, const core::TopicConfig& config) override {
    return write([&](Store& s) { return s.alter_topic(id, config); });
  }
  Status delete_topic(TopicId id) override {
    return write([&](Store& s) { return s.delete_topic(id); });
  }
  Result<ProducerId> lease_producer_ids(std::uint32_t count) override {
    return write([&](Store& s) { return s.lease_producer_ids(count); });
  }
  Result<std::vector<NamedProducer>> named_producers(TopicId topic) override {
    return read([&](Store& s) { return s.named_producers(topic); });
  }
  Status add_named_producer(TopicId topic, const NamedProducer& producer) override {
    return write([&](Store& s) { return s.add_named_producer(topic, producer); });
  }
  Status forget_former_producers(TopicId topic) override {
    return write([&](Store& s) { return s.forget_former_producers(topic); });
  }
  Result<std::vector<FenceRecord>> fences(TopicId topic) override {
    return read([&](Store& s) { return s.fences(topic); });
  }
  Status add_fence(TopicId topic, const FenceRecord& fence) override {
    return write([&](Store& s) { return s.add_fence(topic, fence); });
  }
  Status drop_fences_below(TopicId topic, PartitionNumber partition, Position trimmed) override {
    return write([&](Store& s) { return s.drop_fences_below(topic, partition, trimmed); });
  }
  Result<Position> position_lease(TopicId topic, PartitionNumber partition) override {
    return read([&](Store& s) { return s.position_lease(topic, partition); });
  }
  Status set_position_lease(TopicId topic, PartitionNumber partition, Position lease) override {
    return write([&](Store& s) { return s.set_position_lease(topic, partition, lease); });
  }
  Result<AuditSnapshot> audit_snapshot(TopicId topic, PartitionNumber partition) override {
    return read([&](Store& s) { return s.audit_snapshot(topic, partition); });
  }
  Status save_audit_snapshot(TopicId topic, PartitionNumber partition, const AuditSnapshot& snapshot) override {
    return write([&](Store& s) { return s.save_audit_snapshot(topic, partition, snapshot); });
  }
  Status save_audit_rows(TopicId topic, const std::vector<ReportedRow>& rows) override {
    return write([&](Store& s) { return s.save_audit_rows(topic, rows); });
  }
  Result<std::vector<GroupRecord>> groups() override {
    return read([](Store& s) { return s.groups(); });
  }
  Result<std::uint64_t> create_group(const GroupRecord& record) override {
    return write([&](Store& s) { return s.create_group(record); });
  }
  Status update_group(const GroupRecord& record) override {
    return write([&](Store& s) { return s.update_group(record); });
  }
  Status delete_group(std::uint64_t group) override {
    return write([&](Store& s) { return s.delete_group(group); });
  }
  Result<GroupState> group_state(std::uint64_t group) override {
    return read([&](Store& s) { return s.group_state(group); });
  }
  Status save_decisions(std::vector<Decision>& decisions, const std::vector<GroupSave>& acks) override {
    return write([&](Store& s) { return s.save_decisions(decisions, acks); });
  }
  Result<std::optional<Decision>> decision(TransactionId transaction) override {
    return read([&](Store& s) { return s.decision(transaction); });
  }
  Result<std::vector<DecidedHalf>> decided_halves(TopicId topic, PartitionNumber partition) override {
    return read([&](Store& s) { return s.decided_halves(topic, partition); });
  }
  Result<TransactionNotes> transaction_notes() override {
    return read([](Store& s) { return s.transaction_notes(); });
  }
  Status save_transaction_notes(const TransactionNotes& notes) override {
    return write([&](Store& s) { return s.save_transaction_notes(notes); });
  }
  Result<std::uint64_t> forget_decisions(std::uint64_t before_ns, std::uint64_t keep, std::uint32_t count) override {
    return write([&](Store& s) { return s.forget_decisions(before_ns, keep, count); });
  }
  Status save_groups(const std::vector<GroupSave>& saves) override {
    return write([&](Store& s) { return s.save_groups(saves); });
  }
  Result<std::vector<DeadLetterRecord>> dead_letters(std::uint64_t group, std::uint64_t after,
                                                     std::uint32_t limit) override {
    return read([&](Store& s) { return s.dead_letters(group, after, limit); });
  }
  Result<DeadLetterCounts> count_dead_letters(std::uint64_t group) override {
    return read([&](Store& s) { return s.count_dead_letters(group); });
  }
  Result<std::vector<std::pair<GroupPosition, std::uint64_t>>> count_parked(std::uint64_t group) override {
    return read([&](Store& s) { return s.count_parked(group); });
  }
  Result<std::vector<Position>> parked_from(std::uint64_t group, const GroupPosition& origin,
                                            std::uint32_t limit) override {
    return read([&](Store& s) { return s.parked_from(group, origin, limit); });
  }
  Status forget_dead_letters(std::uint64_t group, std::uint64_t keep) override {
    return write([&](Store& s) { return s.forget_dead_letters(group, keep); });
  }
  Status close() override;

 private:
  struct Filling {
    std::size_t copy = 0;
    std::unique_ptr<StoreCopy> work;
  };

  bool usable(std::size_t copy) const { return stores_[copy] != nullptr && copies_.is_good(copy); }
  std::vector<std::size_t> written() const;
  Status give_up(std::size_t copy, const Error& error);
  Status mend(std::size_t copy, Store& from);
  template <typename Call>
  auto read(Call call) -> decltype(call(std::declval<Store&>()));
  template <typename Call>
  auto write(Call call) -> decltype(call(std::declval<Store&>()));

  Copies& copies_;
  const OpenStore open_;
  std::vector<std::unique_ptr<Store>> stores_;  // by copy; null: not good, or given up
  std::optional<Filling> filling_;              // goes before the stores: it reads from one of them
};

// The copy goes: its file is left as it is.
Status FileMirrorStore::give_up(std::size_t copy, const Error& error) {
  stores_[copy].reset();
  if (!copies_.is_good(copy)) return {};
  std::size_t others = 0;
  for (std::size_t other = 0; other < copies_.count(); ++other) others += other != copy && copies_.is_good(other);
  if (others == 0) return fail(error);
  return copies_.mark_stale(copy, error.message());
}

template <typename Call>
auto FileMirrorStore::read(Call call) -> decltype(call(std::declval<Store&>())) {
  std::optional<Error> first;
  for (std::size_t copy = 0; copy < stores_.size(); ++copy) {
    if (!usable(copy)) continue;
    auto result = call(*stores_[copy]);
    if (result || !is_failure_of_a_copy(result.error().code())) return result;
    if (!first) first = result.error();
    SLUICE_TRY(give_up(copy, result.error()));
  }
  if (first) return fail(*first);
  return fail(ErrorCode::io, "using the store: no copy of it is left; look at the disks, then start again");
}

// The good copies, and then one that was filled and is not good yet.
std::vector<std::size_t> FileMirrorStore::written() const {
  std::vector<std::size_t> order;
  for (const bool good : {true, false})
    for (std::size_t copy = 0; copy < stores_.size(); ++copy)
      if (stores_[copy] != nullptr && copies_.is_good(copy) == good) order.push_back(copy);
  // A filled one does not stand for the others.
  if (!order.empty() && !copies_.is_good(order.front())) order.clear();
  return order;
}

template <typename Call>
auto FileMirrorStore::write(Call call) -> decltype(call(std::declval<Store&>())) {
  using Answer = decltype(call(std::declval<Store&>()));
  std::optional<Answer> answer;
  std::vector<std::pair<std::size_t, Error>> failed;
  for (const std::size_t copy : written()) {
    Answer result = call(*stores_[copy]);
    if (!answer && result) {
      answer = std::move(result);
    } else if (!answer && !is_failure_of_a_copy(result.error().code())) {
      // Refused before anything was committed anywhere: the others would say the same, or are full too.
      if (failed.empty()) return result;
      answer = std::move(result);
      break;
    } else if (!result) {
      failed.emplace_back(copy, result.error());
    } else if (!same(*answer, result)) {
      failed.emplace_back(copy, Error(ErrorCode::corrupt, "the store " + copies_.store_path(copy) +
                                                              " answers otherwise than the other copies"));
    }
  }
  // Where none of them could do it, none is worse than the others.
  if (!answer) {
    if (!failed.empty()) return fail(failed.front().second);
    return fail(ErrorCode::io, "using the store: no copy of it is left; look at the disks, then start again");
  }
  for (const auto& [copy, error] : failed) SLUICE_TRY(give_up(copy, error));
  return std::move(*answer);
}

Status FileMirrorStore::open_all() {
  std::vector<std::pair<std::size_t, Error>> broken;
  std::optional<std::size_t> best;
  std::vector<std::uint64_t> counts(stores_.size());
  for (std::size_t copy = 0; copy < stores_.size(); ++copy) {
    if (!copies_.is_good(copy)) continue;
    auto opened = open_(copies_.store_path(copy));
    if (!opened && (opened.error().code() == ErrorCode::version || opened.error().code() == ErrorCode::in_use))
      return fail(opened.error());
    if (opened) {
      const auto commits = (*opened)->commits();
      if (commits) {
        counts[copy] = *commits;
        stores_[copy] = std::move(*opened);
        if (!best || counts[copy] > counts[*best]) best = copy;
        continue;
      }
      broken.emplace_back(copy, commits.error());
      continue;
    }
    broken.emplace_back(copy, opened.error());
  }
  if (!best) {
    if (!broken.empty()) return fail(broken.front().second);
    return fail(ErrorCode::io, "opening the store: no copy of it is good");
  }
  for (std::size_t copy = 0; copy < stores_.size(); ++copy) {
    if (!copies_.is_good(copy) || (stores_[copy] != nullptr && counts[copy] == counts[*best])) continue;
    if (Status mended = mend(copy, *stores_[*best]); !mended) SLUICE_TRY(give_up(copy, mended.error()));
  }
  return {};
}

// Puts a copy of `from` in place of what is there.
Status FileMirrorStore::mend(std::size_t copy, Store& from) {
  const std::string path = copies_.store_path(copy);
  if (stores_[copy] != nullptr) {
    // Behind the others: all that is in it is in them. Closing it takes its WAL with it.
    SLUICE_TRY(stores_[copy]->close());
    stores_[copy].reset();
  } else if (std::rename(path.c_str(), (path + ".damaged").c_str()) != 0 && errno != ENOENT) {
    return fail(system_error(errno, "keeping " + path + " aside"));
  }
  SLUICE_ASSIGN(const std::unique_ptr<StoreCopy> work, from.copy_to(path));
  for (bool done = false; !done;) {
    SLUICE_ASSIGN(done, work->step(kPagesAtOnce));
  }
  SLUICE_ASSIGN(stores_[copy], open_(path));
  return {};
}

Status FileMirrorStore::begin_fill(std::size_t copy) {
  SLUICE_ASSERT(!copies_.is_good(copy));
  filling_.reset();
  stores_[copy].reset();
  SLUICE_ASSIGN(std::unique_ptr<StoreCopy> work, copy_to(copies_.store_path(copy)));
  filling_ = Filling{copy, std::move(work)};
  return {};
}

Result<bool> FileMirrorStore::fill(std::uint32_t pages) {
  SLUICE_ASSERT(filling_.has_value());
  SLUICE_ASSIGN(const bool done, filling_->work->step(pages));
  if (!done) return false;
  // One thread: nothing is committed between the last step and this.
  const std::size_t copy = filling_->copy;
  filling_.reset();
  SLUICE_ASSIGN(stores_[copy], open_(copies_.store_path(copy)));
  return true;
}

void FileMirrorStore::end_fill() {
  filling_.reset();
  for (std::size_t copy = 0; copy < stores_.size(); ++copy)
    if (!copies_.is_good(copy)) stores_[copy].reset();
}

Status FileMirrorStore::close() {
  filling_.reset();
  Status first;
  for (auto& store : stores_) {
    if (store == nullptr) continue;
    Status closed = store->close();
    if (!closed && first) first = std::move(closed);
    store.reset();
  }
  return first;
}

}  // namespace

Result<std::unique_ptr<MirrorStore>> open_mirror_store(Copies& copies, OpenStore open) {
  auto store = std::make_unique<FileMirrorStore>(copies, std::move(open));
  SLUICE_TRY(store->open_all());
  return std::unique_ptr<MirrorStore>(std::move(store));
}

}  // namespace sluice::store
