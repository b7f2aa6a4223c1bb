// A consumer over a LocalBus whose group the test plays.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sdk/consumer_core.h"
#include "tests/sdk/sdk_rig.h"

namespace sluice::test {

struct GroupRig : Rig {
  explicit GroupRig(BusShape shape = {}) : Rig(shape), group(bus->group()), sender(producer()) {}

  std::unique_ptr<internal::ConsumerCore> consumer(ConsumerOptions options = {}) {
    options.group = "billing";
    options.on_rebalance = [this](const Rebalance& one) {
      static constexpr const char* kNames[] = {"assigned", "revoked", "lost"};
      rebalances.push_back(std::string(kNames[static_cast<int>(one.kind)]) + ' ' + std::to_string(one.partition));
    };
    return internal::ConsumerCore::open(bus, {LocalBus::kTopic}, std::move(options)).value();
  }
  // "0", "1", … with these options.
  std::vector<Receipt> send_numbers(int from, int to, const MessageOptions& options = {}) {
    std::vector<Receipt> receipts;
    for (int i = from; i < to; ++i) receipts.push_back(send(*sender, std::to_string(i), options).value());
    return receipts;
  }
  Receipt send_keyed(std::string_view text, std::string_view key) {
    MessageOptions options;
    options.key = key;
    return send(*sender, text, options).value();
  }

  LocalGroup& group;
  std::unique_ptr<internal::ProducerCore> sender;
  std::vector<std::string> rebalances;  // "assigned 0"
};

// The text of the next message, or the code of the error; keeps the delivery.
inline std::string text_of(const Result<Delivery>& delivery) {
  return delivery ? std::string(delivery->message().text()) : std::string(name(delivery.error().code()));
}
// All that is there now, kept.
inline std::vector<Delivery> take_all(internal::ConsumerCore& consumer) {
  std::vector<Delivery> taken;
  while (auto delivery = consumer.next(0ms)) taken.push_back(std::move(*delivery));
  return taken;
}
inline std::vector<std::string> texts_of(const std::vector<Delivery>& deliveries) {
  std::vector<std::string> texts;
  for (const Delivery& one : deliveries) texts.emplace_back(one.message().text());
  return texts;
}

}  // namespace sluice::test
