// What the control server asks of the bus: one method per call of control.capnp, in plain C++ types.
//
// Owner: daemon/bus implements both classes; daemon/control calls them. Every method of BusInterface runs on the bus
// thread, from a closure that the control thread posted. Nothing here knows KJ.
//
// Rules
//  1. Descriptors are passed by value and belong to the receiver. Those of a Welcome and of grants are descriptions of
//     their own (shm/region/memfd.h), so that the receiver's access mode is right whatever it does.
//  2. Arguments have been checked for form (name lengths, list sizes, enum values: shm/base/limits.h). Whether
//  something
//     exists and whether the peer may have it is the bus's to decide.
//  3. A method that is given a session that was ended answers `revoked`; one that does not exist is `revoked`, too.
//  4. Grants go to the peer in messages of at most kGrantPartitionsMax partitions (descriptors of one message are
//     limited by the kernel): open_producer and open_reader grant the first ones and say how many there are, the client
//     asks for the others with open_partitions.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "daemon/core/answer_counts.h"
#include "daemon/core/audit.h"
#include "daemon/core/topic.h"
#include "daemon/session/access.h"
#include "daemon/session/group_interface.h"
#include "daemon/session/transaction_interface.h"
#include "shm/base/fd.h"
#include "shm/base/result.h"
#include "shm/base/types.h"
#include "shm/layout/regions.h"

