#include "tests/sim/transactions/world.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "shm/base/clock.h"
#include "shm/base/limits.h"
#include "tests/sim/transactions/clock.h"

namespace sluice::transactions::sim {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kMsNs = 1'000'000;
constexpr std::uint64_t kStartNs = 1'000 * kSecondNs;
constexpr std::uint32_t kStepsMax = 70;  // of one life
constexpr std::uint32_t kAwayStepsMax = 12;
constexpr std::uint32_t kStartsMax = 4;            // in which something may happen
constexpr std::uint32_t kNeverParked = 1'000'000;  // attempts: there are no dead letters

}  // namespace

World::Scenario World::choose(io::SimRandom& random) {
  const auto below = [&](std::uint64_t limit) { return random.below(limit); };
  Scenario scenario;
  const bool two = below(2) == 0;
  for (std::uint32_t i = 0; i < (two ? 2u : 1u); ++i) {
    core::TopicConfig topic;
    topic.name = "topic" + std::to_string(i);
    topic.partitions = two ? 1 : 2;
    if (i + 1 == (two ? 2u : 1u) && below(4) == 0) ++topic.partitions;
    topic.durability = below(2) == 0 ? core::Durability::sync : core::Durability::async;
    topic.segment_size = kSegmentSizeMin;
    topic.slots = kSlotsMin;
    if (below(2) == 0) topic.retention_bytes = std::uint64_t{1} << 40;  // nothing goes, but checkpoints come
    scenario.topics.push_back(std::move(topic));
  }
  scenario.host.segments_per_file = 1 + static_cast<std::uint32_t>(below(3));
  scenario.host.flush_interval_ns = kMsNs * (1 + below(20));
  scenario.host.retention_interval_ns = kMsNs * (1 + below(400));
  scenario.host.delay_reaps_max = static_cast<std::uint32_t>(below(5));
  scenario.host.has_keeper = below(5) != 0;
  core::TransactionRules& rules = scenario.host.rules;
  rules.check_max = 2 + static_cast<std::uint32_t>(below(3));
  rules.park_after_ns = 3'600 * kSecondNs;
  scenario.groups = 1 + static_cast<std::uint32_t>(below(2));
  scenario.apps = 2 + static_cast<std::uint32_t>(below(2));
  scenario.lives = 1 + static_cast<std::uint32_t>(below(3));
  if (below(5) < 2) choose_consumers(random, scenario);
  return scenario;
}

