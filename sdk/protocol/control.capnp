@0xb1c0f3a7d94e2158;
# The control channel between a client and sluiced: Cap'n Proto two-party RPC over a Unix stream socket, with file
# descriptors attached to capabilities (Descriptor). Data never goes this way; positions, names and descriptors do.
#
# Rules
#  1. Expected outcomes are in the schema: every call answers with a union of its result and a Failure. An RPC exception
#     means a lost connection or a defect, nothing else.
#  2. The bootstrap capability is Bus. hello() comes first and once; the Session it gives is this client's, and all that
#     was opened through it is closed when the client is proven dead (DESIGN: session lock), not when the socket closes.
#  3. A session that lost its socket but lives may say hello() again with its resume token and keep everything.
#  4. Names, sizes and lists from the client are checked against the limits of shm/base/limits.h.
#  5. Times are ns since the epoch (wall), durations ns, sizes and positions bytes.
#  6. One message carries at most grantPartitionsMax partitions' descriptors (the kernel's limit is 253): openProducer and
#     openReader grant the first ones and say how many there are, openPartitions gives the others.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("sluice::protocol");

const protocolVersion :UInt32 = 1;
const grantPartitionsMax :UInt32 = 64;
const daemonDefault :UInt64 = 0xffffffffffffffff;  # in createTopic: as the daemon's configuration says
const noCursor :UInt32 = 0xffffffff;   # as a cursor's cell: read this partition, but nothing waits for it

struct Failure {
  code @0 :UInt8;        # sluice::ErrorCode; 0 where a Failure stands beside a result instead of in a union: none
  systemErrno @1 :Int32;
  context @2 :Text;      # what was being done, to what, why it failed, what to do
}

struct Done {
  union {
    ok @0 :Void;
    failure @1 :Failure;
  }
}

interface Descriptor {}  # carries one file descriptor (getFd()), nothing else

interface Bus {
  hello @0 (request :Hello) -> (response :HelloResponse);
}

struct Hello {
  protocolVersion @0 :UInt32;
  layoutVersion @1 :UInt32;     # layout::kRegionVersion
  clientName @2 :Text;          # for `sluice session list`
  membarrier @3 :Bool;          # the client has registered for global expedited membarrier
  resume @4 :Data;              # token of an earlier Welcome, or empty
}

struct HelloResponse {
  union {
    welcome @0 :Welcome;
    failure @1 :Failure;        # version, permission, quota
  }
}

struct Welcome {
  session @0 :Session;
  sessionId @1 :UInt64;
  incarnation @2 :UInt64;       # another than before: drop every mapping, open everything again
  resumed @3 :Bool;
  token @4 :Data;
  # The session region, on a description that holds the session lock (flock): map it, then close the descriptor; the
  # lock lives as long as the mapping. Mapped read-write. Absent if resumed: it is mapped already.
  sessionRegion @5 :Descriptor;
  wake @6 :Descriptor;          # eventfd: write 1 when a bell's kBellDaemon flag was taken down
  daemonVersion @7 :Text;
  daemonPid @8 :Int32;
  memoryKept @9 :Bool;          # the memory outlives this daemon: go on with it when the connection is lost
}

interface Session {
  createTopic @0 (config :TopicConfig) -> (done :Done);
  alterTopic @1 (name :Text, change :TopicChange) -> (done :Done);
  deleteTopic @2 (name :Text) -> (done :Done);
  listTopics @3 () -> (topics :List(TopicInfo), failure :Failure);
  describeTopic @4 (name :Text) -> (response :DescribeResponse);

  openProducer @5 (request :OpenProducer) -> (response :OpenProducerResponse);
  closeProducer @6 (producerId :UInt32) -> (done :Done);
  # Registers a reader's cursors, so that volatile topics wait for it and lag can be seen.
  openReader @7 (request :OpenReader) -> (response :OpenReaderResponse);
  closeReader @8 (readerId :UInt64) -> (done :Done);
  # The regions of further partitions: beyond the first grant, or added since. At most count (0: as many as fit) from
  # first on; none past the last one.
  openPartitions @9 (topic :Text, access :Access, first :UInt32, count :UInt32) -> (response :PartitionsResponse);

