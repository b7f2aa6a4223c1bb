#include "daemon/store/sim_store.h"

#include <algorithm>
#include <map>
#include <utility>

#include "daemon/store/sim_groups.h"
#include "daemon/store/sim_transactions.h"
#include "shm/base/assert.h"

namespace sluice::store {

struct SimStoreState {
  using Place = std::pair<std::uint32_t, PartitionNumber>;  // topic, partition

  std::uint64_t incarnation = 0;
  std::uint32_t topic_last = 0;
  std::uint32_t producer_last = 0;
  std::map<std::uint32_t, core::TopicRecord> topics;
  std::map<std::pair<std::uint32_t, ProducerId>, std::string> named;  // by topic and id
  std::map<std::pair<Place, std::uint32_t>, Position> fences;         // by old id
  std::map<Place, Position> leases;
  std::map<Place, AuditSnapshot> audits;
  SimGroups groups;
  SimTransactions transactions;

  void forget(std::uint32_t topic) {
    topics.erase(topic);
    std::erase_if(named, [topic](const auto& entry) { return entry.first.first == topic; });
    std::erase_if(fences, [topic](const auto& entry) { return entry.first.first.first == topic; });
    std::erase_if(leases, [topic](const auto& entry) { return entry.first.first == topic; });
    std::erase_if(audits, [topic](const auto& entry) { return entry.first.first == topic; });
    groups.forget(TopicId(topic));
    transactions.forget(TopicId(topic));
  }
};

class SimStore final : public Store {
 public:
  explicit SimStore(SimStoreMedium& medium) : medium_(medium), life_(medium.power_losses_) { medium_.open_ = true; }
  ~SimStore() override { release(); }

  Result<Incarnation> next_incarnation() override {
    Incarnation next;
    const auto change = [&](SimStoreState& state) -> Status {
      next = Incarnation(++state.incarnation);
      return {};
    };
    SLUICE_TRY(commit(change));
    return next;
  }

  Result<std::vector<core::TopicRecord>> topics() override {
    SLUICE_TRY(alive());
    std::vector<core::TopicRecord> all;
    for (const auto& [id, record] : medium_.state_->topics) all.push_back(record);
    return all;
  }

  Result<TopicId> create_topic(const core::TopicConfig& config, std::uint64_t created_ns) override {
    SLUICE_TRY(core::check(config));
    TopicId id;
    const auto change = [&](SimStoreState& state) -> Status {
      for (const auto& [other, record] : state.topics)
        if (record.config.name == config.name)
          return fail(ErrorCode::exists, "creating topic \"" + config.name + "\": it is there already");
      id = TopicId(++state.topic_last);
      state.topics[id.value] = core::TopicRecord{id, config, created_ns};
      return {};
    };
    SLUICE_TRY(commit(change));
    return id;
  }

  Status alter_topic(TopicId id, const core::TopicConfig& config) override {
    SLUICE_TRY(core::check(config));
    return commit_to(id, [&](SimStoreState& state) -> Status {
      for (const auto& [other, record] : state.topics)
        if (other != id.value && record.config.name == config.name)
          return fail(ErrorCode::exists,
                      "altering topic " + std::to_string(id.value) + ": another has the name \"" + config.name + "\"");
      state.topics[id.value].config = config;
      return {};
    });
  }

  Status delete_topic(TopicId id) override {
    return commit_to(id, [&](SimStoreState& state) -> Status {
      state.forget(id.value);
      return {};
    });
  }

  Result<ProducerId> lease_producer_ids(std::uint32_t count) override {
    SLUICE_ASSERT(count > 0);
    ProducerId first;
    const auto change = [&](SimStoreState& state) -> Status {
      if (count > UINT32_MAX - state.producer_last)
        return fail(ErrorCode::quota, "simulated store: all ids of kind producer were given");
      first = ProducerId(state.producer_last + 1);
      state.producer_last += count;
      return {};
    };
    SLUICE_TRY(commit(change));
    return first;
  }

