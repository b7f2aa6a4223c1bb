// Writes seeds for the fuzzers into a directory: a log file as the daemon writes it, with and without its index.
#include <cstdio>
#include <fstream>
#include <string>

#include "daemon/io/sim_disk.h"
#include "daemon/log/log_file.h"
#include "tests/daemon/log/log_rig.h"

int main(int argc, char** argv) {
  using namespace sluice;
  using namespace sluice::log;
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  LogOptions options = rig_options("/p");
  options.segment_size = 8192;
  options.segments_per_file = 2;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    io::SimDisk disk({.seed = seed});
    Opened opened = open_log(disk, options);
    LogWriter writer(disk, *opened.log, options, 1, Position(0));
    writer.append_some(seed * 1200, seed);
    if (!writer.sync()) return 1;
    if (seed % 2 == 0 && !opened.log->close()) return 1;
    const auto log = read_file(disk, log_path(options.directory, Position(0)));
    std::vector<std::byte> index;
    if (exists(disk, index_path(options.directory, Position(0))))
      index = read_file(disk, index_path(options.directory, Position(0)));
    std::ofstream out(std::string(argv[1]) + "/seed-" + std::to_string(seed), std::ios::binary);
    // As scan_fuzzer splits it: index size = whole size * first byte / 1024.
    const std::size_t whole = index.size() + log.size();
    out.put(static_cast<char>((index.size() * 1024 + whole - 1) / whole));
    out.write(reinterpret_cast<const char*>(index.data()), static_cast<std::streamsize>(index.size()));
    out.write(reinterpret_cast<const char*>(log.data()), static_cast<std::streamsize>(log.size()));
  }
  return 0;
}