  # Where bytes that have left memory are. With `damaged`, what was read at this position does not hold: the daemon sees to
  # it first (mends it from another copy, or quarantines it), and answers `above` until it has.
  locate @10 (topicId :UInt32, partition :UInt32, position :UInt64, damaged :Bool) -> (response :LocateResponse);
  # The first position whose segment may hold a record of that time or later.
  seekTime @11 (topicId :UInt32, partition :UInt32, timeNs :UInt64) -> (response :PositionResponse);
  # The committed end right now.
  endPositions @12 (topic :Text) -> (response :EndPositionsResponse);
  # After lost memory: what this client had sent. What recovery did not find counts as cut, once.
  reportSequences @13 (topicId :UInt32, reports :List(SequenceReport)) -> (done :Done);

  audit @14 (topic :Text) -> (response :AuditResponse);
  status @15 () -> (status :BusStatus, failure :Failure);
  doctor @16 (quick :Bool) -> (checks :List(DoctorCheck), failure :Failure);
  listSessions @17 () -> (sessions :List(SessionInfo), failure :Failure);
  killSession @18 (sessionId :UInt64) -> (done :Done);
  config @19 () -> (toml :Text, failure :Failure);
  # Opens poisoned partitions again: `partition`, or all. What was not durable there is lost, as with lost memory; whoever
  # has the topic open attaches anew. Failures: conflict (none is poisoned), wouldBlock, io.
  recoverTopic @20 (name :Text, partition :UInt32, all :Bool) -> (done :Done);
  # With `start`: has its closed log files and the complete segments of the open ones looked at, of `partition` or all, and
  # mended from another copy where one is damaged; one that is under way goes on. Answers what was found so far: ask again
  # without `start` until it is not running any more. What is intact nowhere is quarantined.
  scrubTopic @21 (name :Text, partition :UInt32, all :Bool, start :Bool) -> (response :ScrubResponse);
}

enum Access {
  produce @0;
  consume @1;
}

enum Durability {
  volatile @0;
  async @1;
  sync @2;
  daemonDefault @3;   # in createTopic alone
}
enum Visibility {
  committed @0;
  durable @1;
}
enum Overflow {
  block @0;
  dropOldest @1;
}
enum TimeMode {
  coarse @0;
  precise @1;
  none @2;
}

struct TopicConfig {
  name @0 :Text;
  partitions @1 :UInt32 = 1;
  durability @2 :Durability = daemonDefault;
  visibility @3 :Visibility = committed;
  segmentSize @4 :UInt64;            # 0: the daemon's default
  slots @5 :UInt32;                  # 0: the daemon's default
  retentionBytes @6 :UInt64 = .daemonDefault;    # 0: no limit; per partition
  retentionTimeNs @7 :UInt64 = .daemonDefault;   # 0: no limit
  overflow @8 :Overflow = block;
  claimDeadlineNs @9 :UInt64 = .daemonDefault;   # 0: none
  checksum @10 :Bool = true;
  timeMode @11 :TimeMode = coarse;
  publishers @12 :List(Text);        # "user:NAME", "group:NAME"; empty: whoever may connect
  consumers @13 :List(Text);
  mirrors @14 :List(Text);
}

struct TopicChange {
  # 0 or absent: as it is.
  partitions @0 :UInt32;
  setRetentionBytes @1 :Bool;
  retentionBytes @2 :UInt64;
  setRetentionTime @3 :Bool;
  retentionTimeNs @4 :UInt64;
  setOverflow @5 :Bool;
  overflow @6 :Overflow;
}

