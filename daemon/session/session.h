// The attached clients, as the daemon sees them: identity, region, producers, readers, pins.
//
// Owner: the bus thread. Nothing here is called from another thread.
//
// Invariants
//  1. A session's region holds nothing that decides anything: pins and cursors are the client's word about itself. Each
//  is
//     copied once; a false one can only hold memory back (limited) or give the liar other bytes than it wanted.
//  2. A session is let go only after its client's death is proven (session lock) and repaired: until then its pins
//  count.
//     Of a session that was ended (revoke), only those in cells of its producers do: a stopped producer could still
//     write there, but views of a revoked session are no longer valid and hold no memory.
//  3. Ids are never reused within an incarnation.
//
// Lifetimes: Session pointers are good until remove(). Cell pointers into a region live as long as the session.
#pragma once

#include <bitset>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "daemon/session/access.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"
#include "shm/base/types.h"
#include "shm/layout/regions.h"
#include "shm/region/mapping.h"
#include "shm/ring/slot_manager.h"

namespace sluice::session {

struct ProducerEntry {
  ProducerId id;
  TopicId topic;
  std::string name;       // empty: anonymous
  std::uint32_t pin = 0;  // index of its pin cell
};

struct CursorEntry {
  PartitionNumber partition = 0;
  std::uint32_t handle = 0;  // of the partition, in this incarnation
  std::uint32_t cell = 0;    // index of the cursor cell
};
struct ReaderEntry {
  std::uint64_t id = 0;
  TopicId topic;
  std::vector<CursorEntry> cursors;  // empty: nothing waits for it
};

// A segment that somebody holds.
struct Pin {
  std::uint32_t handle = 0;
  SegmentNumber segment;
  auto operator<=>(const Pin&) const = default;
};

// A session as another daemon knew it.
struct SessionRecord {
  SessionId id;
  std::string token;
  Peer peer;
  std::string client_name;
  bool membarrier = false;
  bool revoked = false;
  std::vector<ProducerEntry> producers;
  std::vector<ReaderEntry> readers;
  std::map<ProducerId, std::string> transactors;  // to their producer groups
};

class Session {
 public:
  SessionId id() const { return id_; }
  const std::string& token() const { return token_; }
  const Peer& peer() const { return peer_; }
  const std::string& client_name() const { return client_name_; }
  // False: its process can't be fenced from outside; its pins are exchanges and it bounds its sleeps.
  bool membarrier() const { return membarrier_; }
  bool connected() const { return connected_; }
  void set_connected(bool connected) { connected_ = connected; }
  // Its client is to attach anew, though nothing of this session is lost: it cannot be resumed. It goes on until its
  // client has let its memory go.
  void forget_token() { token_.clear(); }
  // Ended by the daemon: every call answers `revoked`, its region says so.
  bool revoked() const { return revoked_; }
  void revoke();

  // The region, to be kept over a restart; never for a client.
  int memfd() const { return memfd_.get(); }
  // A description of the region with the lock, for the client.
  Result<UniqueFd> hand_out() const;
  // The proof: true if the client's mapping is gone, for good.
  Result<bool> is_dead() const;

  // Opening a producer on a pin that another one of this session has closes that one: its entry is returned.
  std::optional<ProducerEntry> add_producer(ProducerEntry entry);
  std::optional<ProducerEntry> remove_producer(ProducerId id);
  const ProducerEntry* find_producer(ProducerId id) const;
  const std::map<ProducerId, ProducerEntry>& producers() const { return producers_; }
  const std::map<std::uint64_t, ReaderEntry>& readers() const { return readers_; }
  void add_transactor(ProducerId id, const std::string& group) { transactors_[id] = group; }
  void remove_transactor(ProducerId id) { transactors_.erase(id); }
  const std::map<ProducerId, std::string>& transactors() const { return transactors_; }

  // Distinct segments that its pins hold now (invariant 2).
  std::vector<Pin> pins() const;
  bool is_pinned(std::uint32_t handle, SegmentNumber segment) const;
  bool producer_pins(std::uint32_t pin, std::uint32_t handle, SegmentNumber segment) const;
  // After the proof of death alone.
  void clear_pins();

