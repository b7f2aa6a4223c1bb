// Honest clients beside those that mean harm: one publishes and one reads a topic all the time, and they note what goes
// wrong with it.
//
// Owner: the test; two threads, a connection each.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>

#include "sluice/sluice.h"
#include "tests/crash/daemon_process.h"

namespace sluice::test {

class Neighbours {
 public:
  Neighbours(TestDaemon& daemon, std::string topic)
      : topic_(std::move(topic)),
        producing_([this, &daemon] { produce(daemon.connect()); }),
        consuming_([this, &daemon] { consume(daemon.connect()); }) {}
  ~Neighbours() { finish(); }
  void finish() {
    stop_ = true;
    if (producing_.joinable()) producing_.join();
    all_sent_ = true;
    if (consuming_.joinable()) consuming_.join();
  }

  std::atomic<std::uint64_t> sent = 0, read = 0, corrupt = 0, failures = 0;
  std::string place, failure;  // after finish(): where bytes were noticed that cannot be right; the last error

 private:
  void produce(Client client) {
    ProducerOptions options;
    options.send_timeout = std::chrono::seconds(1);
    auto producer = client.producer(topic_, options);
    while (!stop_) {
      if (!producer) {
        producer = client.producer(topic_, options);
      } else {
        const auto receipt = producer->send("number " + std::to_string(sent.load() + 1));
        if (receipt) {
          ++sent;
        } else {
          ++failures;
        }
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  void consume(Client client) {
    ReaderOptions options;
    options.from = From::earliest();
    options.on_loss = [this](const LossEvent& event) {
      if (event.kind != LossEvent::Kind::corrupt) return;
      ++corrupt;
      place = event.address.to_string() + ": " + event.reason;
    };
    auto reader = client.reader({topic_}, options);
    while (!all_sent_ || (reader && failures == 0 && corrupt == 0 && read < sent)) {
      if (!reader) {
        reader = client.reader({topic_}, options);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        continue;
      }
      auto handled = reader->poll(64, std::chrono::milliseconds(50), [this](const Message& message) {
        std::uint64_t sum = 0;  // touches each byte, as a consumer would
        for (const std::byte byte : message.payload()) sum += static_cast<std::uint64_t>(byte);
        touched_ = touched_ + sum;
        ++read;
      });
      if (!handled && handled.error().code() != ErrorCode::timed_out) {
        failure = handled.error().message();
        ++failures;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        if (all_sent_) return;
      }
    }
  }

  const std::string topic_;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> all_sent_ = false;  // it reads until then, and what is left
  std::atomic<std::uint64_t> touched_ = 0;
  std::thread producing_, consuming_;
};

}  // namespace sluice::test
