// A bus without threads and sockets: over real files in a directory of its own, with clients in the same process. The
// test says when it works, is killed, and starts again.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/bus/bus.h"
#include "shm/base/fd.h"
#include "shm/region/mapping.h"
#include "shm/ring/appender.h"

namespace sluice::bus {

// An attached client. Its session lives as long as this does.
struct TestClient {
  SessionId id;
  region::Mapping region;
};

// A producer of one partition, as the SDK has it.
struct TestProducer {
  ProducerId id;
  region::Mapping control, log, bell;
  std::optional<ring::Appender> appender;

  // Sends so many messages; what one of them says does not matter here.
  void send(std::uint32_t count);
};

class BusRig {
 public:
  BusRig();
  ~BusRig();

  Bus& bus() { return *bus_; }
  // As kill -9 and a start: what was not written is gone. Nothing may be in flight: work() first, or have not begun to.
  void kill_and_start();
  void stop_and_start();
  // Until there is nothing left to do.
  void work();

  TestClient attach();
  // Its process has died, and the control thread has seen that.
  void end(TestClient client);
  TestProducer produce(const TestClient& client, std::uint32_t pin = 0, const std::string& name = {});
  void create_topic(core::TopicConfig config = {});
  // Asks as a client that has just attached.
  session::AuditReport audit();
  core::AuditCounts counts_of(ProducerId producer);
  std::uint64_t cut();

  static constexpr const char* kTopic = "orders";

 private:
  void start();

  std::string folder_;
  std::uint64_t now_ns_ = 0;  // monotonic
  std::optional<DataDirectory> directory_;
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<io::Disk> disk_;
  UniqueFd wake_;
  std::unique_ptr<Bus> bus_;
};

}  // namespace sluice::bus
