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
const byReference :UInt32 = 0xffffffff;  # as the cell of an assignment
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

  # ---- consumer groups
  createGroup @22 (config :GroupConfig) -> (done :Done);
  alterGroup @23 (name :Text, change :GroupChange) -> (done :Done);
  deleteGroup @24 (name :Text) -> (done :Done);
  pauseGroup @25 (name :Text, pause :Bool) -> (done :Done);
  describeGroups @26 (name :Text) -> (groups :List(GroupInfo), failure :Failure);   # empty name: all
  explainGroup @27 (name :Text) -> (response :ExplainResponse);
  seekGroup @28 (request :SeekGroup) -> (moves :List(SeekResult), failure :Failure);
  # A member of a group, made if it is not there. Joining again after a lost answer makes a second member, which ends with
  # its session: the first one is left.
  joinGroup @29 (request :JoinGroup) -> (response :JoinGroupResponse);
  leaveGroup @30 (memberId :UInt64) -> (done :Done);
  # What the member has now; asked for when its region's `assignments` has changed.
  assignments @31 (memberId :UInt64) -> (assignments :List(Assignment), failure :Failure);
  # Answered once everything that the member has settled so far is in the store.
  saveAcks @32 (memberId :UInt64) -> (done :Done);
  countDeadLetters @33 (group :Text) -> (counts :List(DeadLetterCount), failure :Failure);  # empty: all groups
  listDeadLetters @34 (group :Text, afterId :UInt64, limit :UInt32) -> (letters :List(DeadLetter), failure :Failure);
  redrive @35 (request :Redrive) -> (outcomes :List(RedriveOutcome), failure :Failure);
  purgeDeadLetters @36 (group :Text) -> (purged :UInt64, failure :Failure);

  # Below which position nothing comes again in this epoch but dead letters that are listed; what was said stays true.
  safeHorizon @45 (group :Text, topic :Text, partition :UInt32) -> (response :HorizonResponse);
  # Where the epochs of the group's messages begin in that partition, ascending.
  groupEpochs @46 (group :Text, topicId :UInt32, partition :UInt32) -> (epochs :List(EpochStart), failure :Failure);

  # ---- transactions
  # A transactional producer of a producer group. `former`: the id that it had at the daemon before, 0: none. An id that
  # the daemon does not know answers revoked in the other calls: open it again.
  openTransactor @37 (group :Text, former :UInt32) -> (transactorId :UInt32, failure :Failure);
  closeTransactor @38 (transactorId :UInt32) -> (done :Done);
  # Answered once the decision is durable, with what stands: the first answer does.
  resolveTransaction @39 (request :Resolve) -> (response :ResolveResponse);
  # Answered when there is something to be checked, or (transactionId 0) after a while: ask again.
  takeCheck @40 (transactorId :UInt32) -> (response :CheckResponse);
  answerCheck @41 (transactorId :UInt32, transactionId :UInt64, serial :UInt64, verdict :UInt8) -> (done :Done);
  # Undecided ones in order of their ids, from the first above afterId on.
  listTransactions @42 (afterId :UInt64, limit :UInt32, parkedOnly :Bool)
      -> (transactions :List(TransactionInfo), failure :Failure);
  describeTransaction @43 (transactionId :UInt64) -> (response :TransactionResponse);
  # By an operator: order is a TransactionOrder.
  orderTransaction @44 (transactionId :UInt64, order :TransactionOrder) -> (response :TransactionResponse);
}

struct HalfRef {
  topic @0 :Text;                    # told, not asked
  topicId @1 :UInt32;
  partition @2 :UInt32;
  position @3 :UInt64;
}
struct Resolve {
  transactorId @0 :UInt32;
  transactionId @1 :UInt64;
  commit @2 :Bool;
  halves @3 :List(HalfRef);          # all of them, if it is this transactor's own
  acks @4 :List(TransactionAck);     # commit: these are settled with it
}
# A message in a member's hands, as the member's outcome would name it.
struct TransactionAck {
  memberId @0 :UInt64;
  bySlot @1 :Bool;
  index @2 :UInt32;                  # of the slot or cell
  generation @3 :UInt32;             # by cell: lower half
  target @4 :UInt64;                 # by slot: stamp; by cell: position
  end @5 :UInt64;                    # by cell: of the record
}
struct ResolveResponse {
  union {
    resolution :group {
      commit @0 :Bool;
      wasDecided @1 :Bool;           # before this call
    }
    failure @2 :Failure;
  }
}
struct CheckRequest {
  transactionId @0 :UInt64;
  serial @1 :UInt64;                 # comes back with the answer
  halves @2 :List(HalfRef);
}
struct CheckResponse {
  union {
    check @0 :CheckRequest;
    failure @1 :Failure;
  }
}
enum TransactionOrder {
  commit @0;
  rollback @1;
  recheck @2;
}
struct TransactionInfo {
  transactionId @0 :UInt64;
  group @1 :Text;
  state @2 :Text;                    # open, checked, parked, deciding, committed, rolled_back
  checkBack @3 :Bool;
  createdNs @4 :UInt64;
  nextCheckInNs @5 :UInt64;
  unknowns @6 :UInt32;
  decidedNs @7 :UInt64;
  decidedBy @8 :Text;
  halves @9 :List(HalfRef);          # those that are not done with
}
struct TransactionResponse {
  union {
    transaction @0 :TransactionInfo;
    failure @1 :Failure;
  }
}

