// The control socket of a qemu-storage-daemon: one JSON object a line. Owner: the test; one thread.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "shm/base/fd.h"

namespace sluice::test {

class Qmp {
 public:
  // Throws if nobody answers.
  explicit Qmp(const std::string& socket);
  // Throws with the daemon's words where it refuses.
  nlohmann::json execute(const std::string& command, const nlohmann::json& arguments);

 private:
  std::string read_line();

  UniqueFd fd_;
  std::string buffer_;
};

}  // namespace sluice::test
