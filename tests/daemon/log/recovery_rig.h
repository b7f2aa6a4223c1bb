// What the recovery tests share: lives of a daemon over one simulated disk, and what was written in them.
// Owner: one test.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/io/sim_disk.h"
#include "daemon/log/log_file.h"
#include "daemon/log/partition_log.h"
#include "tests/daemon/log/log_rig.h"

namespace sluice::log {

class Recovery : public testing::Test {
 protected:
  // One life of the daemon: opens, writes `bytes` of records in steps, each made durable, and stops.
  void live(std::uint64_t life, std::uint64_t bytes, bool clean) {
    Opened opened = open_log(disk_, options_);
    LogWriter writer(disk_, *opened.log, options_, life, life == 1 ? Position(0) : next_start(opened.report, options_));
    const Position until = writer.end() + bytes;
    for (std::uint64_t step = 0; writer.end() < until; ++step) {
      writer.append_some(std::min<std::uint64_t>(3000, until - writer.end()), life * 1000 + step);
      ASSERT_TRUE(writer.sync());
    }
    records_.insert(records_.end(), writer.records().begin(), writer.records().end());
    if (clean) {
      ASSERT_TRUE(opened.log->close());
    }
  }
  std::string log_at(Position base) const { return log_path(options_.directory, base); }
  std::string index_at(Position base) const { return index_path(options_.directory, base); }
  std::vector<Position> bases() {
    std::vector<Position> found;
    for (const std::string& name : list_files(disk_, options_.directory)) {
      const ParsedName parsed = parse_name(name, options_.segment_size);
      if (parsed.kind == NameKind::log) found.push_back(parsed.base);
    }
    return found;
  }
  void mangle(const std::string& path, const std::function<void(std::vector<std::byte>&)>& change) {
    auto bytes = read_file(disk_, path);
    change(bytes);
    write_file(disk_, path, bytes);
  }
  void flip(Position base, Position position) {
    mangle(log_at(base), [&](auto& bytes) { bytes[position - base] ^= std::byte{1}; });
  }
  void remove_indexes() {
    for (const Position base : bases()) static_cast<void>(disk_.unlink(index_at(base)).has_value());
  }
  // Opens, and expects exactly these to be visited and served.
  RecoveryReport expect_served(const std::vector<RigRecord>& expected) {
    Opened opened = open_log(disk_, options_);
    const Served served = serve(*opened.log, options_, Position(0));
    EXPECT_EQ(served.damage, std::vector<std::string>());
    EXPECT_EQ(served.records.size(), expected.size());
    EXPECT_TRUE(served.records == expected);
    EXPECT_EQ(opened.visited.size(), expected.size());
    for (std::size_t i = 0; i < std::min(expected.size(), opened.visited.size()); ++i) {
      EXPECT_EQ(opened.visited[i].position, expected[i].position);
      EXPECT_EQ(opened.visited[i].sequence, expected[i].sequence);
      EXPECT_EQ(opened.visited[i].trailer, expected[i].trailer);
    }
    return opened.report;
  }
  std::vector<RigRecord> all_but(const std::function<bool(const RigRecord&)>& gone) const {
    std::vector<RigRecord> rest = records_;
    std::erase_if(rest, gone);
    return rest;
  }
  std::size_t record_near(Position position) const {
    const auto found = std::find_if(records_.begin(), records_.end(),
                                    [&](const RigRecord& record) { return record.position >= position; });
    return static_cast<std::size_t>(found - records_.begin());
  }
  Position end_of_records() const { return records_.back().position + records_.back().claim.span_size(); }

  io::SimDisk disk_{{}};
  const LogOptions options_ = rig_options();
  std::vector<RigRecord> records_;
};

}  // namespace sluice::log
