// One member of a group as the daemon sees it: its region, written and read.
//
// Owner: the bus thread. What the member writes is copied once and checked; nothing in it is trusted beyond this
// member's own messages.
//
// Waking each other
//   member: exchanges daemon_armed 1 → 0 after a change, and then writes the daemon's eventfd.
//   daemon: arm() (store 1, full fence, look once more) before it sleeps; publishes, full fence, then looks at
//   `asleep`.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "daemon/core/delivery_types.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"
#include "shm/base/types.h"
#include "shm/layout/member_region.h"
#include "shm/region/mapping.h"

namespace sluice::delivery {

class Member {
 public:
  static Result<std::unique_ptr<Member>> create(core::MemberId id, SessionId session, Incarnation incarnation);

  core::MemberId id() const { return id_; }
  SessionId session() const { return session_; }
  // Descriptions of their own for the client: the region read-write, and the eventfd.
  Result<UniqueFd> hand_out_region() const;
  Result<UniqueFd> hand_out_readable() const;

  // ---- to the member; wake() after a batch of them
  void give_cell(std::uint32_t cell, std::uint64_t generation);
  void want_back(std::uint32_t cell, std::uint64_t generation);
  void take_back(std::uint32_t cell);
  // `seeks`: of the group in its partition, so far.
  void deliver(const core::Deliver& delivery, std::uint64_t seeks);
  void tell(layout::DeliveryKind kind, std::uint64_t stamp, const core::Place& place, std::uint64_t position,
            std::uint64_t argument);
  // What found no room goes as far as there is some now.
  void flush();
  // So much waits for it that it is given up.
  bool does_not_read() const;
  // The list of assignments has changed.
  void bump_assignments();
  void end();
  // The group's; before what is handed out in it.
  void set_epoch(std::uint64_t epoch);
  void wake();
  // An armed descriptor becomes readable.
  void make_readable();
  bool wants_readable() const;

  // ---- from the member
  // True if it may have said something since the last call of arm().
  bool has_news() const;
  void arm();
  // Nothing until it has accepted this generation.
  std::optional<core::CellWords> words(std::uint32_t cell, std::uint64_t generation) const;
  // Position of its next read in a partition that it reads directly.
  Position read_position(std::uint32_t cell) const;
  std::uint64_t progress() const;
  bool has_unread_deliveries() const;
  // The next outcome, or nothing. One that cannot be right ends what there is: it is counted and passed over.
  std::optional<core::Outcome> next_outcome();
  std::uint64_t outcomes_read() const { return outcomes_read_; }
  // Whether the application has begun the delivery in that slot.
  bool has_begun(std::uint32_t slot, std::uint64_t stamp) const;
  // Takes a delivery back that it has not begun. False: it has.
  bool recall(std::uint32_t slot, std::uint64_t stamp);
  std::uint64_t bad_words() const { return bad_words_; }

 private:
  Member(core::MemberId id, SessionId session, UniqueFd fd, UniqueFd readable, region::Mapping mapping);
  layout::MemberRegion& region() const { return *mapping_.at<layout::MemberRegion>(); }
  struct Note {
    layout::DeliveryKind kind;
    std::uint64_t stamp;
    core::Place place;
    std::uint64_t position;
    std::uint64_t argument;
  };
  void publish_waiting();
  void reclaim_notes();

  const core::MemberId id_;
  const SessionId session_;
  UniqueFd fd_;
  UniqueFd readable_;
  region::Mapping mapping_;
  std::uint64_t delivered_ = 0;
  std::uint64_t outcomes_read_ = 0;
  std::uint64_t bad_words_ = 0;
  bool changed_ = false;                                           // something was published since the last wake()
  std::deque<std::uint32_t> waiting_;                              // slots that the ring has no room for yet
  std::deque<std::uint32_t> free_notes_;                           // slots
  std::deque<std::pair<std::uint64_t, std::uint32_t>> notes_out_;  // end of their entry in the ring, slot
  std::deque<Note> late_notes_;                                    // for which no slot was free
};

}  // namespace sluice::delivery