void World::choose_consumers(io::SimRandom& random, Scenario& scenario) {
  const auto below = [&](std::uint64_t limit) { return random.below(limit); };
  core::TopicConfig& input = scenario.input.emplace();
  input.name = kInputTopic;
  input.partitions = 1 + static_cast<std::uint32_t>(below(3));
  input.durability = below(2) == 0 ? core::Durability::sync : core::Durability::async;
  input.segment_size = kSegmentSizeMin;
  input.slots = kSlotsMin;
  core::GroupConfig& group = scenario.consumers;
  group.name = kConsumerGroup;
  group.mode = below(2) == 0 ? core::GroupMode::ordered : core::GroupMode::shared;
  group.ack_timeout_ns = kSecondNs * (1 + below(20));
  group.member_timeout_ns = kSecondNs * (2 + below(40));
  group.max_attempts = kNeverParked;
  group.backoff = {{kMsNs * (1 + below(500))}, 0, 0};
  if (below(3) != 0) return;
  // What is made of an input may be durable long before it is.
  scenario.host.flush_interval_ns = kMsNs * (1 + below(60'000));
  input.durability = core::Durability::async;
  for (core::TopicConfig& topic : scenario.topics) topic.durability = core::Durability::sync;
}

World::World(std::uint64_t seed, bool verbose)
    : random_(seed),
      verbose_(verbose),
      scenario_(choose(random_)),
      host_((set_clock(kStartNs), random_), scenario_.host),
      truth_(scenario_.host.rules, [this](TransactionId id) { return host_.stored_decision(id); }),
      acks_([this](TransactionId id) { return host_.stored_decision(id); },
            [this] { return host_.stored_group(kConsumerGroup); }) {}

void World::tell(const std::string& what) const {
  if (verbose_)
    std::fprintf(stderr, "%14.6f  %s\n", static_cast<double>(monotonic_ns()) / static_cast<double>(kSecondNs),
                 what.c_str());
}

// ---- lives

void World::run() {
  check(host_.start(), "the first daemon does not start");
  make_topics();
  on_started();
  for (std::uint32_t i = 0; i < scenario_.apps; ++i) new_app();
  for (std::uint32_t life = 0; life < scenario_.lives; ++life) {
    ++reached.lives;
    live(10 + static_cast<std::uint32_t>(below(kStepsMax)));
    end_life();
    for (std::uint64_t steps = below(kAwayStepsMax); steps > 0; --steps) somebody_acts(true);
    start();
  }
  finish();
}

void World::make_topics() {
  attach_operator();
  const auto make = [this](const core::TopicConfig& config) {
    core::TopicRequest request;
    request.config = config;
    check(host_.bus().create_topic(operator_, std::move(request)).has_value(), "a topic cannot be made");
    configs_[host_.bus().describe_topic(operator_, config.name)->record.id] = config;
  };
  for (const core::TopicConfig& config : scenario_.topics) {
    make(config);
    topics_.push_back(config.name);
  }
  if (!scenario_.input) return;
  make(*scenario_.input);
  check(host_.bus().groups().create_group(operator_, scenario_.consumers).has_value(), "a group cannot be made");
  feeder_ = std::make_unique<Feeder>(*this);
}

void World::live(std::uint32_t steps) {
  plan_misfortune(steps);
  for (std::uint32_t i = 0; i < steps; ++i) {
    step();
    if (host_.ended() != Host::End::none) return;
    // One whose store has failed serves nobody any more, and is ended soon.
    if (host_.store_has_failed() && one_in(4)) return;
  }
}

void World::plan_misfortune(std::uint32_t steps) {
  switch (below(6)) {
    case 0:
    case 1: return host_.kill_at_point(1 + below(steps));
    case 2: return host_.cut_power_at_operation(1 + below(std::uint64_t{steps} * 2));
    case 3: return host_.fail_store_at_commit(1 + below(1 + steps / 3));
    default: return;
  }
}

// A commit with acks is about to be decided.
void World::tempt_fate() {
  if (all_is_well_) return;
  switch (below(16)) {
    case 0: ++reached.refused_commits; return host_.refuse_next_commit();
    case 1: return host_.kill_at_point(1 + below(6));
    default: return;
  }
}

void World::end_life() {
  if (host_.store_has_failed() && host_.ended() == Host::End::none) ++reached.store_failures;
  if (host_.ended() == Host::End::killed) ++reached.kills_at_points;
  bool power = host_.ended() == Host::End::power;
  bool keeps = false;
  const std::uint64_t how = below(8);
  if (host_.ended() == Host::End::none && how >= 6) {
    tell("the daemon stops");
    reached.stops += one_in(4) ? host_.stop(below(4)) : host_.stop();  // sometimes the disk is slower than it waits
    keeps = how == 6;
  } else {
    power |= how == 0;
    keeps = how > 1;
    reached.kills += !power;
  }
  power |= host_.ended() == Host::End::power;
  keeps &= !power && scenario_.host.has_keeper;
  reached.power_losses += power;
  tell(std::string(power ? "the power goes" : "the daemon is gone") + (keeps ? ", its memory is kept" : "") +
       (host_.killed_at().empty() ? "" : ", killed at " + host_.killed_at()));
  host_.end(keeps, power);
  on_daemon_gone(keeps, power);
}

void World::on_daemon_gone(bool memory_kept, bool power) {
  truth_.on_no_listeners(monotonic_ns());
  hung_up_.clear();
  if (power) {
    apps_.clear();
    if (feeder_) feeder_ = std::make_unique<Feeder>(*this);
  }
  for (const auto& app : apps_) app->on_daemon_gone(memory_kept);
  if (feeder_) feeder_->on_daemon_gone(memory_kept);
  if (memory_kept) return;
  for (const auto& app : apps_) check(!app->session(), "memory is gone, and somebody goes on in it");
  watches_.clear();
  operator_region_ = {};
  operator_token_.clear();
}

void World::start() {
  for (std::uint32_t attempt = 0;; ++attempt) {
    const bool unlucky = attempt < kStartsMax && one_in(3);
    if (unlucky) {
      switch (below(4)) {
        case 0: host_.kill_at_point(1 + below(6)); break;
        case 1: host_.fail_store_at_commit(1 + below(8)); break;
        case 2: host_.refuse_next_commit(); break;
        default: break;
      }
    }
    const bool cuts = unlucky && one_in(2);
    if (host_.start(cuts ? 1 + below(40) : 0)) break;
    check(unlucky, "a daemon does not start, and nothing has happened to it: " + host_.refusal());
    const bool power = host_.ended() == Host::End::power || one_in(6);
    const bool keeps = !power && scenario_.host.has_keeper && !one_in(6);
    ++(host_.ended() == Host::End::none ? reached.refused_starts : reached.died_in_start);
    tell("a start ends: " + host_.refusal());
    host_.end(keeps, power);
    on_daemon_gone(keeps, power);
    host_.plan_nothing();
  }
  host_.plan_nothing();
  on_started();
  while (apps_.size() < scenario_.apps) new_app();
}

void World::on_started() {
  const bool has_lost_memory = watches_.empty();
  tell(has_lost_memory ? "a daemon starts in new memory" : "a daemon adopts the memory");
  reached.adoptions += !has_lost_memory;
  attach_operator();
  if (has_lost_memory) {
    look_at_files();
    open_watches();
  }
  watch();
  look();
}

}  // namespace sluice::transactions::sim
