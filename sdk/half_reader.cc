#include "sdk/half_reader.h"

#include <chrono>
#include <string_view>
#include <thread>

#include "sdk/message_access.h"
#include "shm/base/clock.h"

namespace sluice::internal {
namespace {

constexpr std::uint64_t kWaitNs = 2'000'000'000;
constexpr std::chrono::milliseconds kPause(1);

}  // namespace

HalfReader::HalfReader(const std::shared_ptr<BusLink>& bus)
    : pool_(HoldPool::make()), context_{*bus, *pool_, options_, counters_}, reader_(context_, bus) {}

bool HalfReader::read(const HalfRef& half, Message& message) {
  Reference reference;
  reference.topic = half.topic_id;
  reference.partition = half.partition;
  reference.position = half.position;
  const std::string_view topic = pool_->keep_name(half.topic);
  ring::RecordView record;
  const std::uint64_t until = monotonic_ns() + kWaitNs;
  auto read = reader_.read(reference, topic, nullptr, record);
  while (read == ReferenceReader::Read::not_now && monotonic_ns() < until) {
    std::this_thread::sleep_for(kPause);
    read = reader_.read(reference, topic, nullptr, record);
  }
  if (read != ReferenceReader::Read::record) return false;
  PartitionStream& stream = reader_.stream();
  MessageAccess::set(message, stream.hold(), stream.topic(), stream.partition(), record, stream.origin(record));
  return true;
}

}  // namespace sluice::internal
