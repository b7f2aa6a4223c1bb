// Dead letters: each is copied once and noted once, wherever the daemon dies and whatever the store refuses.
#include <set>

#include "shm/layout/trailer.h"
#include "tests/daemon/delivery/delivery_rig.h"

namespace sluice::delivery {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

std::string header_of(const LogMessage& message, std::string_view name) {
  layout::TrailerReader reader(std::as_bytes(std::span(message.trailer)));
  while (const auto entry = reader.next()) {
    if (entry->type != layout::TrailerType::header) continue;
    const auto header = layout::as_header(entry->bytes);
    if (header && header->first == name) return std::string(header->second);
  }
  return {};
}

TEST(DeadLetters, AreNotedOnceTheirCopyIsDurableAndForgottenByTheGroupThenAlone) {
  DeliveryRig rig;
  const Position position = rig.logs.produce(rig.topic, 0, "bad");
  rig.join();
  rig.say(core::Verb::reject, position, "no such customer");
  rig.logs.hold_syncs();
  rig.letters().do_work(rig.now);
  ASSERT_EQ(rig.copies().size(), 1u);
  EXPECT_EQ(rig.copies()[0].payload, "bad");
  EXPECT_EQ(header_of(rig.copies()[0], "sluice-origin"), "orders/0@" + std::to_string(position.value));
  EXPECT_EQ(header_of(rig.copies()[0], "sluice-group"), "g");
  EXPECT_EQ(header_of(rig.copies()[0], "sluice-reason"), "no such customer");
  rig.now.ns += kSecond;
  rig.letters().do_work(rig.now);
  EXPECT_TRUE(rig.noted().empty()) << "its copy is not durable";
  EXPECT_EQ(rig.group().machine().acks(rig.place()).pending().size(), 1u);
  rig.logs.sync();
  rig.now.ns += kSecond;
  rig.letters().do_work(rig.now);
  ASSERT_EQ(rig.noted().size(), 1u);
  EXPECT_EQ(rig.noted()[0].parked_at, rig.copies()[0].record.position);
  EXPECT_EQ(rig.noted()[0].failed, 1u);
  EXPECT_TRUE(rig.group().machine().acks(rig.place()).pending().empty());
  EXPECT_TRUE(rig.stored().pending.empty());
  EXPECT_TRUE(rig.letters().idle());
}

// The power goes within the transaction that notes it: done or not, as the seed has it.
TEST(DeadLetters, AreThereOnceAlthoughTheDaemonDiesBetweenAppendAndNote) {
  std::set<std::size_t> noted_before;
  for (std::uint64_t seed = 1; seed <= 32; ++seed) {
    SCOPED_TRACE(seed);
    DeliveryRig rig(seed);
    const Position first = rig.logs.produce(rig.topic, 0, "bad");
    const Position second = rig.logs.produce(rig.topic, 0, "worse");
    rig.join();
    rig.say(core::Verb::reject, first);
    rig.say(core::Verb::reject, second);
    ASSERT_TRUE(rig.save());
    rig.letters().do_work(rig.now);
    ASSERT_EQ(rig.copies().size(), 2u);
    rig.medium.lose_power_in(1);
    rig.letters().do_work(rig.now);
    rig.start();
    noted_before.insert(rig.noted().size());
    for (int turns = 0; turns < 10 && !rig.letters().idle(); ++turns) {
      rig.letters().do_work(rig.now);
      rig.now.ns += kSecond;
    }
    EXPECT_TRUE(rig.letters().idle());
    EXPECT_EQ(rig.copies().size(), 2u) << "copied again";
    ASSERT_EQ(rig.noted().size(), 2u);
    EXPECT_EQ(rig.noted()[0].parked_at, rig.copies()[0].record.position);
    EXPECT_EQ(rig.noted()[1].parked_at, rig.copies()[1].record.position);
    EXPECT_EQ(rig.noted()[1].position, second);
    EXPECT_TRUE(rig.group().machine().acks(rig.place()).pending().empty());
    EXPECT_TRUE(rig.stored().pending.empty());
  }
  EXPECT_EQ(noted_before, (std::set<std::size_t>{0, 2}));
}

TEST(DeadLetters, OneThatTheStoreRefusesToNoteIsNotForgottenByTheGroupsNextSave) {
  DeliveryRig rig;
  const Position position = rig.logs.produce(rig.topic, 0, "bad");
  rig.join();
  rig.say(core::Verb::reject, position);
  rig.letters().do_work(rig.now);
  rig.medium.fail_next(ErrorCode::io);
  EXPECT_FALSE(rig.letters().do_work(rig.now)) << "a turn that fails is no reason for the next one at once";
  EXPECT_GT(rig.letters().deadline_ns(), rig.now.ns);
  EXPECT_TRUE(rig.noted().empty());
  ASSERT_TRUE(rig.save());
  ASSERT_EQ(rig.stored().pending.size(), 1u);
  EXPECT_EQ(rig.stored().pending[0].position, position);
  rig.now.ns = rig.letters().deadline_ns();
  EXPECT_TRUE(rig.letters().do_work(rig.now));
  EXPECT_EQ(rig.noted().size(), 1u);
  EXPECT_EQ(rig.copies().size(), 1u);
  EXPECT_TRUE(rig.stored().pending.empty());
}

TEST(DeadLetters, OneWhoseBytesAreGoneOrTooLargeIsNotedWithoutThem) {
  DeliveryRig rig;
  const Position gone = rig.logs.produce(rig.topic, 0, "gone");
  const Position large = rig.logs.produce(rig.topic, 0, std::string(100, 'x'));
  rig.logs.set_payload_max(50);
  rig.join();
  rig.say(core::Verb::reject, gone);
  rig.say(core::Verb::reject, large);
  rig.logs.drop(rig.topic, 0, gone);
  for (int turns = 0; turns < 3; ++turns) rig.letters().do_work(rig.now);
  ASSERT_EQ(rig.copies().size(), 2u);
  EXPECT_EQ(rig.copies()[0].payload, "");
  EXPECT_EQ(rig.copies()[1].payload, "");
  EXPECT_EQ(header_of(rig.copies()[1], "sluice-origin"), "orders/0@" + std::to_string(large.value));
  EXPECT_EQ(rig.noted().size(), 2u);
}

TEST(DeadLetters, OneThatFailsAgainAfterItWasHandedOutAgainKeepsItsOrigin) {
  DeliveryRig rig(1, core::GroupMode::shared);
  const Position position = rig.logs.produce(rig.topic, 0, "bad");
  core::DeliveryMachine& machine = rig.group().machine();
  rig.join();
  const core::LogItem item{position, position + kFakeRecordSize, 0};
  machine.offer(rig.place(), std::span(&item, 1), item.end, rig.now.ns);
  const auto reject = [&] {
    ASSERT_EQ(machine.slots_out(kMember).size(), 1u);
    core::Outcome outcome;
    outcome.verb = core::Verb::reject;
    outcome.by_slot = true;
    outcome.index = machine.slots_out(kMember)[0];
    outcome.target = machine.stamp_of(kMember, outcome.index);
    machine.outcome(kMember, outcome, rig.now.ns);
    rig.turn();
    for (int turns = 0; turns < 3; ++turns) rig.letters().do_work(rig.now);
  };
  reject();
  ASSERT_EQ(rig.noted().size(), 1u);
  ASSERT_TRUE(machine.redrive({rig.logs.letters_topic(), 0}, rig.noted()[0].parked_at, rig.noted()[0].id, rig.now.ns));
  rig.turn();
  machine.tick(rig.now.ns);
  reject();
  ASSERT_EQ(rig.noted().size(), 2u);
  EXPECT_EQ(rig.noted()[1].origin_topic, "orders");
  EXPECT_EQ(rig.noted()[1].position, position);
}

}  // namespace
}  // namespace sluice::delivery
