// libFuzzer: arbitrary bytes as a partition's log file and its index, through the whole recovery. Whatever they are, it
// ends, and what it then serves holds.
//
// The first byte splits the input: how much of it is the index.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "daemon/io/sim_disk.h"
#include "daemon/log/log_file.h"
#include "daemon/log/partition_log.h"
#include "tests/daemon/log/log_rig.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice;
  using namespace sluice::log;
  if (size < 2) return 0;
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(1);
  const std::size_t index_size = bytes.size() * data[0] / 1024;
  LogOptions options = rig_options("/p");
  options.segment_size = 8192;
  options.segments_per_file = 2;
  io::SimDisk disk({});
  if (!disk.make_directories(options.directory)) std::abort();
  if (index_size != 0) write_file(disk, index_path(options.directory, Position(0)), bytes.first(index_size));
  write_file(disk, log_path(options.directory, Position(0)), bytes.subspan(index_size));
  for (int start = 0; start < 2; ++start) {
    RecoveryReport report;
    auto log = PartitionLog::open(disk, options, Position(), {}, report);
    if (!log) {
      if (log.error().code() != ErrorCode::version) std::abort();
      return 0;
    }
    if (!serve(**log, options, Position()).damage.empty()) std::abort();
  }
  return 0;
}