enum GroupMode {
  ordered @0;
  shared @1;
}
enum Strict {
  none @0;
  key @1;
  partition @2;
}
struct Backoff {
  stepsNs @0 :List(UInt64);          # empty: exponential
  firstNs @1 :UInt64;
  maxNs @2 :UInt64;
}
struct GroupConfig {
  name @0 :Text;
  mode @1 :GroupMode;
  ackTimeoutNs @2 :UInt64;           # 0 in createGroup, here and below: the default
  memberTimeoutNs @3 :UInt64;
  maxAttempts @4 :UInt32;
  backoff @5 :Backoff;               # all zero: the default
  strict @6 :Strict;
  hold @7 :Bool;
}
struct GroupChange {
  # 0 or absent: as it is.
  ackTimeoutNs @0 :UInt64;
  memberTimeoutNs @1 :UInt64;
  maxAttempts @2 :UInt32;
  setBackoff @3 :Bool;
  backoff @4 :Backoff;
  setStrict @5 :Bool;
  strict @6 :Strict;
  setHold @7 :Bool;
  hold @8 :Bool;
}
struct GroupStart {
  union {
    latest @0 :Void;
    earliest @1 :Void;
    timeNs @2 :UInt64;
    position @3 :UInt64;             # in `partition`; the others begin at earliest
  }
  partition @4 :UInt32;
}

struct HeldPartition {
  topicId @0 :UInt32;
  partition @1 :UInt32;
  acked @2 :UInt64;
  oldest @3 :UInt64;                 # 0: none in hand
  newest @4 :UInt64;
  seeks @5 :UInt64;                  # as the assignment said
}
struct HeldMessage {
  topicId @0 :UInt32;
  partition @1 :UInt32;
  position @2 :UInt64;
  delivered @3 :UInt32;
  failed @4 :UInt32;
  started @5 :Bool;
  seeks @6 :UInt64;                  # as the delivery said
}
struct JoinGroup {
  group @0 :Text;
  mode @1 :GroupMode;                # of a group that is made by this call
  mustExist @2 :Bool;
  topics @3 :List(Text);             # names, or patterns with *
  tag @4 :Text;
  start @5 :GroupStart;              # where the group has no cursor yet
  inFlightMax @6 :UInt32;
  # What a member of an earlier daemon has in its hands: it goes on with it.
  heldPartitions @7 :List(HeldPartition);
  heldMessages @8 :List(HeldMessage);
}
struct MemberGrant {
  # Never used twice, by later daemons neither: one that does not know a member answers notFound, and it joins again.
  memberId @0 :UInt64;
  region @1 :Descriptor;             # layout::MemberRegion, read-write
  readable @2 :Descriptor;           # eventfd: written when an armed member has something to read
  config @3 :GroupConfig;
}
struct JoinGroupResponse {
  union {
    grant @0 :MemberGrant;
    failure @1 :Failure;
  }
}

struct PositionRange {
  begin @0 :UInt64;
  end @1 :UInt64;
}
struct Repeat {
  position @0 :UInt64;
  delivered @1 :UInt32;
  failed @2 :UInt32;
}
struct Assignment {
  cell @0 :UInt32;                   # index in the member's region; byReference: it is not read directly
  generation @1 :UInt64;
  topic @2 :Text;
  topicId @3 :UInt32;
  partition @4 :UInt32;
  start @5 :UInt64;                  # read from here on; snaps to the next record
  carefulUntil @6 :UInt64;           # below it one message at a time is handed out
  settled @7 :List(PositionRange);   # above `start`: not to be handed out
  repeats @8 :List(Repeat);          # above `start`: told with the message
  blockedKeys @9 :List(UInt64);      # strict by key: hashes of keys that wait
  handedOut @11 :List(UInt64);       # a message was handed out before once for each that is above it
  blocked @10 :Bool;                 # strict by partition: nothing is read until it is unblocked
  seeks @12 :UInt64;                 # of the group in this partition, so far
}