struct PartitionInfo {
  partition @0 :UInt32;
  gate @1 :UInt32;                   # layout::Gate
  gateReason @2 :Text;
  earliest @3 :UInt64;               # first position that can be read
  committed @4 :UInt64;              # the frontier of final records that the daemon has seen
  durable @5 :UInt64;
  tail @6 :UInt64;
  prepared @7 :UInt64;
  memoryStart @8 :UInt64;            # below it: log files
  fileCount @9 :UInt64;
  fileBytes @10 :UInt64;
  records @11 :UInt64;               # committed since the topic exists
  slotsUsed @12 :UInt32;
  slotsPinned @13 :UInt32;
  openClaims @14 :UInt32;
  quarantinedBytes @15 :UInt64;
  corruptRecords @16 :UInt64;
  delayed @17 :UInt64;               # that wait for their time
  nextDueNs @18 :UInt64;             # of these, since the epoch; 0: none waits
}

struct TopicInfo {
  config @0 :TopicConfig;
  topicId @1 :UInt32;
  createdNs @2 :UInt64;
  partitions @3 :List(PartitionInfo);
  producers @4 :UInt32;              # open now
  readers @5 :UInt32;
}
struct DescribeResponse {
  union {
    topic @0 :TopicInfo;
    failure @1 :Failure;
  }
}

struct PartitionGrant {
  partition @0 :UInt32;
  control @1 :Descriptor;            # read-only
  log @2 :Descriptor;                # read-write for produce, read-only for consume
  bell @3 :Descriptor;               # read-write
}

struct OpenProducer {
  topic @0 :Text;
  name @1 :Text;                     # empty: anonymous
  # Index of the pin cell that this producer uses. Another producer of this session that was opened on it is closed, so
  # that the call can be repeated after a lost answer; so are readers whose cursor cells are named again.
  pin @2 :UInt32;
}
struct LastSent {
  partition @0 :UInt32;
  sequence @1 :UInt64;               # the last one that stands; 0: none
  bookmark @2 :Data;
}
struct ProducerGrant {
  producerId @0 :UInt32;
  topicId @1 :UInt32;
  partitions @2 :List(PartitionGrant);
  last @3 :List(LastSent);           # named producers: one entry a partition
  partitionCount @4 :UInt32;         # of the topic
}
struct OpenProducerResponse {
  union {
    grant @0 :ProducerGrant;
    failure @1 :Failure;
  }
}

struct OpenReader {
  topic @0 :Text;
  cursors @1 :List(CursorRequest);   # partitions to read; empty: all, with no cursors (nothing waits for this reader)
}
struct CursorRequest {
  partition @0 :UInt32;
  cell @1 :UInt32;                   # index of the cursor cell in the session region, or noCursor
}
struct ReaderGrant {
  readerId @0 :UInt64;
  topicId @1 :UInt32;
  partitions @2 :List(PartitionGrant);
  ranges @3 :List(PartitionRange);   # as they stand now, one a partition
  partitionCount @4 :UInt32;         # of the topic
}
struct PartitionRange {
  partition @0 :UInt32;
  earliest @1 :UInt64;
  end @2 :UInt64;                    # committed end
}
struct OpenReaderResponse {
  union {
    grant @0 :ReaderGrant;
    failure @1 :Failure;
  }
}
struct PartitionsResponse {
  union {
    partitions @0 :List(PartitionGrant);
    failure @1 :Failure;
  }
}

struct LocateResponse {
  union {
    file @0 :FileExtent;
    skip @1 :UInt64;                 # nothing was ever at this position: the next one with data
    trimmed @2 :UInt64;              # gone by retention: the earliest that is left
    above @3 :Void;                  # not written to a file yet: it is in memory
    failure @4 :Failure;
  }
}
struct FileExtent {
  # Read-only, with an OFD read lock on its own description that lasts as long as any mapping of it.
  file @0 :Descriptor;
  base @1 :UInt64;                   # position at offset 0
  dataEnd @2 :UInt64;                # positions below it may be read; ask again when it is reached
}
struct PositionResponse {
  union {
    position @0 :UInt64;
    failure @1 :Failure;
  }
}
struct EndPositionsResponse {
  union {
    ranges @0 :List(PartitionRange);
    failure @1 :Failure;
  }
}
struct SequenceReport {
  partition @0 :UInt32;
  producerId @1 :UInt32;             # of the lost incarnation
  sequence @2 :UInt64;               # last one claimed
}

