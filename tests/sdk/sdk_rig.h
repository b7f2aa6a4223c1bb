// Producers and readers over a LocalBus, and the short forms that the tests are written in.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sdk/producer_core.h"
#include "sdk/reader_core.h"
#include "tests/sdk/local_bus.h"

namespace sluice::test {

using namespace std::chrono_literals;

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

struct Rig {
  explicit Rig(BusShape shape = {}) : bus(std::make_shared<LocalBus>(shape)) {}

  std::unique_ptr<internal::ProducerCore> producer(ProducerOptions options = {}) {
    return internal::ProducerCore::open(bus, LocalBus::kTopic, std::move(options)).value();
  }
  std::unique_ptr<internal::ReaderCore> reader(ReaderOptions options = {}) {
    return internal::ReaderCore::open(bus, {LocalBus::kTopic}, std::move(options)).value();
  }
  std::unique_ptr<internal::ReaderCore> reader_from(From from) {
    ReaderOptions options;
    options.from = from;
    return reader(std::move(options));
  }

  std::shared_ptr<LocalBus> bus;
};

inline Result<Receipt> send(internal::ProducerCore& producer, std::string_view text,
                            const MessageOptions& options = {}) {
  return producer.send(bytes_of(text), options, true);
}

// The texts of all that is there now.
inline std::vector<std::string> drain(internal::ReaderCore& reader, Duration timeout = 0ms) {
  std::vector<std::string> texts;
  while (auto message = reader.next(timeout)) texts.emplace_back(message->text());
  return texts;
}

}  // namespace sluice::test
