#include "perf/transaction.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "perf/disk_floor.h"
#include "shm/base/clock.h"
#include "sluice/sluice.h"

namespace sluice::perf {
namespace {

constexpr std::uint32_t kTransactors = 16;

using Samples = std::vector<std::uint64_t>;  // ns

// How long each call takes, for so long.
Result<Samples> time_each(double seconds, const std::function<Status()>& call) {
  Samples samples;
  for (const std::uint64_t end = monotonic_ns() + static_cast<std::uint64_t>(seconds * 1e9); monotonic_ns() < end;) {
    const std::uint64_t start = monotonic_ns();
    SLUICE_TRY(call());
    samples.push_back(monotonic_ns() - start);
  }
  std::sort(samples.begin(), samples.end());
  return samples;
}

void print(const char* what, const Samples& samples, double floor_ns, const char* floor) {
  const auto p50 = static_cast<double>(samples[samples.size() / 2]);
  const auto p99 = static_cast<double>(samples[samples.size() * 99 / 100]);
  std::printf("%s p50 %8.1f us   p99 %8.1f us   p50 is %.2f %s\n", what, p50 / 1e3, p99 / 1e3, p50 / floor_ns, floor);
}

Status run_one(TransactionalProducer& producer, const std::string& topic, std::span<const std::byte> payload) {
  SLUICE_ASSIGN(Transaction transaction, producer.begin());
  SLUICE_TRY(transaction.send(topic, payload));
  SLUICE_TRY(transaction.prepare());
  return transaction.commit();
}

// Transactions a second of many at a time, each on a thread of its own.
Result<double> run_many(Client& client, const std::string& topic, const TransactionOptions& options) {
  std::mutex mutex;
  std::optional<Error> failure;
  std::uint64_t done = 0;
  std::vector<std::thread> threads;
  const std::uint64_t start = monotonic_ns();
  for (std::uint32_t i = 0; i < kTransactors; ++i)
    threads.emplace_back([&] {
      const auto run = [&]() -> Result<std::size_t> {
        SLUICE_ASSIGN(TransactionalProducer producer,
                      client.transactional_producer({"perf", {}, std::chrono::seconds(30)}));
        const std::vector<std::byte> payload(options.size, std::byte{'t'});
        SLUICE_ASSIGN(const Samples samples,
                      time_each(options.seconds, [&] { return run_one(producer, topic, payload); }));
        return samples.size();
      };
      const auto count = run();
      const std::lock_guard lock(mutex);
      if (count)
        done += *count;
      else
        failure = count.error();
    });
  for (std::thread& thread : threads) thread.join();
  if (failure) return fail(*failure);
  return static_cast<double>(done) * 1e9 / static_cast<double>(monotonic_ns() - start);
}

Status measure(Client& client, const std::string& topic, const TransactionOptions& options, double sync_ns) {
  const std::vector<std::byte> payload(options.size, std::byte{'t'});
  {
    SLUICE_ASSIGN(Producer plain, client.producer(topic));
    SLUICE_ASSIGN(const Samples samples, time_each(options.seconds, [&]() -> Status {
                    SLUICE_TRY(plain.send(payload));
                    return {};
                  }));
    print("plain send, sync        ", samples, sync_ns, "raw synchronous writes of 4 KiB");
  }
  {
    SLUICE_ASSIGN(TransactionalProducer producer,
                  client.transactional_producer({"perf", {}, std::chrono::seconds(30)}));
    SLUICE_ASSIGN(const Samples samples, time_each(options.seconds, [&] { return run_one(producer, topic, payload); }));
    print("half and commit, one    ", samples, 2 * sync_ns, "times two raw synchronous writes of 4 KiB");
  }
  SLUICE_ASSIGN(const double many, run_many(client, topic, options));
  std::printf("half and commit, %u at a time   %9.0f transactions/s\n", kTransactors, many);
  return {};
}

}  // namespace

Status print_transaction(const TransactionOptions& options) {
  ConnectOptions connect;
  connect.socket = options.socket;
  SLUICE_ASSIGN(Client client, Client::connect(connect));
  SLUICE_ASSIGN(const BusStatus status, client.status());
  const std::string directory =
      options.directory.empty() ? status.data_directory.substr(0, status.data_directory.rfind('/')) : options.directory;
  SLUICE_ASSIGN(const DiskFloor floor, measure_disk_floor(directory, options.seconds));
  std::printf("floor: synchronous write of 4 KiB %.1f us (p50)\n", floor.sync_4k_p50_ns / 1e3);
  TopicConfig config;
  config.name = "perf-transaction-" + std::to_string(::getpid());
  config.durability = Durability::sync;
  SLUICE_TRY(client.create_topic(config));
  const Status measured = measure(client, config.name, options, floor.sync_4k_p50_ns);
  static_cast<void>(client.delete_topic(config.name));
  return measured;
}

}  // namespace sluice::perf
