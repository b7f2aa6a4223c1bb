// A delivery machine on a simulated clock, with what it did sorted by kind, for tests of single rules.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/core/delivery_machine.h"

namespace sluice::core {

inline constexpr std::uint64_t kMs = 1'000'000;
inline constexpr TopicId kTopic{1};
inline constexpr TopicId kOtherTopic{2};
inline constexpr Position kEnd{1'000'000};

inline Place place(PartitionNumber partition, TopicId topic = kTopic) { return {topic, partition}; }

inline GroupConfig group(GroupMode mode, Strict strict = Strict::none) {
  GroupConfig config;
  config.name = "g";
  config.mode = mode;
  config.strict = strict;
  config.ack_timeout_ns = 1'000 * kMs;
  config.member_timeout_ns = 100'000 * kMs;
  config.max_attempts = 3;
  config.backoff.steps_ns = {10 * kMs, 20 * kMs};
  return config;
}

class DeliveryRig {
 public:
  explicit DeliveryRig(GroupConfig config, PartitionNumber partitions = 1) : machine(std::move(config), 7) {
    for (PartitionNumber partition = 0; partition < partitions; ++partition)
      machine.add(place(partition), Position(100), now_ns);
  }

  MemberId join(std::uint32_t in_flight_max = 100, std::set<TopicId> topics = {kTopic}) {
    MemberJoin join;
    join.topics = std::move(topics);
    join.in_flight_max = in_flight_max;
    machine.join(++last_member, std::move(join), now_ns);
    act();
    return last_member;
  }
  void leave(MemberId member, Ending ending = Ending::left, const std::set<std::uint32_t>& started = {}) {
    machine.leave(member, ending, started, now_ns);
    act();
  }
  // Takes the actions, and checks what must always hold.
  void act() {
    machine.check_invariants();
    for (const Action& action : machine.take_actions()) {
      if (const auto* deliver = std::get_if<Deliver>(&action)) {
        delivered.push_back(*deliver);
        deliveries.push_back(*deliver);
      } else if (const auto* assign = std::get_if<Assign>(&action)) {
        assigned.push_back(*assign);
      } else if (const auto* want_back = std::get_if<WantBack>(&action)) {
        wanted_back.push_back(*want_back);
      } else if (const auto* take_back = std::get_if<TakeBack>(&action)) {
        taken_back.push_back(*take_back);
      } else if (const auto* withdraw = std::get_if<Withdraw>(&action)) {
        withdrawn.push_back(*withdraw);
      } else if (const auto* unblock = std::get_if<Unblock>(&action)) {
        unblocked.push_back(*unblock);
      } else if (const auto* park = std::get_if<Park>(&action)) {
        parked.push_back(*park);
      } else if (const auto* end = std::get_if<End>(&action)) {
        ended.push_back(*end);
      }
    }
  }
  // The clock goes on, from one deadline to the next.
  void pass(std::uint64_t ns) {
    const std::uint64_t until = now_ns + ns;
    while (true) {
      const std::uint64_t deadline = machine.deadline_ns();
      const bool last = deadline == 0 || deadline > until;
      now_ns = last ? until : std::max(now_ns, deadline);
      machine.tick(now_ns);
      act();
      EXPECT_TRUE(machine.deadline_ns() == 0 || machine.deadline_ns() > now_ns);
      if (last) return;
    }
  }

  // ---- shared groups: messages of 10 bytes
  void offer(std::uint32_t count, PartitionNumber partition = 0) {
    std::vector<LogItem> items;
    Position next = machine.next(place(partition));
    for (; count > 0; --count, next = next + 10) items.push_back({next, next + 10, 0});
    machine.offer(place(partition), items, next, now_ns);
    act();
  }
  // What was delivered since the last call.
  std::vector<Deliver> take_delivered() { return std::exchange(delivered, {}); }
  void by_slot(const Deliver& delivery, Verb verb, std::uint64_t argument = kByPolicy, std::string reason = {}) {
    Outcome outcome;
    outcome.verb = verb;
    outcome.by_slot = true;
    outcome.index = delivery.slot;
    outcome.target = delivery.stamp;
    outcome.argument = argument;
    outcome.reason = std::move(reason);
    machine.outcome(delivery.member, outcome, now_ns);
    act();
  }