  Result<std::vector<NamedProducer>> named_producers(TopicId topic) override {
    SLUICE_TRY(alive());
    std::vector<NamedProducer> all;
    for (const auto& [key, name] : medium_.state_->named)
      if (key.first == topic.value) all.push_back({name, key.second});
    return all;
  }

  Status add_named_producer(TopicId topic, const NamedProducer& producer) override {
    return commit_to(topic, [&](SimStoreState& state) -> Status {
      state.named[{topic.value, producer.id}] = producer.name;
      return {};
    });
  }

  Status forget_former_producers(TopicId topic) override {
    return commit_to(topic, [&](SimStoreState& state) -> Status {
      std::map<std::string, ProducerId> holders;
      for (const auto& [key, name] : state.named)
        if (key.first == topic.value) holders[name] = key.second;
      std::erase_if(state.named, [&](const auto& entry) {
        return entry.first.first == topic.value && holders[entry.second] != entry.first.second;
      });
      return {};
    });
  }

  Result<std::vector<FenceRecord>> fences(TopicId topic) override {
    SLUICE_TRY(alive());
    std::vector<FenceRecord> all;
    for (const auto& [key, position] : medium_.state_->fences)
      if (key.first.first == topic.value) all.push_back({key.first.second, ProducerId(key.second), position});
    std::stable_sort(all.begin(), all.end(), [](const FenceRecord& a, const FenceRecord& b) {
      return std::pair(a.partition, a.position) < std::pair(b.partition, b.position);
    });
    return all;
  }

  Status add_fence(TopicId topic, const FenceRecord& fence) override {
    return commit_to(topic, [&](SimStoreState& state) -> Status {
      state.fences[{{topic.value, fence.partition}, fence.old_id.value}] = fence.position;
      return {};
    });
  }

  Status drop_fences_below(TopicId topic, PartitionNumber partition, Position trimmed) override {
    return commit([&](SimStoreState& state) -> Status {
      const SimStoreState::Place place{topic.value, partition};
      std::erase_if(state.fences,
                    [&](const auto& entry) { return entry.first.first == place && entry.second < trimmed; });
      return {};
    });
  }

  Result<Position> position_lease(TopicId topic, PartitionNumber partition) override {
    SLUICE_TRY(alive());
    const auto found = medium_.state_->leases.find({topic.value, partition});
    return found == medium_.state_->leases.end() ? Position() : found->second;
  }

  Status set_position_lease(TopicId topic, PartitionNumber partition, Position lease) override {
    return commit_to(topic, [&](SimStoreState& state) -> Status {
      Position& kept = state.leases[{topic.value, partition}];
      kept = std::max(kept, lease);
      return {};
    });
  }

  Result<AuditSnapshot> audit_snapshot(TopicId topic, PartitionNumber partition) override {
    SLUICE_TRY(alive());
    const auto found = medium_.state_->audits.find({topic.value, partition});
    return found == medium_.state_->audits.end() ? AuditSnapshot() : found->second;
  }

  Status save_audit_snapshot(TopicId topic, PartitionNumber partition, const AuditSnapshot& snapshot) override {
    return commit_to(topic, [&](SimStoreState& state) -> Status {
      AuditSnapshot& kept = state.audits[{topic.value, partition}];
      std::vector<core::Delay> delays = std::move(kept.delays.delays);
      std::erase_if(delays, [&](const core::Delay& delay) { return delay <= snapshot.delays.done; });
      delays.insert(delays.end(), snapshot.delays.delays.begin(), snapshot.delays.delays.end());
      std::map<Position, core::Half> halves;
      for (core::Half& half : kept.halves.added) halves.try_emplace(half.position, std::move(half));
      for (const core::Half& half : snapshot.halves.added) halves[half.position] = half;
      for (const Position position : snapshot.halves.ended) {
        halves.erase(position);
        state.transactions.end({topic, partition, position});
      }
      kept = snapshot;
      kept.delays.delays = std::move(delays);
      kept.halves.added.clear();
      for (auto& [position, half] : halves) kept.halves.added.push_back(std::move(half));
      kept.halves.ended.clear();
      return {};
    });
  }

