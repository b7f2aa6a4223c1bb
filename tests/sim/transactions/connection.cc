#include "tests/sim/transactions/connection.h"

#include <unistd.h>

#include <utility>

#include "tests/sim/transactions/world.h"

namespace sluice::transactions::sim {

bool is_passing(const Error& error) {
  return error.code() == ErrorCode::io || error.code() == ErrorCode::would_block ||
         error.code() == ErrorCode::no_daemon || error.code() == ErrorCode::revoked;
}

bool Connection::attach() {
  session::HelloRequest hello;
  hello.peer = {::geteuid(), ::getegid(), ::getpid(), {}};
  hello.client_name = client_;
  hello.resume_token = token_;
  auto welcome = world_.host().bus().attach(std::move(hello));
  if (!welcome) {
    check(is_passing(welcome.error()), "attaching fails: " + welcome.error().message());
    return false;
  }
  check(welcome->resumed == session_.has_value(), "a session of memory that was kept is not resumed");
  if (welcome->resumed) return true;
  session_ = welcome->session;
  token_ = welcome->token;
  region_ =
      region::Mapping::map(welcome->session_region.get(), region::Access::read_write, client_ + "'s session").value();
  open_lanes();
  return true;
}

void Connection::open_lanes() {
  std::uint32_t pin = 0;
  for (const std::string& topic : topics_) {
    auto grant = world_.host().bus().open_producer(*session_, {topic, {}, pin});
    check(grant.has_value(), grant ? "" : "opening a producer fails: " + grant.error().message());
    for (const session::PartitionGrant& granted : grant->partitions) {
      const core::Place place{grant->topic, granted.partition};
      const ring::PartitionMemory memory = world_.memory_of(place);
      lanes_.push_back(std::make_unique<Lane>(Lane{
          place, memory.control,
          ring::Appender(memory, grant->id, region_.at<layout::SessionRegion>()->pins[pin].pin, true, Sequence(1))}));
    }
    ++pin;
  }
}

void Connection::on_daemon_gone(bool memory_kept) {
  if (memory_kept) return;
  lanes_.clear();
  region_ = {};
  session_.reset();
  token_.clear();
}

Connection::Lane& Connection::some_lane() { return *lanes_[world_.below(lanes_.size())]; }

const Connection::Lane& Connection::lane_to(const core::Place& place) const {
  for (const auto& lane : lanes_)
    if (lane->place == place) return *lane;
  throw Broken("a partition that was not opened");
}

}  // namespace sluice::transactions::sim
