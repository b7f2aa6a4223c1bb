#include "perf/group.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <functional>
#include <thread>
#include <vector>

#include "shm/base/clock.h"
#include "sluice/sluice.h"

namespace sluice::perf {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kBatch = 256;
constexpr std::uint32_t kDeliverySlots = 4096;  // the most that a member may have in hand

// Messages a second that `consume` takes while one producer sends as fast as it can. `consume` takes some, and says how
// many.
Result<double> rate_of(Client& client, const std::string& topic, const GroupOptions& options,
                       const std::function<Result<std::size_t>()>& consume) {
  std::atomic<bool> stop{false};
  Status sent;
  std::thread producer([&] {
    auto made = client.producer(topic);
    if (!made) {
      sent = fail(made.error());
      return;
    }
    const std::vector<std::byte> payload(options.size);
    while (!stop.load(std::memory_order_relaxed) && sent)
      if (auto receipt = made->send(payload); !receipt) sent = fail(receipt.error());
  });
  Status taken;
  std::uint64_t count = 0;
  std::uint64_t start = 0;
  const auto length = static_cast<std::uint64_t>(options.seconds * 1e9);
  std::uint64_t now = monotonic_ns();
  // A third of it to get going.
  const std::uint64_t warm = now + length / 3;
  while (taken && (start == 0 || now - start < length)) {
    for (int i = 0; i < 64 && taken; ++i) {
      auto some = consume();
      if (some)
        count += *some;
      else
        taken = fail(some.error());
    }
    now = monotonic_ns();
    if (start == 0 && now >= warm) {
      start = now;
      count = 0;
    }
  }
  stop = true;
  // It may wait for room that a consumer makes.
  while (taken) {
    auto some = consume();
    if (!some || *some == 0) break;
  }
  producer.join();
  SLUICE_TRY(taken);
  SLUICE_TRY(sent);
  return static_cast<double>(count) / (static_cast<double>(now - start) / 1e9);
}

Result<std::size_t> some(const Result<std::size_t>& count) {
  if (!count && count.error().code() == ErrorCode::timed_out) return std::size_t{0};
  return count;
}

struct Setting {
  const char* name;
  GroupMode mode;
  bool batch;
};

Result<double> measure(Client& client, const std::string& topic, const Setting& setting, const GroupOptions& options) {
  ConsumerOptions consuming;
  consuming.group = topic + (setting.batch ? ".batch." : ".each.") + std::to_string(static_cast<int>(setting.mode));
  consuming.mode = setting.mode;
  consuming.in_flight_max = kDeliverySlots;
  SLUICE_ASSIGN(Consumer consumer, client.consumer({topic}, consuming));
  std::vector<Delivery> taken;
  taken.reserve(kBatch);
  const auto one = [&]() -> Result<std::size_t> {
    auto delivery = consumer.next(100ms);
    if (!delivery && delivery.error().code() == ErrorCode::timed_out) return std::size_t{0};
    if (!delivery) return fail(delivery.error());
    SLUICE_TRY(consumer.ack(*delivery));
    return std::size_t{1};
  };
  const auto many = [&]() -> Result<std::size_t> {
    taken.clear();
    auto count = some(consumer.poll(kBatch, 100ms, [&](const Delivery& delivery) { taken.push_back(delivery); }));
    if (count) SLUICE_TRY(consumer.ack(taken));
    return count;
  };
  auto rate = rate_of(client, topic, options, setting.batch ? std::function<Result<std::size_t>()>(many) : one);
  SLUICE_TRY(consumer.close());
  SLUICE_TRY(client.delete_group(consuming.group));
  return rate;
}

}  // namespace

Status print_group(const GroupOptions& options) {
  ConnectOptions connect;
  connect.socket = options.socket;
  SLUICE_ASSIGN(Client client, Client::connect(connect));
  TopicConfig topic;
  topic.name = "sluice-perf." + std::to_string(::getpid());
  topic.durability = Durability::volatile_;
  SLUICE_TRY(client.create_topic(topic));
  const auto finish = [&](Status status) {
    Status deleted = client.delete_topic(topic.name);
    return status ? std::move(deleted) : std::move(status);
  };
  Result<double> bare = 0;
  {
    auto reader = client.reader({topic.name});
    if (!reader) return finish(fail(reader.error()));
    bare = rate_of(client, topic.name, options, [&] {
      auto message = reader->next(100ms);
      if (!message && message.error().code() != ErrorCode::timed_out) return Result<std::size_t>(fail(message.error()));
      return Result<std::size_t>(message ? std::size_t{1} : std::size_t{0});
    });
  }
  if (!bare) return finish(fail(bare.error()));
  std::printf("%u bytes, one producer, a volatile topic; millions of messages a second\n", options.size);
  std::printf("%-34s %8s %12s\n", "consumer", "M/s", "of the bare");
  std::printf("%-34s %8.2f %12s\n", "a reader without a group, next()", *bare / 1e6, "");
  const Setting settings[] = {{"ordered, ack per message", GroupMode::ordered, false},
                              {"ordered, batches of 256", GroupMode::ordered, true},
                              {"shared, ack per message", GroupMode::shared, false},
                              {"shared, batches of 256", GroupMode::shared, true}};
  for (const Setting& setting : settings) {
    const auto rate = measure(client, topic.name, setting, options);
    if (!rate) return finish(fail(rate.error()));
    std::printf("%-34s %8.2f %12.2f\n", setting.name, *rate / 1e6, *rate / *bare);
  }
  return finish({});
}

}  // namespace sluice::perf
