// One life of a daemon and its clients, in one thread, from start to its end: by power loss, kill or a clean stop.
// Where its memory is kept the clients go on, and the next life adopts it.
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
#include <set>
#include <string>
#include <vector>

#include "daemon/bus/audit_recovery.h"
#include "daemon/log/segment_scrub.h"
#include "daemon/spill/partition.h"
#include "tests/sim/machine.h"
#include "tests/sim/memory.h"
#include "tests/sim/process_disk.h"

namespace sluice::sim {

class Life {
 public:
  // Over the memory that the machine holds for it, if it does.
  explicit Life(Machine& machine);
  ~Life();
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;

  // Recovers and checks what it finds. False: it ended meanwhile, see was_killed().
  bool start(bool may_end);
  // Everything that was planned happens. False: the power went meanwhile.
  bool run(std::uint32_t steps);
  // All producers end well, everything becomes durable, the files are closed. False: the power went meanwhile, or a
  // partition is poisoned.
  bool stop();
  // kill -9: writes in flight land later.
  void kill();
  // Then nobody knows what the disk holds of it until the power has gone.
  bool disk_has_failed() const { return disk_fault_; }

  // ---- kept memory (life_kept.cc)
  bool adopts() const { return adopts_; }
  // The clients go on while no daemon is there.
  void away();
  // kill -9, after which the next life goes on in this one's memory.
  void kill_and_leave();
  // A stop with a keeper: not everything may become durable before it ends. False: the power went meanwhile.
  bool stop_and_leave();
  // It ended in the middle of start(), its power on: its memory is to be left.
  bool was_killed() const { return was_killed_; }

 private:
  struct Unit {
    ring::PartitionMemory memory() const { return place->regions->memory(); }

    Place* place = nullptr;
    std::unique_ptr<spill::Partition> partition;  // null while no daemon is there
    Truth* truth = nullptr;
    PartitionNumber number = 0;
    std::optional<Position> poisoned_at;  // the durable position when it was poisoned
  };
  // Notes in the memory, as long as the process lives.
  class Notes final : public spill::AuditNotes {
   public:
    explicit Notes(const Life& life) : life_(life) {}
    void note(std::uint32_t handle, const spill::Checkpoint& checkpoint) override;

   private:
    const Life& life_;
  };
  // ---- start (life_start.cc)
  Unit& add_unit(Place& place);
  bool power_is_off();
  bool survived(const Status& status, const std::string& doing);
  bool open_topic();
  bool open_partition(PartitionNumber number);
  void tell_files(const std::string& directory);
  bool recover(PartitionNumber number, std::optional<bus::AuditRecovery>& audit,
               std::unique_ptr<log::PartitionLog>& log, log::RecoveryReport& report);
  bool walk(PartitionNumber number, log::PartitionLog& log, std::vector<Found>& found);
  void make_partition(Unit& unit, std::unique_ptr<log::PartitionLog> log, bus::AuditRecovery& audit,
                      const std::optional<spill::KeptMemory>& kept);
  bool save(Unit& unit, const spill::Checkpoint& checkpoint);

  // ---- kept memory (life_kept.cc)
  bool adopt_partition(PartitionNumber number);
  bool adopt_fences(Unit& unit, const bus::AuditRecovery& audit);
  void clients_step();
  void meanwhile();
  bool dies_now();
  void leave();
  bool check_complete(Unit& unit);

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
  static Position tail_of(const Unit& unit);
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
  std::unique_ptr<Memory> memory_;
  const bool adopts_;  // the memory is another life's
  spill::test::PinArray& pins_ = memory_->pins;
  spill::test::FakeAttached& attached_ = memory_->attached;
  std::vector<Producer>& producers_ = memory_->producers;
  std::map<ProducerId, std::vector<spill::ProducerMark>>& buried_ = memory_->buried;
  Notes notes_{*this};
  std::unique_ptr<ProcessDisk> disk_;
  std::unique_ptr<store::Store> store_;
  std::uint64_t store_losses_ = 0;
  core::TopicRecord topic_;
  std::vector<store::NamedProducer> names_;
  std::vector<store::FenceRecord> fences_;
  bool fresh_ = false;
  bool disk_fault_ = false;  // a write or sync was made to fail
  bool serves_ = false;      // clients may ask the daemon
  bool power_went_ = false;
  std::uint64_t dies_after_ = 0;  // chances to be killed while it starts; 0: it is not
  bool was_killed_ = false;
  std::set<ProducerId> half_fenced_before_;  // Machine::half_fenced, as it was adopted
  bool short_writes_ = false;                // writes were made to come back short
  std::vector<std::unique_ptr<Unit>> units_;
  std::uint32_t next_name_ = 0;
  std::unique_ptr<log::SegmentScrub> scrub_;
  std::size_t stale_before_ = 0;
};

}  // namespace sluice::sim
