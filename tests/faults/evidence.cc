#include "tests/faults/evidence.h"

#include <stdexcept>
#include <utility>

#include "tests/crash/ledger.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kReadBatch = 256;
constexpr std::uint32_t kLifeWorker = kWorkersMax - 1;  // of the messages that prove life

Producer open_producer(Client& client, const std::string& topic, Duration patience) {
  ProducerOptions options;
  options.send_timeout = patience;
  auto producer = client.producer(topic, options);
  if (!producer) throw std::runtime_error(producer.error().message());
  return std::move(*producer);
}

Reader open_reader(Client& client, const std::string& topic, From from) {
  ReaderOptions options;
  options.from = from;
  auto reader = client.reader({topic}, options);
  if (!reader) throw std::runtime_error(reader.error().message());
  return std::move(*reader);
}

std::string place(const Sender& sender, const Sent& sent) {
  return sender.topic() + "/" + std::to_string(sent.receipt.partition) + "@" +
         std::to_string(sent.receipt.position.value) + " (message " + std::to_string(sent.counter) + " of worker " +
         std::to_string(sender.worker()) + ")";
}

}  // namespace

Sender::Sender(Client& client, std::string topic, std::uint32_t worker, Duration patience)
    : topic_(std::move(topic)),
      worker_(worker),
      patience_(patience),
      producer_(open_producer(client, topic_, patience)) {}

Status Sender::send(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    ++counter_;
    SLUICE_ASSIGN(const Receipt receipt, producer_.send_async(make_payload(worker_, counter_)));
    sent_.push_back({receipt, counter_, false, 0});
  }
  return {};
}

Status Sender::flush_after_restart() {
  Status flushed = flush();
  while (!flushed && flushed.error().code() == ErrorCode::unknown) flushed = flush();
  return flushed;
}

std::uint64_t Sender::settle(const std::function<std::uint64_t()>& now) {
  std::vector<Sent*> fresh;
  for (std::size_t i = settled_; i < sent_.size(); ++i) {
    Sent& one = sent_[i];
    const ReceiptState state = one.durable ? ReceiptState::durable : producer_.state(one.receipt);
    if (state == ReceiptState::durable && !one.durable) fresh.push_back(&one);
    if (i == settled_ && state != ReceiptState::committed) ++settled_;
  }
  const std::uint64_t mark = now ? now() : 0;
  for (Sent* one : fresh) {
    one->durable = true;
    one->mark = mark;
  }
  durable_ += fresh.size();
  return durable_;
}

Contents read_topic(Client& client, const std::string& topic, std::string& wrong) {
  Contents contents;
  Ledger ledger;
  Reader reader = open_reader(client, topic, From::earliest());
  while (!reader.at_initial_end()) {
    auto handled = reader.poll(kReadBatch, 20ms, [&](const Message& message) {
      const std::string complaint = ledger.note(message);
      if (wrong.empty()) wrong = complaint;
      Origin origin;
      if (parse_payload(message.text(), origin)) contents[{message.partition(), message.position().value}] = origin;
    });
    if (!handled && handled.error().code() != ErrorCode::timed_out) {
      wrong = "reading " + topic + ": " + handled.error().message();
      return contents;
    }
  }
  if (wrong.empty() && reader.counters().corrupt + reader.counters().repeats != 0)
    wrong = topic + ": readers met " + std::to_string(reader.counters().corrupt) + " corrupt records and " +
            std::to_string(reader.counters().repeats) + " repeats";
  return contents;
}

testing::AssertionResult receipts_hold(Client& client, const std::vector<const Sender*>& senders, std::uint64_t& held,
                                       std::uint64_t mark_max) {
  std::map<std::string, Contents> topics;
  for (const Sender* sender : senders) {
    if (topics.count(sender->topic()) != 0) continue;
    std::string wrong;
    topics[sender->topic()] = read_topic(client, sender->topic(), wrong);
    if (!wrong.empty()) return testing::AssertionFailure() << wrong;
  }
  for (const Sender* sender : senders) {
    const Contents& contents = topics[sender->topic()];
    for (const Sent& sent : sender->sent()) {
      const auto at = contents.find({sent.receipt.partition, sent.receipt.position.value});
      const bool must = sent.durable && sent.mark <= mark_max;
      if (at == contents.end() && must)
        return testing::AssertionFailure() << place(*sender, sent) << " was durable, and is not there";
      if (at != contents.end() && (at->second.worker != sender->worker() || at->second.counter != sent.counter))
        return testing::AssertionFailure() << place(*sender, sent) << " is another message";
      held += must;
    }
  }
  return testing::AssertionSuccess();
}

testing::AssertionResult is_alive(Client& client, const std::vector<std::string>& topics) {
  static std::uint64_t counter = 0;  // the readers' ledgers want them in order
  for (const std::string& topic : topics) {
    Producer producer = open_producer(client, topic, std::chrono::seconds(kHangSeconds));
    const std::string payload = make_payload(kLifeWorker, ++counter);
    const auto receipt = producer.send(payload);
    if (!receipt) return testing::AssertionFailure() << receipt.error().message();
    if (const Status flushed = producer.flush(std::chrono::seconds(kHangSeconds)); !flushed)
      return testing::AssertionFailure() << flushed.error().message();
    Reader reader = open_reader(client, topic, From::position(receipt->partition, receipt->position));
    bool found = false;
    const bool ended = wait_until([&] {
      auto message = reader.next(100ms);
      found = message && message->partition() == receipt->partition && message->position() == receipt->position;
      return found || (!message && message.error().code() != ErrorCode::timed_out);
    });
    if (!ended || !found) return testing::AssertionFailure() << topic << ": a message just sent is not read";
  }
  return testing::AssertionSuccess();
}

Status create_small_topic(Client& client, const std::string& name, Durability durability, std::uint64_t segment_size) {
  TopicConfig config;
  config.name = name;
  config.durability = durability;
  config.segment_size = segment_size;
  config.slots = 4;
  config.claim_deadline = std::chrono::minutes(1);
  return client.create_topic(config);
}

}  // namespace sluice::test
