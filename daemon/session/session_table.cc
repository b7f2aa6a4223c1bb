#include <sys/random.h>

#include <algorithm>
#include <cerrno>

#include "daemon/session/session.h"
#include "shm/base/assert.h"
#include "shm/region/memfd.h"
#include "shm/region/region.h"

namespace sluice::session {
namespace {

constexpr std::size_t kTokenSize = 32;  // bytes, random: nobody guesses it

Result<std::string> random_token() {
  std::string token(kTokenSize, '\0');
  std::size_t filled = 0;
  while (filled < token.size()) {
    const ssize_t got = ::getrandom(token.data() + filled, token.size() - filled, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(system_error(errno, "making a session's resume token"));
    filled += static_cast<std::size_t>(got);
  }
  return token;
}

// Takes as long whatever the bytes are, so that answers tell nothing about a token.
bool same_token(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned>(a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace

Result<Session*> SessionTable::create(Peer peer, std::string client_name, bool membarrier) {
  if (sessions_.size() >= kSessionsMax) {
    return fail(ErrorCode::quota, "attaching a client: " + std::to_string(kSessionsMax) +
                                      " sessions are attached already; end some (sluice session list)");
  }
  SLUICE_ASSIGN(std::string token, random_token());
  const SessionId id(next_session_);
  const std::string name = "sluice-session-" + std::to_string(id.value);
  SLUICE_ASSIGN(UniqueFd memfd, region::create_memfd(name, sizeof(layout::SessionRegion)));
  SLUICE_ASSIGN(region::Mapping mapping, region::Mapping::map(memfd.get(), region::Access::read_write, name));
  region::RegionInfo info;
  info.kind = layout::RegionKind::session;
  info.incarnation = incarnation_;
  info.size = mapping.size();
  info.session = id;
  region::initialise_header(mapping, info);

  std::unique_ptr<Session> session(
      new Session(id, std::move(token), std::move(peer), std::move(client_name), membarrier));
  session->memfd_ = std::move(memfd);
  session->mapping_ = std::move(mapping);
  ++next_session_;
  return sessions_.emplace(id, std::move(session)).first->second.get();
}

Result<Session*> SessionTable::adopt(SessionRecord record, UniqueFd memfd) {
  const std::string doing = "adopting session " + std::to_string(record.id.value);
  region::RegionExpectation expected;
  expected.kind = layout::RegionKind::session;
  expected.incarnation = incarnation_;
  expected.session = record.id;
  SLUICE_ASSIGN(region::Region region, region::open_region(memfd.get(), region::Access::read_write, expected));
  for (const ProducerEntry& producer : record.producers)
    if (producer.pin >= kSessionPinsMax) return fail(ErrorCode::corrupt, doing + ": a producer has no pin cell");
  for (const ReaderEntry& reader : record.readers)
    for (const CursorEntry& cursor : reader.cursors)
      if (cursor.cell >= kSessionCursorsMax) return fail(ErrorCode::corrupt, doing + ": a reader has no cursor cell");
  std::unique_ptr<Session> session(new Session(record.id, std::move(record.token), std::move(record.peer),
                                               std::move(record.client_name), record.membarrier));
  session->memfd_ = std::move(memfd);
  session->mapping_ = std::move(region.mapping);
  session->connected_ = false;
  if (record.revoked) session->revoke();
  for (ProducerEntry& producer : record.producers) session->add_producer(std::move(producer));
  session->transactors_ = std::move(record.transactors);
  Session* adopted = sessions_.emplace(record.id, std::move(session)).first->second.get();
  for (ReaderEntry& reader : record.readers) insert_reader(*adopted, std::move(reader));
  return adopted;
}

Session* SessionTable::find(SessionId id) const {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.get();
}

Session* SessionTable::find_resumable(std::string_view token, const Peer& peer) const {
  Session* result = nullptr;
  for (const auto& [id, session] : sessions_) {
    if (same_token(token, session->token()) && session->peer().uid == peer.uid && !session->revoked()) {
      result = session.get();
    }
  }
  return result;
}

void SessionTable::remove(SessionId id) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  for (const auto& [reader_id, reader] : found->second->readers()) drop_cursors(*found->second, reader);
  sessions_.erase(found);
}

std::uint64_t SessionTable::add_reader(Session& session, TopicId topic, std::vector<CursorEntry> cursors) {
  take_cells(session, cursors);
  const std::uint64_t id = next_reader_++;
  insert_reader(session, {id, topic, std::move(cursors)});
  return id;
}

void SessionTable::insert_reader(Session& session, ReaderEntry entry) {
  for (const CursorEntry& cursor : entry.cursors) {
    SLUICE_ASSERT(cursor.cell < kSessionCursorsMax);
    cursors_[cursor.handle].push_back({session.id(), entry.id, cursor.cell, &session.region().cursors[cursor.cell]});
  }
  const std::uint64_t id = entry.id;
  session.readers_.emplace(id, std::move(entry));
}

bool SessionTable::remove_reader(Session& session, std::uint64_t reader) {
  const auto found = session.readers_.find(reader);
  if (found == session.readers_.end()) return false;
  drop_cursors(session, found->second);
  session.readers_.erase(found);
  return true;
}

void SessionTable::drop_cursors(const Session& session, const ReaderEntry& reader) {
  for (const CursorEntry& cursor : reader.cursors) {
    const auto list = cursors_.find(cursor.handle);
    if (list == cursors_.end()) continue;
    std::erase_if(list->second,
                  [&](const CursorRef& ref) { return ref.session == session.id() && ref.reader == reader.id; });
    if (list->second.empty()) cursors_.erase(list);
  }
}

// A client that repeats open_reader after a lost answer names the same cells: the reader it never heard of goes.
void SessionTable::take_cells(Session& session, const std::vector<CursorEntry>& cursors) {
  std::vector<std::uint64_t> replaced;
  for (const auto& [id, reader] : session.readers()) {
    const bool shares = std::any_of(reader.cursors.begin(), reader.cursors.end(), [&](const CursorEntry& theirs) {
      return std::any_of(cursors.begin(), cursors.end(),
                         [&](const CursorEntry& ours) { return ours.cell == theirs.cell; });
    });
    if (shares) replaced.push_back(id);
  }
  for (const std::uint64_t id : replaced) remove_reader(session, id);
}

bool SessionTable::is_pinned(std::uint32_t handle, SegmentNumber segment) const {
  return std::any_of(sessions_.begin(), sessions_.end(),
                     [&](const auto& item) { return item.second->is_pinned(handle, segment); });
}

std::vector<SegmentNumber> SessionTable::pinned(std::uint32_t handle) const {
  std::vector<SegmentNumber> segments;
  for (const auto& [id, session] : sessions_)
    for (const Pin& pin : session->pins())
      if (pin.handle == handle) segments.push_back(pin.segment);
  return segments;
}

std::vector<SessionId> SessionTable::revoke_over_quota(std::uint32_t handle, std::uint32_t segments_max) {
  std::vector<SessionId> revoked;
  for (const auto& [id, session] : sessions_) {
    if (session->revoked()) continue;
    const std::vector<Pin> pins = session->pins();
    const auto held = std::count_if(pins.begin(), pins.end(), [&](const Pin& pin) { return pin.handle == handle; });
    if (held <= static_cast<std::ptrdiff_t>(segments_max)) continue;
    session->revoke();
    revoked.push_back(id);
  }
  return revoked;
}

std::optional<Position> SessionTable::min_cursor(std::uint32_t handle) const {
  const auto list = cursors_.find(handle);
  if (list == cursors_.end()) return std::nullopt;
  std::optional<Position> lowest;
  for (const CursorRef& ref : list->second) {
    if (const Session* session = find(ref.session); session == nullptr || session->revoked()) continue;
    // acquire: pairs with the reader's release; what it read below the position is read.
    const Position at(ref.memory->position.load(std::memory_order_acquire));
    if (!lowest || at < *lowest) lowest = at;
  }
  return lowest;
}

std::uint32_t SessionTable::cursor_count(std::uint32_t handle) const {
  const auto list = cursors_.find(handle);
  return list == cursors_.end() ? 0 : static_cast<std::uint32_t>(list->second.size());
}

}  // namespace sluice::session
