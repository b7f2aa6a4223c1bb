#include "perf/sdk_latency.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "perf/ring_floor.h"
#include "shm/base/clock.h"
#include "sluice/sluice.h"

namespace sluice::perf {
namespace {

constexpr std::uint32_t kFloorRounds = 20000;

void pin_to(unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu % std::max(1u, std::thread::hardware_concurrency()), &set);
  ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set);  // a wish
}

// Half the round trip of one line between two pinned threads.
double line_travel_ns() {
  PingPong line{};
  std::thread other([&] {
    pin_to(1);
    pong(line, kFloorRounds);
  });
  pin_to(0);
  const Percentiles trip = ping(line, kFloorRounds);
  other.join();
  return trip.p50_ns / 2;
}

double at(const std::vector<std::uint64_t>& sorted, double part) {
  return sorted.empty()
             ? 0
             : static_cast<double>(sorted[static_cast<std::size_t>(part * static_cast<double>(sorted.size() - 1))]) /
                   cycles_per_ns();
}

// Sends at a steady pace; each payload opens with the counter's value when it was handed to send().
Status send_paced(Producer& producer, const LatencyOptions& options, std::uint64_t count) {
  std::vector<std::byte> payload(std::max<std::size_t>(options.size, 8));
  const double interval = 1e9 / options.rate * cycles_per_ns();
  const std::uint64_t start = cycles();
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t due = start + static_cast<std::uint64_t>(interval * static_cast<double>(i));
    while (cycles() < due) {
    }
    const std::uint64_t now = cycles();
    std::memcpy(payload.data(), &now, sizeof now);
    SLUICE_TRY(producer.send_async(payload));
  }
  return {};
}

Result<std::vector<std::uint64_t>> measure(Client& client, const std::string& topic, WaitStrategy wait,
                                           const LatencyOptions& options) {
  ReaderOptions reader_options;
  reader_options.wait = wait;
  SLUICE_ASSIGN(Reader reader, client.reader({topic}, reader_options));
  SLUICE_ASSIGN(Producer producer, client.producer(topic));
  const auto count = static_cast<std::uint64_t>(options.seconds * options.rate);
  std::vector<std::uint64_t> samples;
  samples.reserve(count);
  Status read;
  std::thread consumer([&] {
    pin_to(1);
    while (samples.size() < count && read) {
      auto handled = reader.poll(count, std::chrono::seconds(5), [&](const Message& message) {
        std::uint64_t sent;
        std::memcpy(&sent, message.payload().data(), sizeof sent);
        samples.push_back(cycles() - sent);
      });
      if (!handled)
        read = fail(handled.error());
      else if (*handled == 0)
        read = fail(ErrorCode::timed_out, "waiting for the producer's messages");
    }
  });
  pin_to(0);
  const Status sent = send_paced(producer, options, count);
  consumer.join();
  SLUICE_TRY(sent);
  SLUICE_TRY(read);
  std::sort(samples.begin(), samples.end());
  return samples;
}

}  // namespace

Status print_latency(const LatencyOptions& options) {
  ConnectOptions connect;
  connect.socket = options.socket;
  SLUICE_ASSIGN(Client client, Client::connect(connect));
  TopicConfig topic;
  topic.name = "sluice-perf." + std::to_string(::getpid());
  topic.durability = Durability::volatile_;
  SLUICE_TRY(client.create_topic(topic));
  Status measured;
  const double floor = line_travel_ns();
  std::printf("%u bytes, %u messages a second, one way; the travel of one cache line is %.0f ns\n", options.size,
              options.rate, floor);
  std::printf("%-18s %9s %9s %9s %9s %12s %10s\n", "consumer", "p50 ns", "p90", "p99", "p99.9", "max", "p50/floor");
  const std::pair<const char*, WaitStrategy> settings[] = {{"spins", WaitStrategy::spin},
                                                           {"spins, then sleeps", WaitStrategy::spin_then_sleep},
                                                           {"sleeps", WaitStrategy::sleep}};
  for (const auto& [name, wait] : settings) {
    const auto samples = measure(client, topic.name, wait, options);
    if (!samples) {
      measured = fail(samples.error());
      break;
    }
    std::printf("%-18s %9.0f %9.0f %9.0f %9.0f %12.0f %9.1fx\n", name, at(*samples, 0.5), at(*samples, 0.9),
                at(*samples, 0.99), at(*samples, 0.999), at(*samples, 1), at(*samples, 0.5) / floor);
  }
  SLUICE_TRY(client.delete_topic(topic.name));
  return measured;
}

}  // namespace sluice::perf
