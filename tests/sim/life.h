// One life of a daemon and its clients, in one thread, from start to its end: by power loss, kill or a clean stop.
//
// start() does what Bus and Topic do at a start (daemon/bus), over the same modules. run() lets the dice choose who
// acts next: a producer, the daemon's turn, the disk's completions, a reader, or misfortune. Everything that is acted
// on is the real code; the clients are Appenders that die, stall and scribble. Owner: the simulation's one thread. A
// life takes itself apart when it goes: nothing reaches the media any more then.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/bus/audit_recovery.h"
#include "daemon/log/segment_scrub.h"
#include "daemon/spill/partition.h"
#include "shm/ring/continuity.h"
#include "tests/daemon/spill/rig.h"
#include "tests/sim/machine.h"
#include "tests/sim/process_disk.h"

namespace sluice::sim {

class Life {
 public:
  explicit Life(Machine& machine);
  ~Life();
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;

  // Recovers and checks what it finds. False: the power went meanwhile.
  bool start(bool power_may_go);
  // Everything that was planned happens. False: the power went meanwhile.
  bool run(std::uint32_t steps);
  // All producers end well, everything becomes durable, the files are closed. False: the power went meanwhile, or a
  // partition is poisoned.
  bool stop();
  // kill -9: writes in flight land later.
  void kill();
  bool sync_has_failed() const { return disk_fault_; }

 private:
  struct Unit {
    std::unique_ptr<spill::test::HeapRegions> regions;
    spill::test::CountedMemory backing;
    std::unique_ptr<spill::Partition> partition;
    Truth* truth = nullptr;
    PartitionNumber number = 0;
    std::optional<Position> poisoned_at;  // the durable position when it was poisoned
    // The reader.
    Position cursor;
    ring::Continuity continuity;
  };
  struct OpenOne {
    ring::OpenClaim claim;
    PartitionNumber partition = 0;
    std::uint32_t size = 0;
    std::string trailer;
    std::string bookmark;
    std::uint64_t since_ns = 0;
    std::uint64_t stalled_until_ns = 0;
  };
  struct Producer {
    ProducerId id;
    std::string name;
    std::uint32_t cell = 0;
    std::vector<std::unique_ptr<ring::Appender>> appenders;  // by partition
    std::optional<OpenOne> open;
    bool dead = false;
    std::vector<std::string> bookmarks;                      // by partition: the last one committed
    std::vector<std::optional<spill::ProducerMark>> fenced;  // by partition: where it stood when it was fenced
  };

  // ---- start (life_start.cc)
  bool power_is_off();
  bool survived(const Status& status, const std::string& doing);
  bool open_topic();
  bool open_partition(PartitionNumber number);
  void tell_files(const std::string& directory);
  bool recover(PartitionNumber number, std::optional<bus::AuditRecovery>& audit,
               std::unique_ptr<log::PartitionLog>& log, log::RecoveryReport& report);
  bool save(Unit& unit, const spill::Checkpoint& checkpoint);

  // ---- two copies (life_mirrors.cc)
  bool open_mirrors();
  void tell_states() const;
  void choose_victim();
  void mirrors_step();
  void fill_some();
  void end_filling();
  void scrub_some();
  void begin_scrub(const log::PartitionLog& log, const log::ScrubFile& file, SegmentNumber segment);
  // False: the power went, or there is no room.
  bool end_scrub();
  bool scrub_all();
  // A reader has met damage: it is mended from the other copy. The power may go meanwhile.
  struct PowerOff {};
  bool mend_in(log::PartitionLog& log, Position position);
  void mirrors_misfortune();
  void rot();

  // ---- clients (life_clients.cc)
  bool add_producer(std::uint32_t cell, const std::string& name);
  std::optional<std::vector<spill::ProducerMark>> take_over(const std::string& name, ProducerId id);
  std::optional<spill::ProducerMark> expected_mark(const Unit& unit, const std::string& name);
  static spill::ProducerMark mark_of(const Producer& producer, PartitionNumber partition);
  Producer* find(ProducerId id);
  std::uint32_t free_cell() const;
  void producer_step();
  void append(Producer& producer);
  void append_batch(Producer& producer);
  void open_claim(Producer& producer);
  void go_on(Producer& producer);
  void scribble(const OpenOne& open);
  std::uint32_t some_size();
  void commit(Producer& producer);
  void committed(const Producer& producer, Unit& unit, const ring::Appended& appended, std::uint32_t size,
                 std::string bookmark, std::optional<std::uint64_t> due_ns = {});
  std::string bookmark_of(const Producer& producer, PartitionNumber partition) const;
  void bury(Producer& producer);
  void new_producer();
  void die(Producer& producer);
  void read_some(Unit& unit);
  bool read_memory(Unit& unit);

  // ---- the daemon's turns (life.cc)
  void step();
  void misfortune();
  void turn(Unit& unit);
  bool reap();
  void observe(Unit& unit);
  bool drain(const std::string& why);

  Machine& machine_;
  std::unique_ptr<ProcessDisk> disk_;
  std::unique_ptr<store::Store> store_;
  std::uint64_t store_losses_ = 0;
  core::TopicRecord topic_;
  Incarnation incarnation_;
  std::vector<store::NamedProducer> names_;
  std::vector<store::FenceRecord> fences_;
  bool fresh_ = false;
  bool power_went_ = false;
  bool disk_fault_ = false;    // a write or sync was made to fail
  bool short_writes_ = false;  // writes were made to come back short
  spill::test::PinArray pins_;
  spill::test::FakeAttached attached_;
  std::vector<std::unique_ptr<Unit>> units_;
  std::vector<Producer> producers_;
  std::map<ProducerId, std::vector<spill::ProducerMark>> buried_;  // where they stood, by partition
  std::uint32_t next_name_ = 0;
  std::unique_ptr<log::SegmentScrub> scrub_;
  std::size_t stale_before_ = 0;
};

}  // namespace sluice::sim
