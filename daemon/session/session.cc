#include "daemon/session/session.h"

#include <algorithm>

#include "shm/base/assert.h"
#include "shm/region/session_lock.h"

namespace sluice::session {
namespace {

constexpr std::uint64_t kSegmentMask = 0xff'ffff'ffff;

Pin unpack(std::uint64_t word) {
  return {static_cast<std::uint32_t>(word >> 40), SegmentNumber((word & kSegmentMask) - 1)};
}

}  // namespace

Session::Session(SessionId id, std::string token, Peer peer, std::string client_name, bool membarrier)
    : id_(id),
      token_(std::move(token)),
      peer_(std::move(peer)),
      client_name_(std::move(client_name)),
      membarrier_(membarrier) {}

std::string Session::name() const { return "session " + std::to_string(id_.value); }

void Session::revoke() {
  revoked_ = true;
  // release: pairs with the acquire in SessionMemory::revoked; from here on views may be of reused memory.
  region().revoked.store(1, std::memory_order_release);
}

Result<UniqueFd> Session::hand_out() const { return region::open_locked(memfd_.get(), name()); }

Result<bool> Session::is_dead() const { return region::proven_dead(memfd_.get(), name()); }

std::optional<ProducerEntry> Session::add_producer(ProducerEntry entry) {
  SLUICE_ASSERT(entry.pin < kSessionPinsMax);
  std::optional<ProducerEntry> replaced;
  const auto same_pin = std::find_if(producers_.begin(), producers_.end(),
                                     [&](const auto& item) { return item.second.pin == entry.pin; });
  if (same_pin != producers_.end()) {
    replaced = std::move(same_pin->second);
    producers_.erase(same_pin);
  }
  producer_cells_.set(entry.pin);
  producer_pins_end_ = std::max(producer_pins_end_, entry.pin + 1);
  const ProducerId id = entry.id;
  producers_.insert_or_assign(id, std::move(entry));
  return replaced;
}

std::optional<ProducerEntry> Session::remove_producer(ProducerId id) {
  const auto found = producers_.find(id);
  if (found == producers_.end()) return std::nullopt;
  std::optional<ProducerEntry> entry(std::move(found->second));
  producers_.erase(found);
  return entry;
}

const ProducerEntry* Session::find_producer(ProducerId id) const {
  const auto found = producers_.find(id);
  return found == producers_.end() ? nullptr : &found->second;
}

std::uint32_t Session::pins_used() const {
  // acquire: pairs with the release in SessionMemory::take_pin.
  const std::uint32_t stated = region().pins_used.load(std::memory_order_acquire);
  return std::min(std::max(stated, producer_pins_end_), kSessionPinsMax);
}

std::uint64_t Session::pin_in(std::uint32_t cell) const {
  if (revoked_ && !producer_cells_[cell]) return 0;
  // acquire: pairs with the release or exchange with which the client moves or clears the pin; what it read or wrote
  // under it is done.
  return region().pins[cell].pin.load(std::memory_order_acquire);
}

std::vector<Pin> Session::pins() const {
  std::vector<Pin> result;
  const std::uint32_t count = pins_used();
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint64_t word = pin_in(i);
    if (word != 0) result.push_back(unpack(word));
  }
  std::sort(result.begin(), result.end());
  result.erase(std::unique(result.begin(), result.end()), result.end());
  return result;
}

bool Session::is_pinned(std::uint32_t handle, SegmentNumber segment) const {
  const std::uint64_t wanted = layout::pin_word(handle, segment);
  const std::uint32_t count = pins_used();
  for (std::uint32_t i = 0; i < count; ++i) {
    if (pin_in(i) == wanted) return true;
  }
  return false;
}

bool Session::producer_pins(std::uint32_t pin, std::uint32_t handle, SegmentNumber segment) const {
  SLUICE_ASSERT(pin < kSessionPinsMax);
  return pin_in(pin) == layout::pin_word(handle, segment);
}

void Session::clear_pins() {
  for (layout::PinCell& cell : region().pins) cell.pin.store(0, std::memory_order_relaxed);  // its client is dead
}

}  // namespace sluice::session
