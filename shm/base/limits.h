// Every limit of the bus has its name here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice {

inline constexpr std::size_t kCacheLineSize = 64;
// Hot words of different writers lie this far apart: the prefetcher fetches lines in pairs.
inline constexpr std::size_t kWriterDistance = 128;

inline constexpr std::uint64_t kSegmentSizeMin = 64 * 1024;
inline constexpr std::uint64_t kSegmentSizeMax = 1024 * 1024 * 1024;
inline constexpr std::uint64_t kSegmentSizeDefault = 4 * 1024 * 1024;
inline constexpr std::uint32_t kSlotsMin = 4;
inline constexpr std::uint32_t kSlotsMax = 1024;
inline constexpr std::uint32_t kSlotsDefault = 8;
// A message may take this part of a segment at the most (1/4).
inline constexpr std::uint64_t kMessageSegmentFraction = 4;
// Memory is prepared (backed and zeroed) in steps of this size.
inline constexpr std::uint64_t kPrepareStepSize = 256 * 1024;
// The tail is moved at least once in so many bytes.
inline constexpr std::uint64_t kTailLagMax = 4096;

inline constexpr std::uint32_t kSegmentsPerFileDefault = 64;
inline constexpr std::uint32_t kPartitionsPerTopicMax = 1024;
inline constexpr std::uint32_t kPartitionsMax = 65536;  // in one daemon
inline constexpr std::uint32_t kTopicsMax = 16384;
inline constexpr std::uint32_t kTopicNameSizeMax = 200;
inline constexpr std::uint32_t kProducerNameSizeMax = 200;
inline constexpr std::uint32_t kSessionsMax = 4096;
inline constexpr std::uint32_t kSessionPinsMax = 256;  // producers + segments that readers hold
inline constexpr std::uint32_t kPinnedSlotsFraction =
    2;  // one session may pin 1/2 of a partition's slots when they are needed
inline constexpr std::uint32_t kSessionCursorsMax = 1024;   // partitions that one session's readers are in
inline constexpr std::uint32_t kFencesMax = 512;            // fence table entries of a partition
inline constexpr std::size_t kProducersTrackedMax = 65536;  // whose sequences one reader follows in one partition
// Of one partition: audit rows of anonymous producers that are kept apart although these have ended, and of those that
// lived when the daemon was lost (whose clients may yet report); beyond it they are folded into one.
inline constexpr std::size_t kAuditEndedRowsMax = 256;
inline constexpr std::size_t kAuditFormerRowsMax = 2048;
inline constexpr std::size_t kEndedWaitingMax = 65536;  // producers that have ended, and may have uncounted claims
inline constexpr std::uint32_t kBatchRecordsMax = 65536;
inline constexpr std::uint32_t kHeadersMax = 64;  // application headers of one message
inline constexpr std::uint32_t kTrailerSizeMax = 64 * 1024;
inline constexpr std::uint32_t kKeySizeMax = 16 * 1024;
inline constexpr std::uint32_t kTagSizeMax = 255;
inline constexpr std::uint32_t kBookmarkSizeMax = 1024;
inline constexpr std::uint64_t kDelayNsMax = 365ull * 24 * 3600 * 1'000'000'000;  // of a delayed message
inline constexpr std::uint64_t kMessageTtlNsMin = 1'000'000;                      // of a topic's messages
inline constexpr std::uint64_t kMessageTtlNsMax = 3650ull * 24 * 3600 * 1'000'000'000;

