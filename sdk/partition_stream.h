// One partition as a reader goes through it: out of log files into memory and back, record by record.
//
//   none ── segment is here (pinned) ──▶ memory ── end of the segment ──▶ none
//     │ ◀─ not yet (wait)                  └── broken chain: waits there until the daemon has repaired it
//     └─── segment has left memory: locate ──▶ file ── end of the segment or of the data ──▶ none
//
// What does not hold in a file is reported to the daemon first (have_mended), and read again when that has seen to it.
//
//   edge            function
//   none → memory   place()
//   none → file     place_in_file()
//   * → none        leave_segment(), rest(), reattach()
//
// Owner: one ReaderCore, on the reader's thread.
// Invariants
//  1. In memory and file, hold_ keeps the bytes under view_; with none, at most an unused hold is kept.
//  2. position_ is the start of a record, a segment or a limit that was reached; it only grows, but for seek() and
//     exact().
//  3. Every record is passed once: delivered, skipped for a reason that stands in accept(), or reported. A delayed one
//     is delivered where its ref stands.
//  4. Nothing read from shared pages or files is used before it was checked: scan_record() does that.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "sdk/bus_link.h"
#include "sdk/file_source.h"
#include "sdk/hold.h"
#include "sdk/memory_source.h"
#include "sdk/reference_source.h"
#include "shm/base/result.h"
#include "shm/ring/continuity.h"
#include "shm/ring/scanner.h"
#include "sluice/reader.h"

namespace sluice::internal {

// What the streams of one reader share. Owned by it, and outlives them.
struct StreamContext {
  BusLink& link;
  HoldPool& pool;
  const ReaderOptions& options;
  ReaderCounters& counters;
};

enum class Look : std::uint8_t {
  record,   // the view is filled
  more,     // records were passed over, and there may be more: look again
  nothing,  // nothing there now
  failed,   // take_error()
};

class PartitionStream {
 public:
  // `topic` must live as long as the pool of the context.
  PartitionStream(StreamContext& context, std::string_view topic, PartitionMapsPtr maps, CursorLease cursor,
                  const PartitionRange& range);
  PartitionStream(const PartitionStream&) = delete;
  ~PartitionStream();

  // Chooses the place to start.
  Status start(const From& from);
  // Goes on at the same position in the daemon's new memory.
  Status reattach(PartitionMapsPtr maps, CursorLease cursor);
  // The record at or after `at` is next.
  void seek(Position at);
  // The record that starts at `at`, for a stream that reads nothing else: whatever its kind, tag and sequence. Stays in
  // the segment that is held where it can. record: view.position says whether it is this one; if not, or if position()
  // lies above `at` after any other answer, there is none.
  Look exact(Position at, ring::RecordView& record);

  // The reader ends: nothing waits for this cursor any more, also if the daemon hears of it only later.
  void release_cursor();
  // The daemon could not be told: the cell must not be used for another reader, which a late close would then end.
  void keep_cursor_cell();

  // The next record that is for the caller. It lies under hold() until the next call.
  Look next(ring::RecordView& record);
  Error take_error() { return std::move(*error_); }
  Hold* hold() const { return by_reference_ ? references_.hold() : hold_; }
  // Where the bytes of the record that next() gave stand.
  Position origin(const ring::RecordView& record) const { return by_reference_ ? origin_ : record.position; }
  // The batch is over: the cursor is published; with `unpin`, nothing is held any more.
  void rest(bool unpin);
  // A look would certainly find nothing (a hint, not for the last look before a sleep).
  bool is_quiet() const;

  // Before a sleep: raises the flag of who would have news, asks the daemon where it could help.
  ring::FutexWait announce();
  // A sleep should not be longer, ns.
  std::uint64_t sleep_bound_ns() const;
  // Why nothing more will come, if so.
  Status gate_status() const;

  std::string_view topic() const { return topic_; }
  TopicId topic_id() const { return memory_.maps()->topic(); }
  const PartitionMapsPtr& maps() const { return memory_.maps(); }
  PartitionNumber partition() const { return partition_; }
  Position position() const { return position_; }
  // Of the record that next() gave.
  bool in_file() const { return by_reference_ ? references_.in_file() : source_ == Source::file; }
  bool at_initial_end() const { return position_ >= initial_end_; }

 private:
  enum class Source : std::uint8_t { none, memory, file };

  Look place();
  Look place_in_file();
  Look enter_file();
  Look locate();
  Status take_hold(bool in_memory);
  void drop_hold();
  Look at_limit();
  // The scan has halted at something that is no final record.
  Look halted(ring::ScanResult result, const ring::RecordView& record);
  void leave_segment();
  bool have_mended(Position at);
  void jump(Position to);

  enum class Verdict : std::uint8_t { deliver, pass_over, not_yet, failed };
  enum class Fenced : std::uint8_t { no, yes, pending };

  Verdict accept(ring::RecordView& record);
  // Fills the view with what a ref means; its position stays the ref's.
  Verdict follow_reference(ring::RecordView& record);
  bool follow_sequence(const ring::RecordView& record);
  Fenced fence_of(const ring::RecordView& record);
  bool is_early(const ring::RecordView& record);
  // `time_ns`: of the record that stands in the order.
  bool passes_filters(const ring::RecordView& record, std::uint64_t time_ns);
  bool has_expired(std::span<const std::byte> trailer, std::uint64_t time_ns);
  void report_corrupt(Position at, ProducerId producer, std::string reason);
  Look fail_with(Error error);

  // Constant.
  StreamContext& context_;
  const std::string_view topic_;
  const PartitionNumber partition_;
  const Position earliest_;     // when it was opened
  const Position initial_end_;  // committed end when it was opened
  // The reader's thread.
  MemorySource memory_;
  FileSource file_;
  ReferenceSource references_;
  CursorLease cursor_;
  Source source_ = Source::none;
  ring::SegmentView view_;
  Hold* hold_ = nullptr;
  Position position_;
  bool verify_ = false;    // records of this view carry checksums
  bool snapping_ = false;  // walking from a segment's start to snap_to_: nothing below it is for the caller
  Position snap_to_;
  std::optional<Position> exact_;   // the reference that is read
  std::uint64_t time_from_ns_ = 0;  // records older than that are skipped until the first that is not
  bool by_reference_ = false;       // the record that next() gave
  Position origin_;                 // of it, if so
  bool halted_at_claim_ = false;
  bool look_again_soon_ = false;        // what we wait for rings no bell
  std::uint64_t locate_after_ns_ = 0;   // monotonic; the daemon had nothing for us a moment ago
  std::optional<Position> broken_at_;   // the broken chain that was reported
  std::optional<Position> mend_asked_;  // the last place in a file that the daemon was asked to see to
  bool mending_ = false;                // it has not answered that yet
  ring::Continuity continuity_;
  std::uint32_t fences_seen_ = 0;
  std::unordered_map<std::uint32_t, std::uint32_t> fences_;  // producer → entry of the fence table
  std::optional<Error> error_;
};

}  // namespace sluice::internal
