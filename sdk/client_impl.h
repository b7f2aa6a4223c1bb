// What a Client is made of; shared by the files that implement it. Internal to the SDK.
#pragma once

#include <memory>

#include "sdk/control_link.h"
#include "sluice/client.h"

namespace sluice {

struct Client::Impl {
  std::shared_ptr<internal::ControlLink> link;

  internal::ControlClient& control() const { return link->control(); }
};

}  // namespace sluice
