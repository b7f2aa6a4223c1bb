#include "tests/daemon/delivery/delivery_rig.h"

#include <utility>

namespace sluice::delivery {

DeliveryRig::DeliveryRig(std::uint64_t seed, core::GroupMode mode) : medium(seed) {
  store_ = std::move(*medium.open());
  core::TopicConfig config;
  config.name = "orders";
  topic = store_->create_topic(config, 1).value();
  logs.add_topic(topic, "orders", 1);
  config.name = core::dead_letter_topic("g");
  logs.set_letters_topic(store_->create_topic(config, 1).value());
  store::GroupRecord record;
  record.config.name = "g";
  record.config.mode = mode;
  record.config.backoff.steps_ns = {1'000'000};
  record.subscriptions = {"orders"};
  id_ = store_->create_group(record).value();
  start();
}

void DeliveryRig::start() {
  letters_.reset();
  group_.reset();
  store_.reset();
  store_ = std::move(*medium.open());
  letters_ = std::make_unique<DeadLetters>(logs, *store_);
  group_ = std::make_unique<Group>(store_->groups().value().front(), logs, 1);
  group_->restore(stored(), now);
  group_->do_work(now);
  letters_->add(*group_, group_->take_parkings(), true);
  group_->follow_topics(now);
}

void DeliveryRig::join() {
  core::MemberJoin join;
  join.topics = {topic};
  join.in_flight_max = 100;
  group_->machine().join(kMember, join, now.ns);
  turn();
}

void DeliveryRig::say(core::Verb verb, Position position, std::string reason) {
  const auto assigned = group_->machine().assignment(place());
  ASSERT_TRUE(assigned && assigned->member == kMember);
  core::Outcome outcome;
  outcome.verb = verb;
  outcome.index = assigned->cell;
  outcome.generation = static_cast<std::uint32_t>(assigned->generation);
  outcome.target = position.value;
  outcome.argument = verb == core::Verb::ack ? position.value + kFakeRecordSize : core::kByPolicy;
  outcome.reason = std::move(reason);
  group_->machine().outcome(kMember, outcome, now.ns);
  turn();
}

void DeliveryRig::turn() {
  group_->do_work(now);
  letters_->add(*group_, group_->take_parkings(), false);
}

Status DeliveryRig::save() {
  const store::GroupSave save = group_->take_save(now);
  Status saved = store_->save_groups({save});
  if (!saved) group_->save_failed(save);
  return saved;
}

std::vector<LogMessage> DeliveryRig::copies() const {
  return logs.find(logs.letters_topic()) ? logs.records(logs.letters_topic(), 0) : std::vector<LogMessage>{};
}

}  // namespace sluice::delivery
