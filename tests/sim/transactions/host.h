// A host in the simulation of transactions: its disk and its store, which outlive every daemon, and the daemon that
// runs on them: bus::Bus as it is, over a simulated disk, store and clock, and real memory.
//
// Owner: the simulation's one thread. Who calls something of the daemon asks ended() behind it.
//
// How a daemon ends
//  killed   kill -9 at one of the code's failpoints, or between two turns. What the objects of the dead process do
//  while
//           they are taken apart happens nowhere: its disk and its store are gone, and its memory is put back as it
//           was.
//  power    The power goes during a call of the disk, or between two turns: unsynced writes are kept, dropped or torn,
//           and memory is lost.
//  A store that fails in the middle of a commit has kept it whole or not at all, its caller does not know which, and it
//  answers io from then on, as SQLite's does: the daemon lives on until it is ended.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/bus/bus.h"
#include "daemon/io/sim_random.h"
#include "daemon/store/sim_store.h"
#include "tests/daemon/bus/holding_keeper.h"
#include "tests/sim/process_disk.h"

namespace sluice::transactions::sim {

struct HostOptions {
  std::uint32_t segments_per_file = 2;
  std::uint64_t flush_interval_ns = 0;
  std::uint64_t retention_interval_ns = 0;  // and of checkpoints, in topics that have retention
  std::uint32_t delay_reaps_max = 3;
  core::TransactionRules rules;
  bool has_keeper = true;  // else no memory outlives a daemon
};

class Host {
 public:
  enum class End : std::uint8_t { none, killed, power };

  Host(io::SimRandom& random, HostOptions options);
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  // ---- the daemon
  // False: it did not get up; end() what there is of it. The power goes in the n-th call of the disk from now; 0: it
  // does not.
  bool start(std::uint64_t cuts_power_at = 0);
  // Why it did not.
  const std::string& refusal() const { return refusal_; }
  bool runs() const { return bus_ != nullptr && ended() == End::none; }
  bus::Bus& bus() { return *bus_; }
  // Counts the daemons that were started.
  std::uint64_t number() const { return number_; }
  bool has_adopted() const { return adopted_; }
  void turn();
  // As SIGTERM. It waits for so many turns of the disk. False: it ended meanwhile.
  bool stop(std::uint64_t turns = 2'000);
  End ended() const;
  // Ends what is there of it; its memory stays for the next one, or is lost.
  void end(bool keeps_memory, bool loses_power);

  // ---- misfortune
  void kill_at_point(std::uint64_t nth) { points_left_ = nth; }
  void cut_power_at_operation(std::uint64_t nth);
  void fail_store_at_commit(std::uint64_t nth) { store_medium_.lose_power_in(nth); }
  void refuse_next_commit() { store_medium_.fail_next(ErrorCode::would_block); }
  void plan_nothing();
  bool store_has_failed() const { return store_medium_.power_losses() != store_losses_; }
  const std::string& killed_at() const { return killed_at_; }

  // ---- what is there
  // What the store would say to a daemon that starts now.
  std::optional<store::Decision> stored_decision(TransactionId id);
  store::GroupState stored_group(const std::string& name);
  io::SimMedia& media() { return *media_; }
  std::string partition_path(const std::string& topic, PartitionNumber partition) const;
  int wake_fd() const { return wake_.get(); }

 private:
  // The bytes of each descriptor that is kept, where it has any.
  using Extents = std::vector<std::pair<std::uint64_t, std::string>>;
  using Image = std::map<std::string, Extents>;

  void on_point(std::string_view name);
  void die();
  Image image() const;
  void restore(const Image& image) const;
  template <typename Value>
  Value ask_store(const std::function<Result<Value>(store::Store&)>& ask);

  const HostOptions options_;
  io::SimRandom& random_;
  const bus::DataDirectory directory_;
  std::shared_ptr<io::SimMedia> media_;
  store::SimStoreMedium store_medium_;
  UniqueFd wake_;
  bus::HoldingKeeper keeper_;
  std::unique_ptr<::sluice::sim::ProcessDisk> disk_;
  std::unique_ptr<store::Store> store_;
  std::uint64_t store_losses_ = 0;
  std::unique_ptr<bus::Bus> bus_;
  std::uint64_t number_ = 0;
  bool adopted_ = false;
  bool works_ = false;  // inside the daemon
  bool dead_ = false;
  std::uint64_t points_left_ = 0;  // 0: none is planned
  std::string killed_at_;
  std::string refusal_;
  Image image_;  // of a dead one's memory
};

}  // namespace sluice::transactions::sim
