#include "perf/durable.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <deque>
#include <thread>
#include <vector>

#include "perf/disk_floor.h"
#include "shm/base/clock.h"
#include "sluice/sluice.h"

namespace sluice::perf {
namespace {

constexpr std::uint32_t kWindow = 256;
constexpr std::uint32_t kBlockingSenders = 64;
// What a measured topic keeps; once twice as much was written, its log files are those that retention took before.
constexpr std::uint64_t kRetentionBytes = 1ull << 30;

std::uint64_t end_of(const DurableOptions& options) {
  return monotonic_ns() + static_cast<std::uint64_t>(options.seconds * 1e9);
}

// Messages a second from the first send to the last byte on disk; as many as say, or as the time allows.
Result<double> stream_async(Producer& producer, const DurableOptions& options, std::uint64_t messages = 0) {
  const std::vector<std::byte> payload(options.size, std::byte{'d'});
  const std::uint64_t start = monotonic_ns();
  const std::uint64_t end = end_of(options);
  std::uint64_t sent = 0;
  for (; messages == 0 ? monotonic_ns() < end : sent < messages; sent += 64)
    for (int i = 0; i < 64; ++i) SLUICE_TRY(producer.send_async(payload));
  SLUICE_TRY(producer.flush());
  return static_cast<double>(sent) * 1e9 / static_cast<double>(monotonic_ns() - start);
}

// The time of each send that waits for its own durability, ns, sorted.
Result<std::vector<std::uint64_t>> send_sync(Producer& producer, const DurableOptions& options) {
  const std::vector<std::byte> payload(options.size, std::byte{'d'});
  std::vector<std::uint64_t> samples;
  for (const std::uint64_t end = end_of(options); monotonic_ns() < end;) {
    const std::uint64_t start = monotonic_ns();
    SLUICE_TRY(producer.send(payload));
    samples.push_back(monotonic_ns() - start);
  }
  std::sort(samples.begin(), samples.end());
  return samples;
}

Result<double> send_window(Producer& producer, const DurableOptions& options) {
  const std::vector<std::byte> payload(options.size, std::byte{'d'});
  std::deque<Receipt> window;
  const std::uint64_t start = monotonic_ns();
  std::uint64_t durable = 0;
  for (const std::uint64_t end = end_of(options); monotonic_ns() < end;) {
    while (window.size() < kWindow) {
      SLUICE_ASSIGN(Receipt receipt, producer.send_async(payload));
      window.push_back(receipt);
    }
    SLUICE_TRY(producer.wait(window.front()));
    // Whatever became durable with it makes room, too.
    while (!window.empty() && producer.state(window.front()) == ReceiptState::durable) {
      window.pop_front();
      ++durable;
    }
  }
  return static_cast<double>(durable) * 1e9 / static_cast<double>(monotonic_ns() - start);
}

Result<double> send_many_blocking(Client& client, const std::string& topic, const DurableOptions& options) {
  std::atomic<std::uint64_t> total{0};
  std::atomic<std::uint32_t> failed{0};
  std::vector<std::thread> senders;
  const std::uint64_t start = monotonic_ns();
  for (std::uint32_t i = 0; i < kBlockingSenders; ++i) {
    senders.emplace_back([&] {
      auto producer = client.producer(topic);
      auto samples = producer ? send_sync(*producer, options) : fail(producer.error());
      if (samples)
        total += samples->size();
      else
        ++failed;
    });
  }
  for (std::thread& sender : senders) sender.join();
  if (failed != 0) return fail(ErrorCode::internal, std::to_string(failed) + " of the blocking senders failed");
  return static_cast<double>(total) * 1e9 / static_cast<double>(monotonic_ns() - start);
}

class TemporaryTopic {
 public:
  static Result<TemporaryTopic> create(Client& client, const char* name, Durability durability) {
    TopicConfig config;
    config.name = std::string("sluice-perf.") + name + "." + std::to_string(::getpid());
    config.durability = durability;
    config.retention_bytes = kRetentionBytes;
    config.slots = 16;
    SLUICE_TRY(client.create_topic(config));
    return TemporaryTopic(client, config.name);
  }
  TemporaryTopic(TemporaryTopic&& other) noexcept : client_(other.client_), name_(std::move(other.name_)) {
    other.name_.clear();
  }
  TemporaryTopic& operator=(TemporaryTopic&&) = delete;
  ~TemporaryTopic() {
    if (!name_.empty()) static_cast<void>(client_.delete_topic(name_));
  }
  const std::string& name() const { return name_; }

