// Membership: joining, assignments, what the daemon takes back, coming back to a daemon that is new.
#include <algorithm>
#include <map>
#include <utility>

#include "sdk/consumer_core.h"
#include "shm/base/clock.h"
#include "shm/base/limits.h"

namespace sluice::internal {
namespace {

// What failed for the moment is tried again after it.
constexpr std::uint64_t kRetryNs = 200'000'000;
constexpr std::uint64_t kNever = ~std::uint64_t{0};
// Daemons that may come and go while a consumer is opened.
constexpr int kJoinsMax = 8;

}  // namespace

Result<std::unique_ptr<ConsumerCore>> ConsumerCore::open(std::shared_ptr<BusLink> link, std::vector<std::string> topics,
                                                         ConsumerOptions options) {
  if (topics.empty()) return fail(ErrorCode::invalid, "joining group " + options.group + ": no topic is named");
  if (options.group.empty()) return fail(ErrorCode::invalid, "making a consumer: no group is named");
  std::unique_ptr<ConsumerCore> core(new ConsumerCore(std::move(link), std::move(options)));
  core->request_.group = core->options_.group;
  core->request_.mode = core->options_.mode;
  core->request_.topics = std::move(topics);
  core->request_.tag = core->options_.tag;
  core->request_.from = core->options_.from;
  core->request_.in_flight_max = core->in_flight_max_;
  core->change_seen_ = core->link_->change_word().load(std::memory_order_acquire);
  Result<Joined> joined = core->join({}, {});
  for (int again = 0; !joined && joined.error().code() == ErrorCode::would_block && again < kJoinsMax; ++again)
    joined = core->join({}, {});
  if (!joined) return fail(std::move(joined).error());
  core->member_ = std::move(joined->link);
  core->generation_ = core->member_->session()->generation();
  core->request_.must_exist = true;  // a group that is deleted stays so
  SLUICE_TRY(core->take_assignments(joined->assignments));
  return core;
}

ConsumerCore::~ConsumerCore() {
  if (member_ != nullptr && !closed_) leave(*member_);
}

void ConsumerCore::leave(MemberLink& member) {
  // Not told: it ends with its session.
  static_cast<void>(link_->leave_group(member.member(), member.session()->generation()).has_value());
}

Status ConsumerCore::close() {
  if (closed_) return {};
  Status saved = ack_sync(std::chrono::seconds(30));
  lose_everything();
  rejoin_due_ = assignments_due_ = attention_ = false;
  told_.clear();
  leave(*member_);
  reference_reader_.clear();
  closed_ = Error(ErrorCode::closed, "consuming: this consumer was closed");
  return saved;
}

// ---- joining ----

Result<ConsumerCore::Joined> ConsumerCore::join(std::vector<HeldPartition> partitions,
                                                std::vector<HeldMessage> messages) {
  request_.held_partitions = std::move(partitions);
  request_.held_messages = std::move(messages);
  SLUICE_ASSIGN(MemberGrant grant, link_->join_group(request_));
  Joined joined;
  SLUICE_ASSIGN(joined.link, MemberLink::open(std::move(grant)));
  // Before the list is asked for: what changes behind it is asked for again.
  static_cast<void>(joined.link->take_assignments_changed());
  auto list = link_->assignments(joined.link->member());
  if (!list) {
    leave(*joined.link);
    // A daemon that is newer than the one that was joined.
    if (list.error().code() == ErrorCode::not_found) return fail(ErrorCode::would_block, list.error().context());
    return fail(std::move(list).error());
  }
  joined.assignments = std::move(*list);
  return joined;
}

bool ConsumerCore::is_passing(const Error& error) {
  switch (error.code()) {
    case ErrorCode::no_daemon:
    case ErrorCode::timed_out:
    case ErrorCode::conflict:
    case ErrorCode::would_block: retry_ns_ = monotonic_coarse_ns() + kRetryNs; return true;
    default: return false;
  }
}

Status ConsumerCore::rejoin() {
  // What was taken back before is not held any more.
  if (member_->has_news()) take_news();
  std::vector<HeldPartition> held;
  for (const GroupPartition* partition : turns_) held.push_back(partition->held());
  auto joined = join(std::move(held), references_.held(*member_));
  if (!joined) {
    if (is_passing(joined.error())) return {};
    retry_ns_ = monotonic_coarse_ns() + kRetryNs;
    if (joined.error().code() == ErrorCode::not_found)
      closed_ = Error(ErrorCode::closed, "consuming in group " + request_.group + ": the group was deleted");
    return fail(closed_ ? *closed_ : std::move(joined).error());
  }
  rejoin_due_ = assignments_due_ = false;
  references_.detach(*member_);
  const bool memory_replaced = joined->link->session() != member_->session();
  keep_partitions(*joined->link, joined->assignments, memory_replaced);
  if (memory_replaced) reference_reader_.clear();
  member_ = std::move(joined->link);
  generation_ = member_->session()->generation();
  if (readiness_) {
    SLUICE_TRY(readiness_->watch(member_->readable_fd()));
    readiness_->kick();
  }
  member_->notify();
  return take_assignments(joined->assignments);
}

// Partitions that are assigned again go on with what is in hand; the others are lost.
void ConsumerCore::keep_partitions(MemberLink& link, const std::vector<Assignment>& list, bool memory_replaced) {
  const std::vector<GroupPartition*> had = turns_;
  for (GroupPartition* partition : had) {
    PartitionStream& stream = partition->stream();
    const auto again = std::find_if(list.begin(), list.end(), [&](const Assignment& one) {
      return one.topic_id == stream.topic_id() && one.partition == stream.partition();
    });
    // What was in hand before the group was moved is not what it goes on with.
    bool keeps = again != list.end() && is_valid(link, *again) && again->seeks == partition->seeks();
    if (keeps && memory_replaced) {
      auto opened = open_for_reading(*link_, stream.topic(), {stream.partition()}, false);
      keeps = opened && opened->partitions.size() == 1;
      if (keeps) {
        auto reader = std::make_shared<const ReaderHandle>(link_, *opened);
        keeps = partition->reattach(std::move(opened->partitions.front()), std::move(reader)).has_value();
      }
    }
    if (!keeps || !partition->rebind(link, *again)) lose(*partition);
  }
}

// The connection was away and is back with the same memory: with the same daemon, or with one that is new.
Status ConsumerCore::ask_whether_known() {
  auto list = link_->assignments(member_->member());
  if (list) {
    // Another member's of this client, should the new daemon have given it our number.
    const bool ours = std::all_of(list->begin(), list->end(), [&](const Assignment& one) {
      return one.generation == 0 || is_valid(*member_, one);
    });
    if (ours) return take_assignments(*list);
  } else if (list.error().code() != ErrorCode::not_found) {
    assignments_due_ = true;
    if (is_passing(list.error())) return {};
    return fail(std::move(list).error());
  }
  rejoin_due_ = true;
  return {};
}

// ---- assignments ----

GroupPartition* ConsumerCore::find(TopicId topic, PartitionNumber partition) const {
  for (GroupPartition* one : turns_) {
    if (one->stream().partition() == partition && one->stream().topic_id() == topic) return one;
  }
  return nullptr;
}

// It names a cell that exists and has that generation by now.
bool ConsumerCore::is_valid(const MemberLink& link, const Assignment& assignment) {
  if (assignment.cell >= kMemberCellsMax || assignment.generation == 0) return false;
  const std::uint64_t word = link.cell(assignment.cell).generation.load(std::memory_order_acquire);
  return (word & ~layout::kWantedBack) == assignment.generation;
}

Status ConsumerCore::renew_assignments() {
  assignments_due_ = false;
  auto list = link_->assignments(member_->member());
  if (list) return take_assignments(*list);
  assignments_due_ = true;
  if (list.error().code() == ErrorCode::not_found) {
    rejoin_due_ = true;
    return {};
  }
  if (is_passing(list.error())) return {};
  retry_ns_ = monotonic_coarse_ns() + kRetryNs;
  return fail(std::move(list).error());
}

Status ConsumerCore::take_assignments(const std::vector<Assignment>& list) {
  std::vector<bool> cells_named(kMemberCellsMax);
  std::vector<GroupPartition*> gone = turns_;
  std::vector<const Assignment*> fresh;
  for (const Assignment& one : list) {
    std::string_view& name = topics_[one.topic_id.value];
    if (name != one.topic) name = pool_->keep_name(one.topic);
    // By reference only; of another generation by now (it is told again); or named twice.
    if (!is_valid(*member_, one) || cells_named[one.cell]) continue;
    cells_named[one.cell] = true;
    GroupPartition* known = find(one.topic_id, one.partition);
    if (known != nullptr && known->generation() == one.generation && known->cell_index() == one.cell) {
      std::erase(gone, known);
      continue;
    }
    const std::uint64_t word = member_->cell(one.cell).generation.load(std::memory_order_acquire);
    if ((word & layout::kWantedBack) != 0)
      give_back_unread(one);
    else
      fresh.push_back(&one);
  }
  for (GroupPartition* partition : gone) lose(*partition);
  recount_references();
  return open_fresh(fresh);
}

// Assigned and wanted back before it was read. One that was given back already stays as it was said.
void ConsumerCore::give_back_unread(const Assignment& assignment) {
  layout::AssignmentCell& cell = member_->cell(assignment.cell);
  if (cell.released.load(std::memory_order_relaxed) == assignment.generation) return;
  cell.newest.store(0, std::memory_order_release);
  cell.oldest.store(0, std::memory_order_release);
  cell.in_flight.store(0, std::memory_order_release);
  cell.acked.store(assignment.start.value, std::memory_order_release);
  cell.settled.store(0, std::memory_order_release);
  cell.released.store(assignment.generation, std::memory_order_release);
  cell.accepted.store(assignment.generation, std::memory_order_release);  // all of these words are of it
  member_->call_daemon();
}

Status ConsumerCore::open_fresh(const std::vector<const Assignment*>& fresh) {
  std::map<std::string_view, std::map<PartitionNumber, const Assignment*>> by_topic;
  for (const Assignment* one : fresh) by_topic[topics_.at(one->topic_id.value)].emplace(one->partition, one);
  Status first;
  for (const auto& [topic, partitions] : by_topic) {
    std::vector<PartitionNumber> numbers;
    for (const auto& [number, assignment] : partitions) numbers.push_back(number);
    auto opened = open_for_reading(*link_, topic, numbers, false);
    Status status;
    if (opened) {
      const auto reader = std::make_shared<const ReaderHandle>(link_, *opened);
      for (OpenedPartition& one : opened->partitions) {
        const auto assigned = partitions.find(one.maps->partition());
        if (assigned == partitions.end() || one.maps->topic() != assigned->second->topic_id) continue;
        GroupPartition& partition = add_partition(topic, std::move(one), reader);
        status = partition.begin(*member_, *assigned->second);
        if (!status) {
          drop(partition);
          break;
        }
        told_.push_back({Rebalance::Kind::assigned, topic, partition.stream().partition()});
        attention_ = true;
      }
    } else {
      status = fail(std::move(opened).error());
    }
    // A topic that was deleted meanwhile: the next list is without it.
    if (status || status.error().code() == ErrorCode::not_found || status.error().code() == ErrorCode::closed) continue;
    assignments_due_ = true;
    if (is_passing(status.error())) continue;
    retry_ns_ = monotonic_coarse_ns() + kRetryNs;
    if (first) first = std::move(status);
  }
  recount_references();
  attention_ = attention_ || assignments_due_;
  member_->notify();
  return first;
}

GroupPartition& ConsumerCore::add_partition(std::string_view topic, OpenedPartition opened, ReaderHandlePtr reader) {
  const auto free = std::find(places_.begin(), places_.end(), nullptr);
  const auto place = static_cast<std::uint32_t>(free - places_.begin());
  if (free == places_.end()) places_.emplace_back();
  const Strict strict = member_->config().strict;
  places_[place] = std::make_unique<GroupPartition>(context_, topic, std::move(opened), std::move(reader), strict,
                                                    place, ++last_serial_);
  turns_.push_back(places_[place].get());
  return *places_[place];
}

void ConsumerCore::drop(GroupPartition& partition) {
  in_hand_ -= partition.in_hand().count();
  if (in_hand_ == 0) alone_out_ = false;
  std::erase(turns_, &partition);
  current_ = 0;
  places_[partition.place()].reset();
}

void ConsumerCore::lose(GroupPartition& partition) {
  told_.push_back({Rebalance::Kind::lost, partition.stream().topic(), partition.stream().partition()});
  attention_ = true;
  drop(partition);
}

void ConsumerCore::lose_everything() {
  while (!turns_.empty()) lose(*turns_.back());
  in_hand_ -= references_.lose_all();
  alone_out_ = false;
  wanted_ = false;
}

void ConsumerCore::release_wanted() {
  wanted_ = false;
  const std::vector<GroupPartition*> had = turns_;
  for (GroupPartition* partition : had) {
    if (!partition->is_wanted()) continue;
    if (partition->release()) {
      drop(*partition);
      member_->call_daemon();
    } else {
      wanted_ = true;
    }
  }
}

// ---- what the daemon says ----

void ConsumerCore::take_news() {
  member_->see_news();
  if (member_->ended()) {
    if (rejoin_due_) return;
    lose_everything();
    rejoin_due_ = attention_ = true;
    return;
  }
  take_deliveries();
  const std::vector<GroupPartition*> had = turns_;
  for (GroupPartition* partition : had) {
    if (partition->is_lost()) {
      lose(*partition);
    } else if (partition->take_wanted()) {
      told_.push_back({Rebalance::Kind::revoked, partition->stream().topic(), partition->stream().partition()});
      wanted_ = attention_ = true;
    }
  }
  if (member_->take_assignments_changed()) assignments_due_ = attention_ = true;
}

void ConsumerCore::take_deliveries() {
  layout::DeliverySlot slot{};
  std::uint32_t index = 0;
  for (;;) {
    switch (member_->take_delivery(slot, index)) {
      case MemberLink::Taken::none: return;
      case MemberLink::Taken::slot: take_delivery(slot, index); break;
      case MemberLink::Taken::recalled: break;
      case MemberLink::Taken::refused: ++reader_counters_.corrupt; break;
      case MemberLink::Taken::broken:
        // Nothing of this region can be believed any more: a new one.
        ++reader_counters_.corrupt;
        if (rejoin_due_) return;
        leave(*member_);
        lose_everything();
        rejoin_due_ = attention_ = true;
        return;
    }
  }
}

void ConsumerCore::take_delivery(const layout::DeliverySlot& slot, std::uint32_t index) {
  GroupPartition* partition = find(TopicId(slot.topic_id), slot.partition);
  switch (static_cast<layout::DeliveryKind>(slot.kind)) {
    case layout::DeliveryKind::message:
      if (references_.accept(*member_, slot, index) == References::Verdict::refused) ++reader_counters_.corrupt;
      // What was read directly before and comes by reference has timed out.
      withdraw_direct(partition, Position(slot.position));
      recount_references();
      return;
    case layout::DeliveryKind::unblock:
      if (partition != nullptr) partition->unblock(slot.argument, slot.position);
      return;
    case layout::DeliveryKind::withdrawn: withdraw(slot); return;
  }
  ++reader_counters_.corrupt;
}

// By its stamp; without one it was read directly, and its position says which.
void ConsumerCore::withdraw(const layout::DeliverySlot& slot) {
  if (slot.stamp == 0) {
    withdraw_direct(find(TopicId(slot.topic_id), slot.partition), Position(slot.position));
    return;
  }
  bool was_in_hand = false;
  const Reference* one = references_.withdraw(*member_, slot.stamp, was_in_hand);
  if (one == nullptr) return;
  if (was_in_hand) end_settling(1);
  if (GroupPartition* partition = find(one->topic, one->partition)) partition->hold_back(one->key_hash);
  recount_references();
}

void ConsumerCore::withdraw_direct(GroupPartition* partition, Position position) {
  if (partition != nullptr && partition->withdraw(position)) end_settling(1);
}

// Strict by partition: nothing is read directly while one of its messages is here by reference.
void ConsumerCore::recount_references() {
  if (member_->config().strict != Strict::partition) return;
  for (GroupPartition* partition : turns_) {
    bool any = false;
    for (std::uint32_t i = 0; i < references_.size() && !any; ++i) {
      const Reference& one = references_.at(i);
      any = (one.state == Reference::State::waiting || one.state == Reference::State::in_hand) &&
            one.topic == partition->stream().topic_id() && one.partition == partition->stream().partition();
    }
    partition->set_references(any);
  }
}

// ---- now and then ----

std::uint64_t ConsumerCore::attention_due_ns() const {
  if (!attention_) return kNever;
  if (!told_.empty()) return 0;
  if (!BusLink::online(link_->word())) return kNever;
  const std::uint64_t now = monotonic_coarse_ns();
  return now >= retry_ns_ ? 0 : retry_ns_ - now;
}

Status ConsumerCore::attend() {
  attention_ = false;
  // acquire: pairs with BusLink::changed(); the word is read behind it.
  const std::uint32_t change = link_->change_word().load(std::memory_order_acquire);
  const std::uint64_t word = link_->word();
  Status status;
  if (!BusLink::online(word)) {
    if (link_->state() == ConnectionState::closed) status = link_->health();
  } else {
    if (BusLink::generation(word) != generation_) rejoin_due_ = true;
    if (std::exchange(change_seen_, change) != change && !rejoin_due_) status = ask_whether_known();
    const bool due = rejoin_due_ || assignments_due_;
    if (status && due && monotonic_coarse_ns() >= retry_ns_) status = rejoin_due_ ? rejoin() : renew_assignments();
  }
  attention_ = rejoin_due_ || assignments_due_;
  tell();
  if (wanted_) release_wanted();
  if (status) status = check_gates();
  return status;
}

void ConsumerCore::tell() {
  for (const Told& one : std::exchange(told_, {})) {
    ++counters_.rebalances;
    if (options_.on_rebalance) options_.on_rebalance({one.kind, one.topic, one.partition});
  }
}

// A topic that was deleted goes with its assignment; one that is denied is told, once.
Status ConsumerCore::check_gates() {
  for (GroupPartition* partition : turns_) {
    Status gate = partition->stream().gate_status();
    if (gate || gate.error().code() != ErrorCode::permission || !partition->take_denied()) continue;
    return gate;
  }
  return {};
}

}  // namespace sluice::internal
