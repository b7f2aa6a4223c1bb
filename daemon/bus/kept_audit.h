// A checkpoint of the audit as the kept table holds it: bytes of a fixed layout, for it is noted again and again while
// messages flow, and may have thousands of rows.
#pragma once

#include <string>
#include <string_view>

#include "daemon/spill/partition.h"
#include "shm/base/result.h"

namespace sluice::bus {

std::string encode_checkpoint(const spill::Checkpoint& checkpoint);
// corrupt; version: of another daemon's layout.
Result<spill::Checkpoint> decode_checkpoint(std::string_view bytes);

}  // namespace sluice::bus