  Status save_audit_rows(TopicId topic, const std::vector<ReportedRow>& rows) override {
    return commit_to(topic, [&](SimStoreState& state) -> Status {
      for (const ReportedRow& reported : rows) {
        const auto snapshot = state.audits.find({topic.value, reported.partition});
        if (snapshot == state.audits.end()) continue;
        std::vector<core::AuditRow>& kept = snapshot->second.rows;
        std::erase_if(kept, [&](const core::AuditRow& row) { return row.producer == reported.row.producer; });
        const auto above = std::find_if(
            kept.begin(), kept.end(), [&](const core::AuditRow& row) { return row.producer > reported.row.producer; });
        kept.insert(above, reported.row);
      }
      return {};
    });
  }

  Result<std::vector<GroupRecord>> groups() override {
    SLUICE_TRY(alive());
    return medium_.state_->groups.groups();
  }

  Result<std::uint64_t> create_group(const GroupRecord& record) override {
    SLUICE_TRY(check(record));
    std::uint64_t id = 0;
    const auto change = [&](SimStoreState& state) -> Status {
      SLUICE_ASSIGN(id, state.groups.create(record));
      return {};
    };
    SLUICE_TRY(commit(change));
    return id;
  }

  Status update_group(const GroupRecord& record) override {
    SLUICE_TRY(check(record));
    return commit([&](SimStoreState& state) { return state.groups.update(record); });
  }

  Status delete_group(std::uint64_t group) override {
    return commit([&](SimStoreState& state) { return state.groups.erase(group); });
  }

  Result<GroupState> group_state(std::uint64_t group) override {
    SLUICE_TRY(alive());
    return medium_.state_->groups.state(group);
  }

  Status save_groups(const std::vector<GroupSave>& saves) override {
    SLUICE_TRY(check(saves));
    return commit([&](SimStoreState& state) -> Status {
      const auto has_topic = [&](TopicId topic) { return state.topics.contains(topic.value); };
      for (const GroupSave& save : saves) SLUICE_TRY(state.groups.save(save, has_topic));
      return {};
    });
  }

  Status save_decisions(std::vector<Decision>& decisions, const std::vector<GroupSave>& acks) override {
    SLUICE_TRY(check(acks));
    return commit([&](SimStoreState& state) -> Status {
      const auto has_topic = [&](TopicId topic) { return state.topics.contains(topic.value); };
      for (Decision& decision : decisions) SLUICE_TRY(state.transactions.decide(decision, has_topic));
      for (const GroupSave& save : acks) SLUICE_TRY(state.groups.save(save, has_topic));
      return {};
    });
  }

  Result<std::optional<Decision>> decision(TransactionId transaction) override {
    SLUICE_TRY(alive());
    return medium_.state_->transactions.decision(transaction);
  }

  Result<std::vector<DecidedHalf>> decided_halves(TopicId topic, PartitionNumber partition) override {
    SLUICE_TRY(alive());
    return medium_.state_->transactions.decided_halves(topic, partition);
  }

  Result<TransactionNotes> transaction_notes() override {
    SLUICE_TRY(alive());
    return medium_.state_->transactions.notes();
  }

  Status save_transaction_notes(const TransactionNotes& notes) override {
    return commit([&](SimStoreState& state) -> Status {
      for (const TransactionNote& note : notes.transactions) state.transactions.note(note);
      for (const SilentGroup& group : notes.groups) state.transactions.note(group);
      return {};
    });
  }

  Result<std::uint64_t> forget_decisions(std::uint64_t before_ns, std::uint64_t keep, std::uint32_t count) override {
    std::uint64_t forgotten = 0;
    const auto change = [&](SimStoreState& state) -> Status {
      forgotten = state.transactions.forget_decisions(before_ns, keep, count);
      return {};
    };
    SLUICE_TRY(commit(change));
    return forgotten;
  }

