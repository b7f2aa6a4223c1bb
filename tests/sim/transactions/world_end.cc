// World: everybody answers, and what there is at the end.
#include <algorithm>

#include "shm/base/clock.h"
#include "shm/base/limits.h"
#include "tests/sim/transactions/clock.h"
#include "tests/sim/transactions/world.h"

namespace sluice::transactions::sim {
namespace {

constexpr std::uint64_t kMsNs = 1'000'000;
constexpr std::uint32_t kFinishRoundsMax = 3'000;
constexpr std::uint32_t kWorkTurnsMax = 5'000;

}  // namespace

void World::finish() {
  tell("from here on everybody answers");
  all_is_well_ = true;
  for (const auto& app : apps_) app->hang(0);
  for (std::uint32_t group = 0; group < scenario_.groups; ++group)
    new_app("group" + std::to_string(group), App::Kind::checks);
  if (feeder_) new_app("group0", App::Kind::transforms);
  settle();
  check_audit();
  tell("everything is decided");
  check(host_.stop(), "a stop fails, and nothing has happened");
  apps_.clear();
  host_.end(false, false);
  on_daemon_gone(false, false);
  check(host_.start(), "the last daemon does not start");
  on_started();
  truth_.check_end();
  acks_.check_end();
  check_audit();
}

void World::settle() {
  for (std::uint32_t round = 0;; ++round) {
    check(round < kFinishRoundsMax, "everybody answers, and something stays open");
    for (std::size_t i = 0; i < apps_.size(); ++i)
      for (int n = 0; n < 3; ++n) apps_[i]->act(false);
    if (feeder_) feeder_->act(false);
    notice_deaths();
    turns(3);
    look();
    advance_clock(kMsNs * (1 + below(2'000)));
    const auto open = host_.bus().transactions().list_transactions(operator_, {}, kTransactionsPerCallMax, false);
    check(open.has_value(), "open transactions cannot be listed");
    for (const session::TransactionInfo& info : *open)
      if (info.state == "parked")
        order(info.transaction, one_in(3) ? session::TransactionOrder::rollback : session::TransactionOrder::recheck);
    const bool done = std::all_of(apps_.begin(), apps_.end(), [](const auto& app) { return app->is_done(); });
    if (open->empty() && done && round > 2 && acks_.all_settled() && is_group_quiet()) break;
  }
  work_out();
}

// Nothing is in anybody's hands, or to come again: what was lost with memory neither.
bool World::is_group_quiet() {
  if (!feeder_) return true;
  const auto info = host_.bus().groups().describe_groups(operator_, kConsumerGroup);
  check(info.has_value() && info->size() == 1, "the group is not described");
  return std::all_of(info->front().partitions.begin(), info->front().partitions.end(),
                     [](const session::GroupPartitionInfo& one) { return one.in_flight + one.retrying == 0; });
}

void World::work_out() {
  for (std::uint32_t turn = 0, idle = 0; idle < 3; ++turn) {
    check(turn < kWorkTurnsMax, "the daemon never comes to rest");
    advance_clock(scenario_.host.flush_interval_ns);
    idle = host_.bus().do_work(monotonic_ns()).progressed ? 0 : idle + 1;
    watch();
  }
}

// What the audit says is what is there.
void World::check_audit() {
  reached.transactions = truth_.all().size();
  reached.committed = reached.rolled_back = reached.lost = 0;
  const AcksTruth::Counts acks = acks_.counts();
  reached.inputs = acks.inputs;
  reached.inputs_lost = acks.lost;
  reached.acked_by_commit = acks.by_transaction;
  reached.acked_plainly = acks.plainly;
  reached.redelivered = acks.redelivered;
  for (const auto& [id, config] : configs_) {
    const auto report = host_.bus().audit(operator_, config.name);
    check(report.has_value() && report->holds, "the audit does not hold");
    core::AuditCounts sum;
    for (const session::AuditRow& row : report->rows) {
      sum.open += row.row.counts.open;
      sum.committed_halves += row.row.counts.committed_halves;
      sum.rolled_back += row.row.counts.rolled_back;
      tell("  audit of " + config.name + "/" + std::to_string(row.partition) + " producer " +
           std::to_string(row.row.producer.value) + ": committed " + std::to_string(row.row.counts.committed_halves) +
           ", rolled back " + std::to_string(row.row.counts.rolled_back) + ", open " +
           std::to_string(row.row.counts.open));
    }
    const Truth::Counts counts = truth_.counts(id);
    check(sum.open == 0, "the audit counts open halves where none is");
    check(sum.committed_halves == counts.committed && sum.rolled_back == counts.rolled_back,
          "the audit counts " + std::to_string(sum.committed_halves) + " committed halves and " +
              std::to_string(sum.rolled_back) + " rolled back, there are " + std::to_string(counts.committed) +
              " and " + std::to_string(counts.rolled_back));
    reached.committed += counts.committed;
    reached.rolled_back += counts.rolled_back;
    reached.lost += counts.halves_lost;
  }
}

}  // namespace sluice::transactions::sim