  // ---- ordered groups
  void by_cell(PartitionNumber partition, Verb verb, Position position, std::uint64_t argument = kByPolicy,
               std::uint64_t key_hash = 0) {
    const AssignmentView view = machine.assignment(place(partition)).value();
    by_cell(view.member, view.cell, view.generation, verb, position, argument, key_hash);
  }
  void by_cell(MemberId member, std::uint32_t cell, std::uint64_t generation, Verb verb, Position position,
               std::uint64_t argument = kByPolicy, std::uint64_t key_hash = 0) {
    Outcome outcome;
    outcome.verb = verb;
    outcome.index = cell;
    outcome.generation = static_cast<std::uint32_t>(generation);
    outcome.target = position.value;
    outcome.argument = argument;
    outcome.key_hash = key_hash;
    machine.outcome(member, outcome, now_ns);
    act();
  }
  // The partition's owner says how far it is; `oldest` 0: nothing in hand.
  void say(PartitionNumber partition, Position acked, Position oldest = Position(0), Position newest = Position(0),
           std::uint32_t in_flight = 1) {
    const AssignmentView view = machine.assignment(place(partition)).value();
    machine.progress(view.member, view.cell, {acked, oldest, newest, 0, 0, in_flight}, kEnd, now_ns);
    act();
  }
  void give_back(PartitionNumber partition, Position acked) {
    const AssignmentView view = machine.assignment(place(partition)).value();
    machine.progress(view.member, view.cell, {acked, Position(0), acked, 0, view.generation, 0}, kEnd, now_ns);
    act();
  }
  MemberId owner(PartitionNumber partition, TopicId topic = kTopic) const {
    return machine.view(place(partition, topic)).owner;
  }
  std::map<MemberId, std::uint32_t> loads(PartitionNumber partitions, TopicId topic = kTopic) const {
    std::map<MemberId, std::uint32_t> loads;
    for (PartitionNumber partition = 0; partition < partitions; ++partition) ++loads[owner(partition, topic)];
    return loads;
  }
  // What is wanted back is given back, until nothing moves any more.
  void settle_down() {
    while (!wanted_back.empty()) {
      const WantBack want = wanted_back.back();
      wanted_back.pop_back();
      if (const auto at = machine.place_of_cell(want.member, want.cell)) {
        const AssignmentView view = machine.assignment(*at).value();
        if (view.generation != want.generation) continue;
        machine.progress(want.member, want.cell, {view.start, Position(0), Position(0), 0, view.generation, 0}, kEnd,
                         now_ns);
        act();
      }
    }
  }
  const Pending& pending(Position position, PartitionNumber partition = 0) const {
    return machine.acks(place(partition)).pending().at(position);
  }
  bool is_pending(Position position, PartitionNumber partition = 0) const {
    return machine.acks(place(partition)).pending().count(position) != 0;
  }
  Position cursor(PartitionNumber partition = 0) const { return machine.acks(place(partition)).cursor(); }

  std::uint64_t now_ns = 1'000'000 * kMs;
  MemberId last_member = 0;
  DeliveryMachine machine;
  std::vector<Deliver> delivered;   // since take_delivered()
  std::vector<Deliver> deliveries;  // all of them
  std::vector<Assign> assigned;
  std::vector<WantBack> wanted_back;
  std::vector<TakeBack> taken_back;
  std::vector<Withdraw> withdrawn;
  std::vector<Unblock> unblocked;
  std::vector<Park> parked;
  std::vector<End> ended;
};

}  // namespace sluice::core