 private:
  TemporaryTopic(Client& client, std::string name) : client_(client), name_(std::move(name)) {}
  Client& client_;
  std::string name_;
};

Status print_async(Client& client, const DurableOptions& options, const DiskFloor& floor) {
  SLUICE_ASSIGN(TemporaryTopic topic, TemporaryTopic::create(client, "async", Durability::async));
  SLUICE_ASSIGN(Producer producer, client.producer(topic.name()));
  const auto print = [&](const char* what, double rate) {
    const double bytes = rate * options.size;
    std::printf("%s %9.0f messages/s %8.1f MB/s   %.2f of the raw bandwidth, %.2f of it on new blocks\n", what, rate,
                bytes / 1e6, bytes / floor.sequential_bytes_per_s, bytes / floor.growing_bytes_per_s);
  };
  SLUICE_ASSIGN(const double growing, stream_async(producer, options, 2 * kRetentionBytes / options.size));
  print("async, new log files ", growing);
  SLUICE_ASSIGN(const double sustained, stream_async(producer, options));
  print("async, files reused  ", sustained);
  return {};
}

Status print_sync(Client& client, const DurableOptions& options, const DiskFloor& floor) {
  SLUICE_ASSIGN(TemporaryTopic topic, TemporaryTopic::create(client, "sync", Durability::sync));
  SLUICE_ASSIGN(Producer producer, client.producer(topic.name()));
  SLUICE_ASSIGN(const std::vector<std::uint64_t> samples, send_sync(producer, options));
  const auto p50 = static_cast<double>(samples[samples.size() / 2]);
  const auto p99 = static_cast<double>(samples[samples.size() * 99 / 100]);
  std::printf("sync, one sender      p50 %7.1f us   p99 %7.1f us   p50 is %.2f raw synchronous writes of 4 KiB\n",
              p50 / 1e3, p99 / 1e3, p50 / floor.sync_4k_p50_ns);
  SLUICE_ASSIGN(const double window, send_window(producer, options));
  std::printf("sync, window of %u   %9.0f messages/s   (a raw synchronous write of 256 KiB takes %.1f us)\n", kWindow,
              window, floor.sync_256k_p50_ns / 1e3);
  SLUICE_ASSIGN(const double many, send_many_blocking(client, topic.name(), options));
  std::printf("sync, %u blocking     %9.0f messages/s\n", kBlockingSenders, many);
  return {};
}

}  // namespace

Status print_durable(const DurableOptions& options) {
  ConnectOptions connect;
  connect.socket = options.socket;
  SLUICE_ASSIGN(Client client, Client::connect(connect));
  SLUICE_ASSIGN(const BusStatus status, client.status());
  const std::string directory =
      options.directory.empty() ? status.data_directory.substr(0, status.data_directory.rfind('/')) : options.directory;
  SLUICE_ASSIGN(const DiskFloor floor, measure_disk_floor(directory, options.seconds));
  std::printf(
      "floor: %.1f MB/s sequential O_DIRECT, %.1f MB/s into new blocks with a sync each 16 MiB\n"
      "floor: synchronous write of 4 KiB %.1f us, of 256 KiB %.1f us (p50)\n",
      floor.sequential_bytes_per_s / 1e6, floor.growing_bytes_per_s / 1e6, floor.sync_4k_p50_ns / 1e3,
      floor.sync_256k_p50_ns / 1e3);
  SLUICE_TRY(print_async(client, options, floor));
  return print_sync(client, options, floor);
}

}  // namespace sluice::perf
