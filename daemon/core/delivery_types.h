// The words between the delivery machine and what drives it: what members say, what the machine decides. Values.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "shm/base/types.h"

namespace sluice::core {

using MemberId = std::uint64_t;  // 0: nobody

// A partition of a topic.
struct Place {
  TopicId topic;
  PartitionNumber partition = 0;
  auto operator<=>(const Place&) const = default;
};

// How often a message was handed out, and has failed.
struct Counts {
  std::uint32_t delivered = 0;
  std::uint32_t failed = 0;
};

struct PositionSpan {
  Position begin;
  Position end;
};

// A member's words about a partition that it reads directly (layout::AssignmentCell), copied once.
struct CellWords {
  Position acked;   // every message below it is settled
  Position oldest;  // of the oldest message in its hands; 0: none
  Position newest;  // of the newest one handed out; 0: none yet
  std::uint64_t settled = 0;
  std::uint64_t released = 0;  // generation that it gives back
  std::uint32_t in_flight = 0;

  bool operator==(const CellWords&) const = default;
};

// A message, and where its record ends (or any position in it, where that is not known).
struct SettledMessage {
  Place place;
  Position position;
  Position end;
};

enum class Verb : std::uint8_t { ack, nack, reject, extend, defer };
// What a member says of one message. By cell: its position and its end lie within the log, the caller has checked it.
struct Outcome {
  Verb verb = Verb::ack;
  bool by_slot = false;
  std::uint32_t index = 0;       // of the slot or cell
  std::uint32_t generation = 0;  // by cell: lower half
  std::uint64_t target = 0;      // by slot: stamp; by cell: position
  std::uint64_t argument = 0;    // as layout::OutcomeEntry
  std::uint64_t key_hash = 0;    // nack by cell, in a group that is strict by key
  std::string reason;
};
// argument of a nack: as the group's policy says (layout::kDelayByPolicy)
inline constexpr std::uint64_t kByPolicy = 0xffff'ffff'ffff'ffff;

// A message in the log, as shared groups hand it out.
struct LogItem {
  Position position;
  Position end;
  std::uint64_t key_hash = 0;
};

// What a member of an earlier daemon has in its hands when it joins.
struct HeldRange {
  Place place;
  CellWords words;
};
struct HeldReference {
  Place place;
  Position position;
  Counts counts;
};

// Why a member is one no more.
enum class Ending : std::uint8_t {
  left,  // by itself: nothing is charged
  died,  // proven
  hung,  // alive, and does not go on
};

// ---- what is to be done

// The cell is the member's from now on. The rest of it: DeliveryMachine::assignment().
struct Assign {
  MemberId member = 0;
  std::uint32_t cell = 0;
  Place place;
  std::uint64_t generation = 0;
};
struct WantBack {
  MemberId member = 0;
  std::uint32_t cell = 0;
  std::uint64_t generation = 0;
};
// What the member says of the cell counts no more.
struct TakeBack {
  MemberId member = 0;
  std::uint32_t cell = 0;
};
struct Deliver {
  MemberId member = 0;
  std::uint32_t slot = 0;
  std::uint64_t stamp = 0;
  Place place;
  Position position;
  std::uint32_t delivered = 0;  // this one included
  std::uint32_t failed = 0;
  bool alone = false;
};
// The member is told that its delivery is another's. stamp 0: one that it had read directly, at `position`; in a group
// that is strict by key the machine is then told its key (set_key), and the member holds back what follows it.
struct Withdraw {
  MemberId member = 0;
  std::uint64_t stamp = 0;
  Place place;
  Position position;
};
struct Unblock {
  MemberId member = 0;
  Place place;
  std::uint64_t key_hash = 0;  // 0: the whole partition
};
// A copy goes to the dead letters; then parked() is called.
struct Park {
  Place place;
  Position position;
};
// It is told that it is no member any more.
struct End {
  MemberId member = 0;
};
using Action = std::variant<Assign, WantBack, TakeBack, Deliver, Withdraw, Unblock, Park, End>;

}  // namespace sluice::core