  Result<std::vector<DeadLetterRecord>> dead_letters(std::uint64_t group, std::uint64_t after,
                                                     std::uint32_t limit) override {
    SLUICE_TRY(alive());
    return medium_.state_->groups.letters(group, after, limit);
  }

  Result<DeadLetterCounts> count_dead_letters(std::uint64_t group) override {
    SLUICE_TRY(alive());
    return medium_.state_->groups.count(group);
  }
  Result<std::vector<std::pair<GroupPosition, std::uint64_t>>> count_parked(std::uint64_t group) override {
    SLUICE_TRY(alive());
    return medium_.state_->groups.count_parked(group);
  }
  Result<std::vector<Position>> parked_from(std::uint64_t group, const GroupPosition& origin,
                                            std::uint32_t limit) override {
    SLUICE_TRY(alive());
    return medium_.state_->groups.parked_from(group, origin, limit);
  }

  Status forget_dead_letters(std::uint64_t group, std::uint64_t keep) override {
    return commit([&](SimStoreState& state) { return state.groups.forget_letters(group, keep); });
  }

  Result<std::uint64_t> commits() override {
    SLUICE_TRY(alive());
    return medium_.commits_;
  }
  Result<std::unique_ptr<StoreCopy>> copy_to(const std::string& path) override {
    return fail(ErrorCode::invalid, "copying the simulated store to " + path + ": it has no file");
  }
  Status close() override {
    SLUICE_TRY(alive());
    release();
    closed_ = true;
    return {};
  }

 private:
  Status alive() const {
    if (closed_) return fail(ErrorCode::io, "using the simulated store: it is closed");
    if (life_ != medium_.power_losses_) return fail(ErrorCode::io, "using the simulated store: its power was lost");
    return {};
  }

  void release() {
    if (!closed_ && life_ == medium_.power_losses_) medium_.open_ = false;
  }

  // One transaction: `change` works on a copy, which becomes the state as a whole.
  template <typename Change>
  Status commit(Change change) {
    SLUICE_TRY(alive());
    if (medium_.refusal_) {
      const ErrorCode code = *std::exchange(medium_.refusal_, std::nullopt);
      return fail(code, "committing to the simulated store: refused, as planned");
    }
    auto next = std::make_unique<SimStoreState>(*medium_.state_);
    Status changed = change(*next);
    const bool power_goes = medium_.calls_to_loss_ != 0 && --medium_.calls_to_loss_ == 0;
    if (power_goes) {
      if (changed && medium_.random_() % 2 == 0) publish(std::move(next));
      medium_.lose_power();
      return fail(ErrorCode::io, "committing to the simulated store: its power was lost");
    }
    if (changed) publish(std::move(next));
    return changed;
  }

  template <typename Change>
  Status commit_to(TopicId topic, Change change) {
    return commit([&](SimStoreState& state) -> Status {
      if (!state.topics.contains(topic.value))
        return fail(ErrorCode::not_found, "changing topic " + std::to_string(topic.value) + ": there is none");
      return change(state);
    });
  }

  void publish(std::unique_ptr<SimStoreState> next) {
    medium_.state_ = std::move(next);
    ++medium_.commits_;
  }

  SimStoreMedium& medium_;
  const std::uint64_t life_;  // the number of power losses at which it was opened
  bool closed_ = false;
};

SimStoreMedium::SimStoreMedium(std::uint64_t seed) : state_(std::make_unique<SimStoreState>()), random_(seed) {}
SimStoreMedium::~SimStoreMedium() = default;

Result<std::unique_ptr<Store>> SimStoreMedium::open() {
  if (open_) return fail(ErrorCode::in_use, "opening the simulated store: it is open already");
  return std::make_unique<SimStore>(*this);
}

void SimStoreMedium::lose_power() {
  ++power_losses_;
  calls_to_loss_ = 0;
  refusal_.reset();
  open_ = false;
}

void SimStoreMedium::lose_power_in(std::uint64_t calls) { calls_to_loss_ = calls; }
void SimStoreMedium::fail_next(ErrorCode code) { refusal_ = code; }

}  // namespace sluice::store