namespace sluice::session {

// Three descriptors a partition, and a message carries 253 at the most.
inline constexpr std::uint32_t kGrantPartitionsMax = 64;
// The cell of a partition that is read without a cursor: nothing waits for this reader there.
inline constexpr std::uint32_t kNoCursor = 0xffff'ffff;

enum class Access : std::uint8_t { produce, consume };

struct HelloRequest {
  Peer peer;
  std::string client_name;
  bool membarrier = false;
  std::string resume_token;  // empty: a new session
};

struct Welcome {
  SessionId session;
  Incarnation incarnation;
  bool resumed = false;
  std::string token;
  UniqueFd session_region;  // holds the session lock (region::open_locked); -1 if resumed: the client has it mapped
  UniqueFd wake;            // eventfd
  UniqueFd kept;            // readable once the region would survive the daemon: before that it must not be handed out
  std::string daemon_version;
  std::int32_t daemon_pid = 0;
  bool memory_kept = false;  // it outlives this daemon
};

struct PartitionGrant {
  PartitionNumber partition = 0;
  UniqueFd control;
  UniqueFd log;
  UniqueFd bell;
};

struct OpenProducer {
  std::string topic;
  std::string name;       // empty: anonymous
  std::uint32_t pin = 0;  // < kSessionPinsMax; opening another producer on it closes the one that had it
};
struct LastSent {
  PartitionNumber partition = 0;
  Sequence sequence;
  std::string bookmark;
};
struct ProducerGrant {
  ProducerId id;
  TopicId topic;
  std::uint32_t partition_count = 0;
  std::vector<PartitionGrant> partitions;  // the first kGrantPartitionsMax
  std::vector<LastSent> last;
};

struct CursorRequest {
  PartitionNumber partition = 0;
  std::uint32_t cell = kNoCursor;  // < kSessionCursorsMax, or kNoCursor
};
struct OpenReader {
  std::string topic;
  std::vector<CursorRequest> cursors;  // empty: all partitions, with no cursors
};
struct PartitionRange {
  PartitionNumber partition = 0;
  Position earliest;
  Position end;
};
struct ReaderGrant {
  std::uint64_t id = 0;
  TopicId topic;
  std::uint32_t partition_count = 0;       // of the topic
  std::vector<PartitionGrant> partitions;  // the first kGrantPartitionsMax of those asked for, by number
  std::vector<PartitionRange> ranges;      // of all that were asked for
};

struct PartitionInfo {
  PartitionNumber partition = 0;
  layout::Gate gate = layout::Gate::open;
  std::string gate_reason;
  Position earliest;
  Position committed;
  Position durable;
  Position tail;
  Position prepared;
  Position memory_start;
  std::uint64_t file_count = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t records = 0;
  std::uint32_t slots_used = 0;
  std::uint32_t slots_pinned = 0;
  std::uint32_t open_claims = 0;
  std::uint64_t quarantined_bytes = 0;
  std::uint64_t corrupt_records = 0;
  std::uint64_t delayed = 0;      // that wait for their time
  std::uint64_t next_due_ns = 0;  // since the epoch; 0: none waits
  std::uint64_t open_halves = 0;
  std::uint64_t committed_halves = 0;  // since the topic exists
  std::uint64_t rolled_back_halves = 0;
};
struct TopicInfo {
  core::TopicRecord record;
  std::vector<PartitionInfo> partitions;
  std::uint32_t producers = 0;
  std::uint32_t readers = 0;
};

struct LocateAnswer {
  enum class Kind : std::uint8_t { file, skip, trimmed, above } kind = Kind::above;
  Position position;  // skip, trimmed: where to go on
  UniqueFd file;      // file: read-only, with its OFD read lock
  Position base;
  Position data_end;
};

struct SequenceReport {
  PartitionNumber partition = 0;
  ProducerId producer;
  Sequence sequence;
};

struct AuditRow {
  PartitionNumber partition = 0;
  core::AuditRow row;
};
struct AuditReport {
  std::vector<AuditRow> rows;
  bool holds = false;
};

// What a topic's last scrub found, or has found so far.
struct ScrubRange {
  PartitionNumber partition = 0;
  Position begin;
  Position end;
  std::string reason;
};
struct ScrubReport {
  std::uint64_t run = 0;  // counts in this daemon; 0: there was none
  bool running = false;
  std::uint32_t copies = 0;  // that were compared
  std::uint64_t segments = 0;
  std::uint64_t bytes = 0;  // of one copy
  std::uint64_t mended_segments = 0;
  std::uint64_t mended_bytes = 0;  // written, on all copies
  std::uint64_t damaged_bytes = 0;
  std::vector<ScrubRange> damaged;  // intact on no copy; the first ones
  std::vector<std::string> errors;  // what could not be looked at; the first ones
};

struct MirrorStatus {
  std::string path;
  std::string state;   // good, stale or filling
  std::string reason;  // why it is not good
  std::uint64_t filled_bytes = 0;
  std::uint64_t total_bytes = 0;
  std::uint64_t failed_reads = 0;
  std::string topic;  // whose log files it holds; empty: the data directory's
};
struct BusStatus {
  std::string version;
  std::int32_t pid = 0;
  std::uint64_t started_ns = 0;
  Incarnation incarnation;
  std::string data_directory;
  std::string socket;
  std::uint32_t sessions = 0;
  std::uint32_t topics = 0;
  std::uint32_t partitions = 0;
  std::uint32_t poisoned = 0;
  std::uint64_t memory_bytes = 0;
  std::uint64_t memory_budget_bytes = 0;
  std::uint64_t disk_bytes = 0;
  std::uint64_t repaired_claims = 0;
  std::uint64_t expired_claims = 0;
  std::uint64_t repair_ns_max = 0;
  std::uint64_t repair_ns_last = 0;
  std::string disk_backend;
  std::vector<std::string> recovery;
  std::vector<MirrorStatus> mirrors;  // the data directory first, if it has any; then those of topics
  // Of log files looked at again since the start.
  std::uint64_t scrub_passes = 0;         // the slow pass has been through everything
  std::uint64_t scrub_mended_bytes = 0;   // from another copy
  std::uint64_t scrub_damaged_bytes = 0;  // intact on no copy
  std::uint64_t open_transactions = 0;
  std::uint64_t parked_transactions = 0;
  // Since the start.
  std::uint64_t committed_transactions = 0;
  std::uint64_t rolled_back_transactions = 0;
  core::AnswerCounts checks;
  core::AnswerCounts resolver_runs;
};
struct DoctorCheck {
  std::string name;
  bool ok = false;
  std::string detail;
  std::string advice;
};
struct SessionInfo {
  SessionId id;
  std::int32_t pid = 0;
  std::uint32_t uid = 0;
  std::string client_name;
  std::uint32_t producers = 0;
  std::uint32_t readers = 0;
  std::uint32_t pins = 0;
  bool connected = false;
};

// What the control thread saw of a session's client. None of it is proof of death: the session lock is.
enum class PeerEvent : std::uint8_t {
  hung_up,  // its socket closed (posted once, at once: repair times count from here)
  exited,   // its pidfd says so
  look,     // time to look again: it had hung up, but lived
};

class BusInterface {
 public:
  virtual ~BusInterface() = default;

