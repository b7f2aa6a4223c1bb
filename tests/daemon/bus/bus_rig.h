// A bus without threads and sockets: over real files in a directory of its own, with clients in the same process. The
// test says when it works, is killed, and starts again.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/bus/bus.h"
#include "shm/base/fd.h"
#include "shm/layout/trailer.h"
#include "shm/region/mapping.h"
#include "shm/ring/appender.h"
#include "tests/daemon/bus/holding_keeper.h"

namespace sluice::bus {

// An attached client. Its session lives as long as this does.
struct TestClient {
  SessionId id;
  region::Mapping region;
  std::string token;
  session::Peer peer;
};

// A producer of one partition, as the SDK has it.
struct TestProducer {
  ProducerId id;
  region::Mapping control, log, bell;
  std::optional<ring::Appender> appender;

  // Sends so many messages; what one of them says does not matter here.
  void send(std::uint32_t count);
  // False: no room.
  bool send_delayed(std::uint64_t due_ns, std::size_t size, Position& position);
  bool send_half(const layout::HalfEntry& half, std::size_t size, Position& position);
};

class BusRig {
 public:
  BusRig();
  ~BusRig();

  Bus& bus() { return *bus_; }
  // As kill -9 and a start: what was not written is gone. Nothing may be in flight: work() first, or have not begun to.
  void kill_and_start();
  // The same, where the start may be refused: then there is no bus until a start that is not.
  Status try_kill_and_start();
  void stop_and_start();
  // As kill -9 and a start, with a keeper: memory and sessions are handed to the next bus.
  void kill_and_keep();
  Status try_kill_and_keep();
  void stop_and_keep();
  HoldingKeeper& keeper() { return keeper_; }
  // Until there is nothing left to do.
  void work();
  void turns(std::uint64_t count);

  TestClient attach();
  // One who may connect, and is no operator.
  TestClient attach_stranger();
  // Its process has died, and the control thread has seen that.
  void end(TestClient client);
  TestProducer produce(const TestClient& client, std::uint32_t pin = 0, const std::string& name = {});
  void create_topic(core::TopicConfig config = {});
  // Asks as a client that has just attached.
  session::AuditReport audit();
  core::AuditCounts counts_of(ProducerId producer);
  std::uint64_t cut();
  session::PartitionInfo partition();
  // The bus's wall clock, which stands still.
  std::uint64_t wall_ns = 1'700'000'000'000'000'000;
  const std::string& folder() const { return folder_; }
  // How many refs mean each position, in all log files of partition 0. Everything must be on disk.
  std::map<Position, int> refs_on_disk() const;
  // Where topics may have mirrors of their own.
  std::string mirror_root() const { return folder_ + "/mirrors"; }

  static constexpr const char* kTopic = "orders";

 private:
  Status start(keep::Inheritance inherited = {});
  void let_go();
  TestClient attach(const session::Peer& peer);

  std::string folder_;
  std::uint64_t now_ns_ = 0;  // monotonic
  std::optional<DataDirectory> directory_;
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<io::Disk> disk_;
  UniqueFd wake_;
  HoldingKeeper keeper_;
  std::unique_ptr<Bus> bus_;
};

}  // namespace sluice::bus