 private:
  friend class SessionTable;
  Session(SessionId id, std::string token, Peer peer, std::string client_name, bool membarrier);

  layout::SessionRegion& region() const { return *mapping_.at<layout::SessionRegion>(); }
  // Cells that may be in use: what the client says, and what its producers were opened with.
  std::uint32_t pins_used() const;
  // What a cell holds, 0 if nothing, or nothing that counts.
  std::uint64_t pin_in(std::uint32_t cell) const;
  std::string name() const;

  const SessionId id_;
  std::string token_;  // empty: not to be resumed
  const Peer peer_;
  const std::string client_name_;
  const bool membarrier_;
  UniqueFd memfd_;  // never handed out: the probe of the lock
  region::Mapping mapping_;
  bool connected_ = true;
  bool revoked_ = false;
  std::bitset<kSessionPinsMax> producer_cells_;  // pin cells that a producer was ever opened with
  std::uint32_t producer_pins_end_ = 0;          // one above the highest of them
  std::map<ProducerId, ProducerEntry> producers_;
  std::map<std::uint64_t, ReaderEntry> readers_;
  std::map<ProducerId, std::string> transactors_;
};

class SessionTable final : public ring::PinSource {
 public:
  // `first_id`: of the sessions and readers that it makes; ids of earlier daemons of this incarnation lie below.
  explicit SessionTable(Incarnation incarnation, std::uint64_t first_id = 1)
      : incarnation_(incarnation), next_session_(first_id), next_reader_(first_id) {}

  // quota (kSessionsMax), no_memory.
  Result<Session*> create(Peer peer, std::string client_name, bool membarrier);
  // Takes over a session of the daemon before, without a connection. version, corrupt: it is not its region.
  Result<Session*> adopt(SessionRecord record, UniqueFd memfd);
  Session* find(SessionId id) const;
  // The session that may be resumed with this token by this peer, or null. Compares in constant time.
  Session* find_resumable(std::string_view token, const Peer& peer) const;
  // Lets it go: readers' cursors with it.
  void remove(SessionId id);

  // Returns the reader's id. A cell that another reader of the session has is taken from that one.
  std::uint64_t add_reader(Session& session, TopicId topic, std::vector<CursorEntry> cursors);
  bool remove_reader(Session& session, std::uint64_t reader);

  // ring::PinSource: does any session hold this segment? Call it after the reclaimer's membarrier.
  bool is_pinned(std::uint32_t handle, SegmentNumber segment) const override;
  std::vector<SegmentNumber> pinned(std::uint32_t handle) const override;
  // Ends the sessions that pin more than `segments_max` segments of a partition; returns which. For a partition that
  // finds no slot because of pins.
  std::vector<SessionId> revoke_over_quota(std::uint32_t handle, std::uint32_t segments_max);
  // Where the slowest reader of a partition is; nothing if it has no reader with a cursor. The client's word: clamp it.
  std::optional<Position> min_cursor(std::uint32_t handle) const;
  std::uint32_t cursor_count(std::uint32_t handle) const;

  std::size_t size() const { return sessions_.size(); }
  // In order of their ids.
  template <typename Visitor>
  void for_each(Visitor&& visit) const {
    for (const auto& [id, session] : sessions_) visit(*session);
  }

 private:
  struct CursorRef {
    SessionId session;
    std::uint64_t reader;
    std::uint32_t cell;
    const layout::CursorCell* memory;
  };

  void insert_reader(Session& session, ReaderEntry entry);
  void drop_cursors(const Session& session, const ReaderEntry& reader);
  void take_cells(Session& session, const std::vector<CursorEntry>& cursors);

  const Incarnation incarnation_;
  std::uint64_t next_session_;
  std::uint64_t next_reader_;
  std::map<SessionId, std::unique_ptr<Session>> sessions_;
  std::unordered_map<std::uint32_t, std::vector<CursorRef>> cursors_;  // by partition handle
};

}  // namespace sluice::session
