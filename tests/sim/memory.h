// What outlives a daemon in a simulation where its memory is kept: the partitions' regions with what was noted of them,
// the pins, and the clients that go on in them.
//
// Owner: a Life, and between two lives over the same memory the Machine. The simulation's one thread.
// Lifetimes: clients point into the regions; nothing here points to a daemon.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "daemon/spill/partition.h"
#include "shm/ring/continuity.h"
#include "tests/daemon/spill/rig.h"

namespace sluice::sim {

// The pages behind a partition's slots: all there, but only what was asked for counts.
class SlotPages final : public ring::SlotMemory {
 public:
  Status back(std::uint64_t offset, std::uint64_t size) override {
    backed_[offset] = size;
    return {};
  }
  std::uint64_t in_memory(std::uint64_t offset, std::uint64_t size) const override {
    std::uint64_t end = offset;
    for (auto next = backed_.find(end); next != backed_.end() && end < offset + size; next = backed_.find(end))
      end += next->second;
    return end - offset;
  }

 private:
  std::map<std::uint64_t, std::uint64_t> backed_;  // offset → size
};

// One partition's memory, and its reader.
struct Place {
  std::unique_ptr<spill::test::HeapRegions> regions;
  SlotPages pages;
  std::string note;  // the audit as it was noted last (bus::encode_checkpoint); empty: it was not
  // The reader.
  Position cursor;
  ring::Continuity continuity;
};

struct OpenOne {
  ring::OpenClaim claim;
  PartitionNumber partition = 0;
  std::uint32_t size = 0;
  std::string trailer;
  std::string bookmark;
  std::uint64_t since_ns = 0;
  std::uint64_t stalled_until_ns = 0;
};

struct Producer {
  ProducerId id;
  std::string name;
  std::uint32_t cell = 0;
  std::vector<std::unique_ptr<ring::Appender>> appenders;  // by partition
  std::optional<OpenOne> open;
  bool dead = false;
  std::vector<std::string> bookmarks;                      // by partition: the last one committed
  std::vector<std::optional<spill::ProducerMark>> fenced;  // by partition: where it stood when it was fenced
};

inline constexpr std::uint32_t kPins = 64;

struct Memory {
  // The bytes of all regions. What a dead daemon's objects write while they are taken apart never happened.
  using Image = std::vector<std::array<std::vector<std::byte>, 3>>;
  Image image() const {
    Image copies;
    for (const auto& place : places) {
      std::size_t i = 0;
      auto& copy = copies.emplace_back();
      for (const std::span<std::byte> region : place->regions->bytes()) copy[i++].assign(region.begin(), region.end());
    }
    return copies;
  }
  void restore(const Image& copies) const {
    for (std::size_t number = 0; number < places.size(); ++number) {
      std::size_t i = 0;
      for (const std::span<std::byte> region : places[number]->regions->bytes()) {
        std::memcpy(region.data(), copies[number][i].data(), region.size());
        ++i;
      }
    }
  }

  Incarnation incarnation;
  std::vector<std::unique_ptr<Place>> places;  // by partition
  spill::test::PinArray pins{spill::test::MemoryKind::heap, kPins};
  spill::test::FakeAttached attached;
  std::vector<Producer> producers;
  std::map<ProducerId, std::vector<spill::ProducerMark>> buried;  // where they stood, by partition
};

}  // namespace sluice::sim