struct AuditRow {
  partition @0 :UInt32;
  producerId @1 :UInt32;             # 0: the sum of the anonymous ones that ended long ago
  name @2 :Text;                     # named producers
  sequenceFirst @3 :UInt64;
  sequenceLast @4 :UInt64;
  data @5 :UInt64;
  committedHalves @6 :UInt64;
  rolledBack @7 :UInt64;
  open @8 :UInt64;
  delayed @9 :UInt64;
  aborted @10 :UInt64;
  fenced @11 :UInt64;
  dropped @12 :UInt64;
  expired @13 :UInt64;
  cut @14 :UInt64;
  quarantined @15 :UInt64;
  gaps @16 :UInt64;
  repeats @17 :UInt64;
}
struct AuditReport {
  rows @0 :List(AuditRow);           # one a producer and partition
  holds @1 :Bool;                    # every sum holds and nothing was cut or quarantined
}
struct AuditResponse {
  union {
    report @0 :AuditReport;
    failure @1 :Failure;
  }
}

struct ScrubRange {
  partition @0 :UInt32;
  begin @1 :UInt64;
  end @2 :UInt64;
  reason @3 :Text;
}
struct ScrubReport {
  run @0 :UInt64;                    # counts in this daemon; 0: there was none
  running @1 :Bool;
  copies @2 :UInt32;                 # that were compared
  segments @3 :UInt64;
  bytes @4 :UInt64;                  # of one copy
  mendedSegments @5 :UInt64;
  mendedBytes @6 :UInt64;            # written, on all copies
  damagedBytes @7 :UInt64;
  damaged @8 :List(ScrubRange);      # intact on no copy; the first ones
  errors @9 :List(Text);             # what could not be looked at; the first ones
}
struct ScrubResponse {
  union {
    report @0 :ScrubReport;
    failure @1 :Failure;
  }
}

struct BusStatus {
  version @0 :Text;
  pid @1 :Int32;
  startedNs @2 :UInt64;
  incarnation @3 :UInt64;
  dataDirectory @4 :Text;
  socket @5 :Text;
  sessions @6 :UInt32;
  topics @7 :UInt32;
  partitions @8 :UInt32;
  poisoned @9 :UInt32;
  memoryBytes @10 :UInt64;           # prepared slot memory
  memoryBudgetBytes @11 :UInt64;
  diskBytes @12 :UInt64;
  repairedClaims @13 :UInt64;        # aborted for the dead
  expiredClaims @14 :UInt64;         # aborted by their deadline
  repairNsMax @15 :UInt64;           # from a client's hang-up to its last repaired claim
  repairNsLast @16 :UInt64;
  diskBackend @17 :Text;
  recovery @18 :List(Text);          # what the last start found, a line each
  mirrors @19 :List(Mirror);         # the copies of the data directory, itself the first; empty without mirrors
  scrubPasses @20 :UInt64;           # times that the slow scrub has been through everything since the start
  scrubMendedBytes @21 :UInt64;      # from another copy
  scrubDamagedBytes @22 :UInt64;     # found, and intact on no copy
}
struct Mirror {
  path @0 :Text;
  state @1 :Text;                    # good, stale or filling
  reason @2 :Text;                   # why it is not good
  filledBytes @3 :UInt64;            # filling: so far, of log files
  totalBytes @4 :UInt64;             # as far as it is known
  failedReads @5 :UInt64;            # that another copy answered
}
struct DoctorCheck {
  name @0 :Text;
  ok @1 :Bool;
  detail @2 :Text;
  advice @3 :Text;
}
struct SessionInfo {
  sessionId @0 :UInt64;
  pid @1 :Int32;
  uid @2 :UInt32;
  clientName @3 :Text;
  producers @4 :UInt32;
  readers @5 :UInt32;
  pins @6 :UInt32;
  connected @7 :Bool;                # false: its socket is closed, but it lives
}
