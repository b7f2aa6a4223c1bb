// The world of the simulation of transactions: a host, applications that begin transactions on it, an operator, and
// misfortune, all from the dice of a seed. In some there is an input topic, too, with a feeder that sends to it, and
// with a consumer group, ordered or shared, of which some of the applications are members.
//
// run() lets lives of daemons follow each other, each ended in its own way, and then everybody answer; what is true is
// checked all the way (truth.h, acks_truth.h). Owner: the simulation's one thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/io/sim_random.h"
#include "tests/sim/transactions/acks_truth.h"
#include "tests/sim/transactions/app.h"
#include "tests/sim/transactions/feeder.h"
#include "tests/sim/transactions/host.h"
#include "tests/sim/transactions/truth.h"

namespace sluice::transactions::sim {

inline constexpr const char* kInputTopic = "input";
inline constexpr const char* kConsumerGroup = "transformers";

class World {
 public:
  World(std::uint64_t seed, bool verbose);
  void run();

  // What the run came to, so that a test can say that it did.
  struct Reached {
    std::uint64_t transactions = 0, committed = 0, rolled_back = 0, lost = 0;  // the latter three: halves
    std::uint64_t lives = 0, kills = 0, kills_at_points = 0, power_losses = 0, stops = 0, adoptions = 0;
    std::uint64_t died_in_start = 0, store_failures = 0, refused_commits = 0, refused_starts = 0;
    std::uint64_t deaths = 0, hung = 0, checks = 0, parked = 0, by_hand = 0, conflicts = 0, told_later = 0;
    // With a consumer group.
    std::uint64_t inputs = 0, with_inputs = 0, acked_by_commit = 0, acked_plainly = 0, nacks = 0, redelivered = 0;
    std::uint64_t acks_refused = 0, rebalances = 0, rejoins = 0, inputs_lost = 0;
  } reached;

  // ---- for its parties
  std::uint64_t below(std::uint64_t limit) { return random_.below(limit); }
  bool one_in(std::uint64_t n) { return random_.below(n) == 0; }
  void tell(const std::string& what) const;
  Host& host() { return host_; }
  Truth& truth() { return truth_; }
  AcksTruth& acks() { return acks_; }
  const std::vector<std::string>& topics() const { return topics_; }
  ring::PartitionMemory memory_of(const core::Place& place) const;
  // Calls whose answers find the app, if it lives then.
  void resolve(App& app, session::Resolve request);
  void take_check(App& app);

 private:
  // A partition's memory, as all processes have it, and somebody who reads along in it.
  struct Watch {
    ring::PartitionMemory memory(int wake_fd) const;

    core::Place place;
    region::Mapping control, log, bell;
    Position cursor;
  };
  struct Scenario {
    HostOptions host;
    std::vector<core::TopicConfig> topics;
    std::optional<core::TopicConfig> input;  // with a consumer group over it
    core::GroupConfig consumers;
    std::uint32_t groups = 1;
    std::uint32_t apps = 3;
    std::uint32_t lives = 3;
  };
  static Scenario choose(io::SimRandom& random);
  static void choose_consumers(io::SimRandom& random, Scenario& scenario);

  // ---- lives (world.cc)
  void make_topics();
  void live(std::uint32_t steps);
  void plan_misfortune(std::uint32_t steps);
  void tempt_fate();
  void end_life();
  void on_daemon_gone(bool memory_kept, bool power);
  void start();
  void on_started();

  // ---- the end (world_end.cc)
  void finish();
  void settle();
  bool is_group_quiet();
  void work_out();
  void check_audit();

  // ---- steps (world_steps.cc)
  void step();
  void turns(std::uint64_t count);
  void somebody_acts(bool begins);
  void app_misfortune();
  void new_app();
  void new_app(const std::string& group, App::Kind kind);
  void bury(std::size_t index, bool with_a_word);
  void notice_deaths();
  void time_passes();
  void operator_acts();
  void order(TransactionId id, session::TransactionOrder order);
  void attach_operator();

  // ---- looking (watch.cc)
  void open_watches();
  void watch();
  void watch(Watch& watch);
  void look();
  void look_at_files();
  std::vector<Met> files_of(const core::Place& place, const core::TopicConfig& config);

  io::SimRandom random_;
  const bool verbose_;
  const Scenario scenario_;
  std::vector<std::string> topics_;
  Host host_;
  Truth truth_;
  AcksTruth acks_;
  std::map<TopicId, core::TopicConfig> configs_;
  std::vector<std::unique_ptr<App>> apps_;
  std::unique_ptr<Feeder> feeder_;  // none: there is no input topic
  std::uint64_t last_app_ = 0;
  bool all_is_well_ = false;  // nothing more happens to anybody
  std::vector<std::unique_ptr<Watch>> watches_;
  SessionId operator_;
  region::Mapping operator_region_;
  std::string operator_token_;
  std::vector<SessionId> hung_up_;
};

}  // namespace sluice::transactions::sim