  // A new session, or the one of the token (if its peer has the same uid and it was not ended).
  virtual Result<Welcome> attach(HelloRequest request) = 0;
  // Look whether the session's client is dead, and if so repair and let it go. True once the session is gone; while
  // false the control thread calls again (`look`), soon at first and once a second in the end, until the client is
  // back.
  virtual bool on_peer(SessionId session, PeerEvent event) = 0;

  virtual Status create_topic(SessionId session, core::TopicRequest request) = 0;
  virtual Status alter_topic(SessionId session, const std::string& name, core::TopicChange change) = 0;
  virtual Status delete_topic(SessionId session, const std::string& name) = 0;
  // Opens poisoned partitions again: one, or all of the topic.
  virtual Status recover_topic(SessionId session, const std::string& name,
                               std::optional<PartitionNumber> partition) = 0;
  // `start`: has its log files looked at, all or one partition's, and mended from another copy where one is damaged;
  // one that is under way goes on. Answers what was found so far.
  virtual Result<ScrubReport> scrub_topic(SessionId session, const std::string& name,
                                          std::optional<PartitionNumber> partition, bool start) = 0;
  virtual Result<std::vector<TopicInfo>> list_topics(SessionId session) = 0;
  virtual Result<TopicInfo> describe_topic(SessionId session, const std::string& name) = 0;

  virtual Result<ProducerGrant> open_producer(SessionId session, OpenProducer request) = 0;
  virtual Status close_producer(SessionId session, ProducerId producer) = 0;
  virtual Result<ReaderGrant> open_reader(SessionId session, OpenReader request) = 0;
  virtual Status close_reader(SessionId session, std::uint64_t reader) = 0;
  // At most `count` (<= kGrantPartitionsMax) partitions from `first` on; empty past the last one.
  virtual Result<std::vector<PartitionGrant>> open_partitions(SessionId session, const std::string& topic,
                                                              Access access, PartitionNumber first,
                                                              std::uint32_t count) = 0;

  // `damaged`: what lies there was found damaged; seen to first, and `above` is answered until it was.
  virtual Result<LocateAnswer> locate(SessionId session, TopicId topic, PartitionNumber partition, Position position,
                                      bool damaged) = 0;
  virtual Result<Position> seek_time(SessionId session, TopicId topic, PartitionNumber partition,
                                     std::uint64_t time_ns) = 0;
  virtual Result<std::vector<PartitionRange>> end_positions(SessionId session, const std::string& topic) = 0;
  virtual Status report_sequences(SessionId session, TopicId topic, std::vector<SequenceReport> reports) = 0;

  // Consumer groups.
  virtual GroupInterface& groups() = 0;
  virtual TransactionInterface& transactions() = 0;

  virtual Result<AuditReport> audit(SessionId session, const std::string& topic) = 0;
  virtual Result<BusStatus> status(SessionId session) = 0;
  virtual Result<std::vector<DoctorCheck>> doctor(SessionId session, bool quick) = 0;
  virtual Result<std::vector<SessionInfo>> list_sessions(SessionId session) = 0;
  // Ends the victim's session. The control server closes its socket when this succeeds.
  virtual Status kill_session(SessionId session, SessionId victim) = 0;
  virtual Result<std::string> config(SessionId session) = 0;  // TOML
};

// Hands closures to the bus thread.
class BusPoster {
 public:
  virtual ~BusPoster() = default;
  // Runs `call` on the bus thread, in the order of posting. False, and `call` is dropped, if the inbox is full or the
  // bus has stopped. Any thread.
  virtual bool post(std::function<void(BusInterface&)> call) = 0;
  // The bus has ended: nothing that was posted and did not run ever will. Any thread.
  virtual bool has_ended() const = 0;
};

}  // namespace sluice::session
