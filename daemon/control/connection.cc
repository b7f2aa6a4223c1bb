#include "daemon/control/connection.h"

#include <string>

namespace sluice::control {

Result<CallSlot> CallSlot::take(Connection& connection) {
  if (connection.calls_in_flight_ >= kCallsInFlightMax) {
    return fail(ErrorCode::quota, "taking a control call: " + std::to_string(kCallsInFlightMax) +
                                      " of this client are in flight already; wait for answers");
  }
  ++connection.calls_in_flight_;
  return CallSlot(kj::addRef(connection));
}

CallSlot::~CallSlot() {
  if (connection_.get() != nullptr) --connection_->calls_in_flight_;
}

DescriptorServer::DescriptorServer(Connection& connection, UniqueFd fd)
    : connection_(kj::addRef(connection)), fd_(std::move(fd)) {
  ++connection_->descriptors_;
}

DescriptorServer::~DescriptorServer() noexcept(false) { --connection_->descriptors_; }

Status DescriptorServer::check_quota(const Connection& connection, std::size_t count) {
  if (connection.descriptors_ + count <= kDescriptorsMax) return {};
  return fail(ErrorCode::quota, "handing out descriptors: this client has not released " +
                                    std::to_string(connection.descriptors_) + " earlier ones");
}

}  // namespace sluice::control