struct MemberInfo {
  memberId @0 :UInt64;
  sessionId @1 :UInt64;
  pid @2 :Int32;
  clientName @3 :Text;
  partitions @4 :UInt32;
  inFlight @5 :UInt32;
  inFlightMax @6 :UInt32;
  idleNs @7 :UInt64;                 # since its last call
  hung @8 :Bool;
}
struct GroupPartitionInfo {
  topic @0 :Text;
  topicId @1 :UInt32;
  partition @2 :UInt32;
  memberId @3 :UInt64;               # 0: nobody's, or everybody's
  cursor @4 :UInt64;
  end @5 :UInt64;
  lagMessages @6 :UInt64;
  lagBytes @7 :UInt64;
  oldestAgeNs @8 :UInt64;
  ready @9 :UInt64;
  inFlight @10 :UInt64;
  retrying @11 :UInt64;
  parked @12 :UInt64;
  producedPerS @13 :Float64;
  consumedPerS @14 :Float64;
  catchUpNs @15 :UInt64;             # UINT64_MAX: never at these rates
  safeHorizon @16 :UInt64;           # as it was last said
}
struct GroupInfo {
  config @0 :GroupConfig;
  paused @1 :Bool;
  epoch @2 :UInt64;                  # raised by each forced seek
  subscriptions @3 :List(Text);
  members @4 :List(MemberInfo);
  partitions @5 :List(GroupPartitionInfo);
}
struct GroupReason {
  well @0 :Bool;
  cause @1 :Text;                    # a word for scripts
  sentence @2 :Text;
  advice @3 :Text;
}
struct ExplainResponse {
  union {
    reason @0 :GroupReason;
    failure @1 :Failure;
  }
}
struct SeekGroup {
  group @0 :Text;
  topic @1 :Text;                    # empty: all that it has cursors in
  to @2 :GroupStart;
  execute @3 :Bool;
  force @4 :Bool;
}
struct SeekResult {
  topic @0 :Text;
  partition @1 :UInt32;
  from @2 :UInt64;
  to @3 :UInt64;
  belowHorizon @4 :Bool;             # it must be forced
}
struct EpochStart {
  from @0 :UInt64;                   # messages first appended here or above it, up to the next
  epoch @1 :UInt64;
}
struct SafeHorizon {
  topicId @0 :UInt32;
  epoch @1 :UInt64;
  below @2 :UInt64;
  parked @3 :List(UInt64);           # ascending; where dead letters that may come again were first appended
}
struct HorizonResponse {
  union {
    horizon @0 :SafeHorizon;
    failure @1 :Failure;
  }
}

struct DeadLetterCount {
  group @0 :Text;
  parked @1 :UInt64;
  redriven @2 :UInt64;
  purged @3 :UInt64;
}
struct DeadLetter {
  id @0 :UInt64;                     # in the group, ascending
  group @1 :Text;
  topic @2 :Text;                    # where it comes from
  partition @3 :UInt32;
  position @4 :UInt64;
  parkedAt @5 :UInt64;               # in partition 0 of dlq.<group>
  reason @6 :Text;
  delivered @7 :UInt32;
  failed @8 :UInt32;
  parkedNs @9 :UInt64;
  state @10 :Text;                   # parked, redriven, purged
}
struct Redrive {
  group @0 :Text;
  filter @1 :List(KeyValue);         # topic, partition, position, reason (contains), id
  rate @2 :UInt32;                   # messages a second; 0: at once
  dryRun @3 :Bool;
}
struct KeyValue {
  key @0 :Text;
  value @1 :Text;
}
struct RedriveOutcome {
  letter @0 :DeadLetter;
  outcome @1 :Text;
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
  mirrors @14 :List(Text);           # further directories for its log files; absolute, below the daemon's mirror_roots
  messageTtlNs @15 :UInt64;          # how long consumers get a message; 0: for ever
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
  setMessageTtl @7 :Bool;
  messageTtlNs @8 :UInt64;
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
  openHalves @19 :UInt64;            # messages of transactions: that are not decided, and that were
  committedHalves @20 :UInt64;       # since the topic exists
  rolledBackHalves @21 :UInt64;
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
  # The copies of the data directory, itself the first, if there are mirrors; then those of topics that have their own.
  mirrors @19 :List(Mirror);
  scrubPasses @20 :UInt64;           # times that the slow scrub has been through everything since the start
  scrubMendedBytes @21 :UInt64;      # from another copy
  scrubDamagedBytes @22 :UInt64;     # found, and intact on no copy
  openTransactions @23 :UInt64;
  parkedTransactions @24 :UInt64;    # nobody could say what became of them: they wait for an operator
  # Since the start:
  committedTransactions @25 :UInt64;
  rolledBackTransactions @26 :UInt64;
  checks @27 :AnswerCounts;          # producers were asked
  resolverRuns @28 :AnswerCounts;
}
struct AnswerCounts {
  commit @0 :UInt64;
  rollback @1 :UInt64;
  unknown @2 :UInt64;
  none @3 :UInt64;                   # it died, or took too long
}
struct Mirror {
  path @0 :Text;
  state @1 :Text;                    # good, stale or filling
  reason @2 :Text;                   # why it is not good
  filledBytes @3 :UInt64;            # filling: so far, of log files
  totalBytes @4 :UInt64;             # as far as it is known
  failedReads @5 :UInt64;            # that another copy answered
  topic @6 :Text;                    # whose log files it holds; empty: the data directory's
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
