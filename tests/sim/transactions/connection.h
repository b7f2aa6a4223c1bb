// A process's connection to the bus, as the SDK keeps it: a session, whose memory outlives the daemon where memory is
// kept, and a lane to each partition of some topics.
//
// Owner: the process. Destroying it is the process's death: all it has mapped goes, and with it the session lock.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/core/delivery_types.h"
#include "daemon/session/bus_interface.h"
#include "shm/region/mapping.h"
#include "shm/ring/appender.h"

namespace sluice::transactions::sim {

class World;

// What a client asks again for; anything else would be a defect.
bool is_passing(const Error& error);

class Connection {
 public:
  // A partition that is sent to.
  struct Lane {
    core::Place place;
    const layout::ControlRegion* control = nullptr;
    ring::Appender appender;

    bool is_durable(Position end) const { return control->durable.load(std::memory_order_acquire) >= end.value; }
  };

  Connection(World& world, std::string client, std::vector<std::string> topics)
      : world_(world), client_(std::move(client)), topics_(std::move(topics)) {}

  // Goes on in its session, or opens its topics in a new one. False: not now. Precondition: a daemon runs.
  bool attach();
  void on_daemon_gone(bool memory_kept);

  std::optional<SessionId> session() const { return session_; }
  bool has_lanes() const { return !lanes_.empty(); }
  // Any of them.
  Lane& some_lane();
  const Lane& lane_to(const core::Place& place) const;

 private:
  void open_lanes();

  World& world_;
  const std::string client_;
  const std::vector<std::string> topics_;
  std::optional<SessionId> session_;
  std::string token_;
  region::Mapping region_;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

}  // namespace sluice::transactions::sim
