// A producer and a reader of one topic that must notice nothing of what befalls the daemon: no error, nothing lost,
// repeated or out of order, no wait for the daemon, no back-pressure.
//
// Owner: the test; each has two threads and a connection of its own.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/sluice.h"

namespace sluice::test {

class Traffic {
 public:
  // Between its bursts of eight messages it pauses: the ring must have room for all that comes while the daemon is
  // away.
  Traffic(Client client, std::string topic, std::uint32_t worker,
          std::chrono::milliseconds pause = std::chrono::milliseconds(2));
  ~Traffic();
  Traffic(const Traffic&) = delete;
  Traffic& operator=(const Traffic&) = delete;

  // No message is sent from now on; the reader goes on until it has all of them.
  void stop() { stop_ = true; }
  // Waits for that.
  void finish();
  std::uint64_t sent() const { return sent_; }
  std::uint64_t received() const { return received_; }
  const std::string& topic() const { return topic_; }
  // After finish(): the first thing that went wrong, and the counters of both.
  const std::string& trouble() const { return trouble_; }
  const ProducerCounters& producer_counters() const { return producer_counters_; }
  const ReaderCounters& reader_counters() const { return reader_counters_; }

 private:
  void complain(const std::string& what);
  void send();
  void receive();

  const std::string topic_;
  const std::uint32_t worker_;
  const std::chrono::milliseconds pause_;
  Client client_;
  std::mutex mutex_;
  std::string trouble_;  // guarded by mutex_ until finish()
  ProducerCounters producer_counters_;
  ReaderCounters reader_counters_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> all_sent_{false};
  std::atomic<std::uint64_t> sent_{0};
  std::atomic<std::uint64_t> received_{0};
  std::thread sender_;
  std::thread receiver_;
};

// One on each kind of topic: async, sync, volatile. `connect` makes a connection with the name given.
class AllTraffic {
 public:
  static const std::vector<std::string>& topics();

  // Creates the topics, and starts. `pause`: as Traffic's; so many milliseconds are room for as many seconds, nearly.
  void start(const std::function<Client(const std::string&)>& connect,
             std::chrono::milliseconds pause = std::chrono::milliseconds(2));
  std::uint64_t sent() const;
  std::uint64_t sent(std::size_t topic) const { return traffic_[topic]->sent(); }
  // Each gets further.
  testing::AssertionResult gets_on() const;
  // Ends it and looks back: nobody noticed. With Away::long_ the daemon may have been away for so long that the rings
  // were full; with Away::stopped it was asked to stop, and sends waited for the next one.
  enum class Away : std::uint8_t { briefly, long_, stopped };
  void expect_unnoticed(Client client, Away away);

 private:
  std::vector<std::unique_ptr<Traffic>> traffic_;
};

}  // namespace sluice::test
