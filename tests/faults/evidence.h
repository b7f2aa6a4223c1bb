// What senders were told, to hold against what readers find after a fault.
//
// Owner: the test; one thread. On the public SDK alone.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/sluice.h"
#include "tests/crash/board.h"
#include "tests/crash/daemon_process.h"

namespace sluice::test {

// A message that was committed.
struct Sent {
  Receipt receipt;
  std::uint64_t counter = 0;
  bool durable = false;    // its sender was told so
  std::uint64_t mark = 0;  // when, or a little later: in whatever the test counts in
};

// Sends messages whose bytes follow from (worker, counter) to one topic, and keeps their receipts.
class Sender {
 public:
  // `patience`: how long one call waits for room, or for what it sent to be durable.
  Sender(Client& client, std::string topic, std::uint32_t worker, Duration patience);

  // Sends `count` messages; the first error ends it.
  Status send(std::uint64_t count);
  Status flush() { return producer_.flush(patience_); }
  // The same after a restart of the daemon: each loss of memory is told once, as unknown, and then it goes on.
  Status flush_after_restart();
  // Looks which receipts are durable by now, and then, once, at `now`: those that were not before get that as their
  // mark. Returns how many it knows of.
  std::uint64_t settle(const std::function<std::uint64_t()>& now = {});

  const std::string& topic() const { return topic_; }
  std::uint32_t worker() const { return worker_; }
  const std::vector<Sent>& sent() const { return sent_; }

 private:
  const std::string topic_;
  const std::uint32_t worker_;
  const Duration patience_;
  Producer producer_;
  std::uint64_t counter_ = 0;
  std::vector<Sent> sent_;
  std::size_t settled_ = 0;  // all before it are durable, or were given up with their memory
  std::uint64_t durable_ = 0;
};

// Everything that is in a topic, by where it is.
using Contents = std::map<std::pair<PartitionNumber, std::uint64_t>, Origin>;
// Reads a topic from its earliest message to the end that stands; whatever readers must not see goes to `wrong`.
Contents read_topic(Client& client, const std::string& topic, std::string& wrong);

// Each receipt that was durable (with a mark of at most `mark_max`) is there, byte for byte and in order; no position
// holds another message than the one that its receipt names. Adds the durable ones to `held`.
testing::AssertionResult receipts_hold(Client& client, const std::vector<const Sender*>& senders, std::uint64_t& held,
                                       std::uint64_t mark_max = ~std::uint64_t{0});

// Sends a message to each topic, waits until it is durable, and reads it again.
testing::AssertionResult is_alive(Client& client, const std::vector<std::string>& topics);

// One durable topic of one partition, small enough for a small disk.
Status create_small_topic(Client& client, const std::string& name, Durability durability,
                          std::uint64_t segment_size = 256 * 1024);

}  // namespace sluice::test
