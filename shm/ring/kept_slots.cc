#include "shm/ring/kept_slots.h"

#include <algorithm>
#include <string>

#include "shm/layout/segment.h"

namespace sluice::ring {
namespace {

using layout::SlotEntry;
using layout::SlotState;

class Reader {
 public:
  Reader(const PartitionMemory& memory, TopicId topic, PartitionNumber partition, Incarnation incarnation,
         Position resume)
      : memory_(memory), topic_(topic), partition_(partition), incarnation_(incarnation), resume_(resume) {}

  Result<KeptSlots> run() {
    // acquire: pairs with the release stores of the last daemon.
    kept_.prepared = memory_.control->prepared.load(std::memory_order_acquire);
    SLUICE_TRY(read_table());
    SLUICE_TRY(check_prepared());
    for (KeptSegment& kept : kept_.ready) SLUICE_TRY(read_header(kept));
    return std::move(kept_);
  }

 private:
  tl::unexpected<Error> corrupt(const std::string& what) const {
    return fail(ErrorCode::corrupt, "adopting the memory of topic " + std::to_string(topic_.value) + ", partition " +
                                        std::to_string(partition_) + ": " + what);
  }

  Status read_table() {
    std::vector<bool> used(memory_.slots, false);
    for (std::uint32_t i = 0; i < memory_.slots; ++i) {
      const SlotEntry entry{memory_.control->slot_table[i].load(std::memory_order_acquire)};
      if (entry.state() != SlotState::ready) continue;
      const bool possible = entry.slot() < memory_.slots && entry.segment().value % memory_.slots == i;
      if (!possible || used[entry.slot()]) return corrupt("entry " + std::to_string(i) + " of its slot table is wrong");
      used[entry.slot()] = true;
      kept_.ready.push_back({entry.segment(), entry.slot(), 0});
    }
    std::sort(kept_.ready.begin(), kept_.ready.end(),
              [](const KeptSegment& a, const KeptSegment& b) { return a.segment < b.segment; });
    for (std::size_t i = 1; i < kept_.ready.size(); ++i)
      if (kept_.ready[i].segment != kept_.ready[i - 1].segment.next()) return corrupt("its ready segments have a gap");
    return {};
  }

  Status check_prepared() const {
    const Position prepared(kept_.prepared);
    const Position start(memory_.control->start_position);
    if (kept_.ready.empty() && prepared.value % memory_.segment_size() != 0)
      return corrupt("no segment is ready at its prepared end");
    const Position first = kept_.ready.empty() ? prepared : memory_.start_of(kept_.ready.front().segment);
    const Position last = kept_.ready.empty() ? prepared : memory_.start_of(kept_.ready.back().segment);
    if (prepared < last || prepared > last + memory_.segment_size()) return corrupt("its prepared end is not in it");
    if (first < start) return corrupt("it begins below its own start");
    if (resume_ < first || resume_ > prepared)
      return corrupt("it holds positions " + std::to_string(first.value) + " to " + std::to_string(prepared.value) +
                     ", but is needed from " + std::to_string(resume_.value) + " on");
    return {};
  }

  Status read_header(KeptSegment& kept) const {
    layout::SegmentHeader header;
    const auto check =
        layout::read_segment_header(memory_.slot_base(kept.slot), topic_, partition_, kept.segment, header);
    if (check == layout::SegmentCheck::newer_version)
      return fail(ErrorCode::version, "adopting memory: segment " + std::to_string(kept.segment.value) +
                                          " has version " + std::to_string(header.version) + ", this build knows " +
                                          std::to_string(layout::kSegmentVersion) + ": use the newer sluiced");
    const bool believable = check == layout::SegmentCheck::ok && header.incarnation == incarnation_.value &&
                            header.durable_position <= resume_.value;
    if (!believable) return corrupt("the header of segment " + std::to_string(kept.segment.value) + " is wrong");
    kept.checksum = header.checksum;
    return {};
  }

  const PartitionMemory& memory_;
  const TopicId topic_;
  const PartitionNumber partition_;
  const Incarnation incarnation_;
  const Position resume_;
  KeptSlots kept_;
};

}  // namespace

Result<KeptSlots> read_kept_slots(const PartitionMemory& memory, TopicId topic, PartitionNumber partition,
                                  Incarnation incarnation, Position resume) {
  return Reader(memory, topic, partition, incarnation, resume).run();
}

}  // namespace sluice::ring
