#include "tests/crash/traffic.h"

#include <chrono>
#include <cstdio>
#include <utility>

#include "tests/crash/board.h"
#include "tests/crash/daemon_process.h"
#include "tests/crash/ledger.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kSegmentSize = 256 * 1024;

TopicConfig config_of(const std::string& topic) {
  TopicConfig config;
  config.name = topic;
  config.partitions = 2;
  if (topic == "payments") config.durability = Durability::sync;
  if (topic == "ticks") config.durability = Durability::volatile_;
  config.segment_size = kSegmentSize;
  config.slots = 32;
  config.retention_bytes = 4 * kSegmentSize;
  return config;
}

}  // namespace

Traffic::Traffic(Client client, std::string topic, std::uint32_t worker, std::chrono::milliseconds pause)
    : topic_(std::move(topic)), worker_(worker), pause_(pause), client_(std::move(client)) {
  sender_ = std::thread([this] { send(); });
  receiver_ = std::thread([this] { receive(); });
}

Traffic::~Traffic() { finish(); }

void Traffic::finish() {
  stop();
  if (sender_.joinable()) sender_.join();
  if (receiver_.joinable()) receiver_.join();
}

void Traffic::complain(const std::string& what) {
  const std::lock_guard lock(mutex_);
  if (trouble_.empty()) trouble_ = topic_ + ": " + what;
  stop_ = true;
}

void Traffic::send() {
  ProducerOptions options;
  options.send_timeout = 60s;
  auto producer = client_.producer(topic_, options);
  if (!producer) return complain(producer.error().message());
  while (!stop_) {
    for (int i = 0; i < 8 && !stop_; ++i) {
      MessageOptions to;
      to.partition = static_cast<PartitionNumber>(sent_ % 2);
      const auto receipt = producer->send_async(make_payload(worker_, sent_ + 1), to);
      if (!receipt) return complain(receipt.error().message());
      ++sent_;
    }
    std::this_thread::sleep_for(pause_);
  }
  if (const Status flushed = producer->flush(60s); !flushed) complain(flushed.error().message());
  producer_counters_ = producer->counters();
  all_sent_ = true;
}

void Traffic::receive() {
  ReaderOptions options;
  options.from = From::earliest();
  auto reader = client_.reader({topic_}, options);
  if (!reader) return complain(reader.error().message());
  Ledger ledger;
  const auto in_trouble = [this] {
    const std::lock_guard lock(mutex_);
    return !trouble_.empty();
  };
  while (!all_sent_ || received_ < sent_) {
    auto handled = reader->poll(256, 20ms, [&](const Message& message) {
      const std::string wrong = ledger.note(message);
      if (!wrong.empty()) complain(wrong);
      ++received_;
    });
    if (!handled) return complain(handled.error().message());
    if (stop_ && in_trouble()) return;
  }
  reader_counters_ = reader->counters();
}

const std::vector<std::string>& AllTraffic::topics() {
  static const std::vector<std::string> topics = {"orders", "payments", "ticks"};  // async, sync, volatile
  return topics;
}

void AllTraffic::start(const std::function<Client(const std::string&)>& connect, std::chrono::milliseconds pause) {
  Client client = connect("setup");
  for (const std::string& topic : topics()) {
    const Status made = client.create_topic(config_of(topic));
    ASSERT_TRUE(made.has_value()) << made.error().message();
  }
  for (std::uint32_t i = 0; i < topics().size(); ++i)
    traffic_.push_back(std::make_unique<Traffic>(connect(topics()[i]), topics()[i], i, pause));
}

std::uint64_t AllTraffic::sent() const {
  std::uint64_t sum = 0;
  for (const auto& traffic : traffic_) sum += traffic->sent();
  return sum;
}

testing::AssertionResult AllTraffic::gets_on() const {
  for (const auto& traffic : traffic_) {
    const std::uint64_t sent = traffic->sent(), received = traffic->received();
    if (!wait_until([&] { return traffic->sent() > sent && traffic->received() > received; }))
      return testing::AssertionFailure() << traffic->topic() << " stands at " << sent << " sent, " << received
                                         << " received";
  }
  return testing::AssertionSuccess();
}

void AllTraffic::expect_unnoticed(Client client, Away away) {
  for (auto& traffic : traffic_) traffic->stop();
  for (auto& traffic : traffic_) {
    traffic->finish();
    EXPECT_EQ("", traffic->trouble());
    EXPECT_EQ(traffic->sent(), traffic->received()) << traffic->topic();
    if (away == Away::briefly) {
      EXPECT_EQ(0u, traffic->producer_counters().back_pressure) << traffic->topic();
    }
    if (away != Away::stopped) {
      EXPECT_EQ(0u, traffic->producer_counters().daemon_waits) << traffic->topic();
    }
    EXPECT_EQ(0u, traffic->reader_counters().gaps + traffic->reader_counters().repeats) << traffic->topic();
    EXPECT_EQ(0u, traffic->reader_counters().corrupt) << traffic->topic();
  }
  for (const std::string& topic : topics()) {
    const AuditReport report = client.audit(topic).value();
    EXPECT_TRUE(report.holds) << topic;
    for (const AuditRow& row : report.rows)
      EXPECT_EQ(0u, row.gaps + row.repeats + row.cut + row.quarantined + row.aborted)
          << topic << "/" << row.partition << ": " << row.gaps << " gaps, " << row.repeats << " repeats, " << row.cut
          << " cut, " << row.quarantined << " quarantined, " << row.aborted << " aborted of "
          << row.sequence_last.value;
  }
  std::printf("  %llu messages\n", static_cast<unsigned long long>(sent()));
}

}  // namespace sluice::test
