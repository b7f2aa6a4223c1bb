// A connection to the daemon: the start of everything.
//
//   auto client = sluice::Client::connect().value();
//   auto producer = client.producer("orders").value();
//   producer.send("hello").value();
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "shm/base/result.h"
#include "sluice/admin.h"
#include "sluice/consumer.h"
#include "sluice/export.h"
#include "sluice/group.h"
#include "sluice/producer.h"
#include "sluice/reader.h"
#include "sluice/transaction.h"

namespace sluice {

enum class ConnectionState : std::uint8_t {
  connected,
  disconnected,  // the daemon hung up: control calls wait; reading, and sending where memory is kept, go on
  resumed,       // the same memory as before: nothing was lost
  replaced,      // the daemon's memory is new: receipts that were not durable are unknown
  closed,        // for good: revoked or refused
};

struct ConnectOptions {
  std::string socket;                                   // empty: SLUICE_SOCKET, else the default for this user
  std::string client_name;                              // for `sluice session list`; empty: the program's name
  Duration timeout = std::chrono::seconds(5);           // of connect()
  Duration control_timeout = std::chrono::seconds(30);  // of control calls, a reconnect included
  // Called on the control thread: be short, call nothing of this library.
  std::function<void(ConnectionState, const std::string& why)> on_state;
};

// Thread safety: every member may be called from any thread. Must outlive its producers, readers and their messages.
class SLUICE_EXPORT Client {
 public:
  // no_daemon (nobody answers), permission, version, timed_out.
  static Result<Client> connect(ConnectOptions options = {});
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  // not_found, permission, quota, no_memory.
  Result<Producer> producer(std::string_view topic, ProducerOptions options = {});
  Result<Reader> reader(std::vector<std::string> topics, ReaderOptions options = {});
  // A member of options.group. `topics`: names, or patterns in which * stands for any characters (new topics that match
  // are taken up by themselves). conflict: the group has another mode or tag.
  Result<Consumer> consumer(std::vector<std::string> topics, ConsumerOptions options);

  // A producer of half messages, and one who answers for its group. invalid (the group's name), quota.
  Result<TransactionalProducer> transactional_producer(TransactionalOptions options);

  Status create_topic(const TopicConfig& config);  // exists, invalid, quota, no_memory
  Status alter_topic(std::string_view name, const TopicChange& change);
  Status delete_topic(std::string_view name);
  // Opens poisoned partitions again (one, or all that are), once the disk is well. What is durable there is recovered,
  // what was not counts as lost memory, and whoever has the topic open attaches anew by itself. conflict (none is
  // poisoned) · would_block (its requests to the disk have not ended yet) · io · permission · not_found.
  Status recover_topic(std::string_view name, std::optional<PartitionNumber> partition = {});
  // Has a topic's log files (of all partitions, or one) looked at, and what is damaged mended from another copy; goes
  // on in the daemon after the answer, which says what was found so far. One that is under way goes on. not_found ·
  // invalid (a volatile topic) · permission.
  Result<ScrubReport> start_scrub(std::string_view name, std::optional<PartitionNumber> partition = {});
  // How far the last one has come; `run` 0: there was none since the daemon started.
  Result<ScrubReport> scrub(std::string_view name);
  Status create_group(const GroupConfig& config);  // exists, invalid, quota
  Status alter_group(std::string_view name, const GroupChange& change);
  // Its cursors, its messages that wait for a retry and its dead letters' list go; the topic dlq.<group> stays.
  Status delete_group(std::string_view name);
  Status pause_group(std::string_view name, bool pause);
  Result<std::vector<GroupInfo>> groups();
  Result<GroupInfo> group(std::string_view name);
  Result<GroupReason> explain_group(std::string_view name);
  // Moves the group's cursors, in one topic or (empty) all, while it runs. Without `execute` it tells what would
  // happen. conflict: a position below what the group's ledgers have forgotten needs `force`.
  Result<std::vector<SeekMove>> seek_group(std::string_view name, std::string_view topic, const From& to, bool execute,
                                           bool force = false);
  // Below what nothing comes again, stored before it is answered; seeking below it needs `force` from then on. For a
  // ledger that forgets. not_found: the group has no cursor there; would_block: many redriven dead letters are under
  // way.
  Result<SafeHorizon> safe_horizon(std::string_view group, std::string_view topic, PartitionNumber partition);
  Result<std::vector<DeadLetterCount>> dead_letter_counts(std::string_view group = {});
  // In order of their ids, from the first above `after_id` on.
  Result<std::vector<DeadLetter>> dead_letters(std::string_view group, std::uint64_t after_id, std::uint32_t limit);
  Result<std::vector<RedriveOutcome>> redrive(std::string_view group, const RedriveOptions& options);
  Result<std::uint64_t> purge_dead_letters(std::string_view group);  // how many

  // Undecided transactions in order of their ids, from the first above `after` on.
  Result<std::vector<TransactionInfo>> transactions(TransactionId after, std::uint32_t limit, bool parked_only = false);
  Result<TransactionInfo> transaction(TransactionId id);  // not_found also for one that was decided over a week ago
  // Its messages, in order, each good until `visit` returns, and for as long as that says true. Those are passed over
  // that cannot be read: of topics that are gone, or that this client may not consume; and what was damaged.
  void read_transaction(const TransactionInfo& transaction, const std::function<bool(const Message&)>& visit);
  // Decides an open or parked one, or has it checked again; what stands is in the answer. permission.
  Result<TransactionInfo> order_transaction(TransactionId id, TransactionOrder order);

  Result<std::vector<TopicInfo>> topics();
  Result<TopicInfo> topic(std::string_view name);
  Result<AuditReport> audit(std::string_view topic);
  Result<BusStatus> status();
  Result<std::vector<DoctorCheck>> doctor(bool quick);
  Result<std::vector<SessionInfo>> sessions();
  Status kill_session(std::uint64_t id);
  Result<std::string> daemon_config();  // TOML

  ConnectionState state() const;
  Incarnation incarnation() const;
  const std::string& socket() const;

  struct Impl;

 private:
  explicit Client(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

// SLUICE_SOCKET, else /run/sluice/sluice.sock for root and $XDG_RUNTIME_DIR/sluice/sluice.sock for others.
SLUICE_EXPORT SLUICE_EXPORT std::string default_socket();

}  // namespace sluice