inline constexpr std::uint32_t kGroupsMax = 4096;
inline constexpr std::uint32_t kGroupNameSizeMax = 190;     // its dead letters' topic is dlq.<group>
inline constexpr std::uint32_t kGroupMembersMax = 1024;     // of one group
inline constexpr std::uint32_t kMembersMax = 4096;          // in one daemon
inline constexpr std::uint32_t kMemberPatternsMax = 64;     // topics and patterns of one member
inline constexpr std::uint32_t kGroupPatternsMax = 1024;    // subscriptions of one group
inline constexpr std::uint32_t kMemberCellsMax = 1024;      // partitions that one member has at a time
inline constexpr std::uint32_t kDeliverySlotsMax = 4096;    // references in one member's hands
inline constexpr std::uint32_t kNoteSlotsMax = 256;         // notes that it has not read
inline constexpr std::uint32_t kOutcomesMax = 16384;        // that wait for the daemon
inline constexpr std::uint32_t kReasonSizeMax = 256;        // of a nack, bytes
inline constexpr std::uint32_t kInFlightMaxDefault = 1024;  // messages in one member's hands
inline constexpr std::uint32_t kAckRangesMax = 4096;        // acked apart above a cursor, of one partition
inline constexpr std::uint32_t kPendingMax = 100'000;       // of one group's partition: waiting for another delivery
inline constexpr std::uint32_t kFlightsMax = 65'536;      // of a shared group's partition: told apart above its cursor
inline constexpr std::size_t kOpenHalvesMax = 1'000'000;  // messages of undecided transactions, of one partition
inline constexpr std::size_t kHalvesPerTransactionMax = 65'536;
inline constexpr std::uint32_t kTransactorsMax = 4096;                 // in one daemon
inline constexpr std::uint32_t kTransactionsPerCallMax = 1000;         // told in one answer
inline constexpr std::uint64_t kCheckPollNs = 20'000'000'000;          // who waits for a check is answered by then
inline constexpr std::uint64_t kDecisionKeptNs = 604'800'000'000'000;  // what was decided is told for a week
inline constexpr std::uint32_t kDecisionsForgottenMax = 10'000;        // in one step
inline constexpr std::uint32_t kBackoffStepsMax = 32;
inline constexpr std::uint32_t kMaxAttemptsDefault = 16;
inline constexpr std::uint64_t kBackoffFirstNsDefault = 100'000'000;
inline constexpr std::uint64_t kBackoffMaxNsDefault = 30'000'000'000;
inline constexpr std::uint64_t kAckTimeoutNsDefault = 30'000'000'000;
inline constexpr std::uint64_t kMemberTimeoutNsDefault = 30'000'000'000;
inline constexpr std::size_t kHandedOutMax = 256;                          // earlier deliveries that are counted
inline constexpr std::uint64_t kExtendNsMax = 86'400'000'000'000;          // by one extend(): a day more
inline constexpr std::uint64_t kRetryDelayNsMax = 31'536'000'000'000'000;  // of a nack: 365 days
inline constexpr std::uint64_t kHandOverNsMax = 5'000'000'000;  // a member finishes what it holds of a partition
inline constexpr std::uint64_t kAckSaveNsMax = 200'000'000;     // an ack is in the store after it at the latest
inline constexpr std::uint64_t kRejoinNsMax = 2'000'000'000;    // a new daemon waits for the members of the last one

inline constexpr std::size_t kMirrorCopiesMax = 4;      // the data directory and its mirrors
inline constexpr std::size_t kMirrorPathSizeMax = 900;  // of a root, bytes: all of them fit one slot of mirror.state

inline constexpr std::uint64_t kClaimDeadlineNsDefault = 1'000'000'000;
inline constexpr std::uint64_t kFlushIntervalNsDefault = 5'000'000;
// A sleeper looks again after this long, so that a lost wake-up costs latency, never a hang.
inline constexpr std::uint64_t kSleepNsMax = 1'000'000'000;
// The same where there is no membarrier.
inline constexpr std::uint64_t kSleepWithoutMembarrierNsMax = 5'000'000;
inline constexpr std::uint64_t kDaemonSleepNsMax = 2'000'000'000;
inline constexpr std::uint32_t kFutexWaitersMax = 127;  // futex_waitv, less one for ourselves
inline constexpr std::uint64_t kWriteChunkSizeMax = 1024 * 1024;
inline constexpr std::uint32_t kWritesInFlightMax = 2;  // of one partition
inline constexpr std::size_t kDirectIoAlignment = 4096;

}  // namespace sluice
