// The world of the delivery simulation: logs, a store, a daemon around the machine, members as the SDK would make them;
// and what is true of each message, against which the machine is checked.
//
// Owner: one test, on its thread. A broken promise throws Broken.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "daemon/core/delivery_machine.h"
#include "daemon/io/sim_random.h"

namespace sluice::core::sim {

struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A message, and what has become of it as far as the machine has accepted it.
struct Truth {
  Position end;
  std::uint64_t key_hash = 0;
  bool kills = false;                // whoever begins it dies
  bool handed_out = false;           // ever
  bool settled = false;              // acked or parked, in this daemon's eyes
  bool saved_settled = false;        // a daemon that starts now knows it
  bool ever_settled = false;         // or passed over by a seek
  bool done = false;                 // its application is through with it, whether or not the daemon knows
  bool rejected = false;             // ever
  std::uint32_t failed_most = 0;     // times that it can have failed at the most
  std::uint32_t failed_least = 0;    // times that the daemon has heard that it failed, and not forgotten by its death
  std::uint32_t delivered_most = 0;  // times that an application can have got it
};

class World;

// A member's side of a group: what it has in its hands, and what it has said that the daemon has not read yet.
class SimMember {
 public:
  SimMember(World& world, std::set<TopicId> subscribed, std::uint32_t most)
      : topics(std::move(subscribed)), in_flight_max(most), world_(world) {}

  // One thing that it does.
  void turn();
  // It looks at what the daemon told it.
  void notice(std::size_t count);
  std::vector<HeldRange> held_partitions() const;
  std::vector<HeldReference> held_messages() const;
  // A daemon that is new does not know what it knew under its former id.
  void begin_anew(MemberId new_id);

  // ---- its region
  struct Given {  // daemon
    Place place;
    std::uint64_t generation = 0;
    bool wanted_back = false;
  };
  std::map<std::uint32_t, Given> given;
  struct Note {
    Action action;
    std::uint64_t outcomes_read = 0;
  };
  std::deque<Note> notes;
  struct Words {
    CellWords words;
    std::uint64_t accepted = 0;
  };
  std::map<std::uint32_t, Words> said;  // member
  std::deque<Outcome> outcomes;
  std::uint64_t outcomes_written = 0;
  std::uint64_t outcomes_read = 0;
  std::uint64_t progress = 0;

  std::map<std::uint32_t, std::pair<Place, Position>> given_slots;  // daemon

  MemberId id = 0;
  std::set<TopicId> topics;
  std::uint32_t in_flight_max;
  bool good = false;       // settles everything, and dies of nothing
  bool ended = false;      // the daemon has told it
  bool frozen = false;     // it does nothing
  bool dies = false;       // it has begun what kills it
  std::uint64_t deaf = 0;  // notes are not looked at for so many turns

  struct Hand {
    Position position;
    Position end;
    std::uint64_t key_hash = 0;
    bool done = false;
  };
  struct Cell {
    Place place;
    std::uint64_t generation = 0;
    std::uint64_t epoch = 0;
    Position read;
    Position newest;
    Position careful_until;
    std::vector<PositionSpan> settled;
    std::map<std::uint64_t, std::uint64_t> blocked;  // key → outcomes written when it was blocked last; 0: all of it
    std::deque<Hand> hands;
    std::uint64_t count = 0;
    bool gone = false;  // of a former daemon
  };
  struct Reference {
    std::uint64_t stamp = 0;
    std::uint32_t slot = 0;
    Place place;
    Position position;
    Counts counts;
    bool alone = false;
    bool started = false;
  };
  std::map<std::uint32_t, Cell> cells;
  std::vector<Reference> references;
  std::vector<Reference> limbo;  // of a former daemon, not confirmed yet

 private:
  friend class World;
  void take_up(std::uint32_t index, const Given& new_one);
  void read(std::uint32_t index);
  void begin_reference();
  void settle_direct(std::uint32_t index);
  void settle_reference();
  void say(std::uint32_t index);
  void write(Outcome outcome);
  void block(Cell& cell, std::uint64_t key_hash);
  bool is_blocked(const Cell& cell, std::uint64_t key_hash) const;
  std::size_t in_hand() const;
  bool exclusive_in_hand() const;
  void act(const Action& action, std::uint64_t outcomes_read_then);

  World& world_;
};

class World {
 public:
  explicit World(std::uint64_t seed, bool verbose);

  // Chaos for `steps`, then good members alone until nothing is left to do.
  void run(std::uint64_t steps);

  struct Reached {
    std::uint64_t messages = 0;
    std::uint64_t deaths = 0;
    std::uint64_t hung = 0;
    std::uint64_t restarts = 0;
    std::uint64_t seeks = 0;
    std::uint64_t timeouts = 0;
    std::uint64_t parked = 0;
    std::uint64_t redriven = 0;
    std::uint64_t refused = 0;
    std::uint64_t suspects = 0;
    std::uint64_t deferred = 0;
    std::uint64_t hand_overs = 0;
    std::uint64_t recalled = 0;
    std::uint64_t retaken = 0;
    std::uint64_t refused_saves = 0;
    std::uint64_t lost_seeks = 0;
  };
  const Reached& reached() const { return reached_; }

  // ---- for members
  std::uint64_t below(std::uint64_t limit) { return random_.below(limit); }
  bool one_in(std::uint64_t n) { return random_.below(n) == 0; }
  const std::map<Position, Truth>& log(const Place& place) { return logs_[place]; }
  Position end_of(const Place& place) const;
  // Seeks that it has had.
  std::uint64_t epoch_of(const Place& place) { return epochs_[place]; }
  const GroupConfig& config() const { return config_; }
  const DeliveryMachine& machine() const { return *machine_; }
  std::uint64_t now_ns() const { return now_ns_; }
  // The application gets it.
  void handed_out_directly(const SimMember& member, std::uint32_t cell, Position position);
  void begun(const SimMember& member, const Place& place, Position position);
  void done(const Place& place, Position position) { truth(place, position).done = true; }
  bool kills(const Place& place, Position position);
  void tell(const std::string& what) const;
  [[noreturn]] void broken(const std::string& what) const;

 private:
  struct Saved {
    Position cursor;
    std::vector<PositionSpan> settled;
    std::map<Position, Pending> pending;
  };

  void step();
  void checks();
  void append(std::uint64_t count);
  void new_member(bool good);
  void join(SimMember& member, bool with_what_it_holds);
  void leave(std::size_t index, Ending ending);
  void listen(SimMember& member);
  void listen_last(SimMember& member);
  void take_outcomes(SimMember& member);
  void take_words(SimMember& member, const std::map<std::uint32_t, SimMember::Words>& words);
  void tick();
  void dispatch();
  void recall();
  void carry_out();
  void act(const Deliver& action);
  void act(const Assign& action);
  void act(const WantBack& action);
  void act(const TakeBack& action);
  void act(const Withdraw& action);
  void act(const Unblock& action);
  void act(const Park& action);
  void act(const End& action);
  void finish_parking(std::size_t count);
  void redrive();
  void seek();
  // False: the store has refused it, and all of it stays to be saved.
  bool save(bool all);
  bool is_saved_as_settled(const Place& place, Position position) const;
  void restart();
  void settle(const Place& place, Position position);
  SimMember* find(MemberId id);
  std::optional<std::uint64_t> current_generation(MemberId id, std::uint32_t cell) const;
  Truth& truth(const Place& place, Position position);
  std::string name(const Place& place, Position position) const;
  void wind_up();
  bool all_done() const;
  std::string what_is_left() const;

  const bool verbose_;
  io::SimRandom random_;
  GroupConfig config_;
  std::uint64_t now_ns_ = 1'000'000'000;
  std::uint64_t seed_;
  std::map<Place, std::map<Position, Truth>> logs_;
  std::map<Place, Saved> saved_;
  std::map<Place, std::uint64_t> epochs_;  // told with an assignment, and saved with the seek
  std::set<Place> unsaved_seeks_;
  std::uint32_t saved_members_ = 0;
  std::uint64_t lives_ = 0;
  std::unique_ptr<DeliveryMachine> machine_;
  std::vector<std::unique_ptr<SimMember>> members_;
  std::vector<std::unique_ptr<SimMember>> zombies_;
  std::vector<Park> parking_;
  std::set<Position> letters_;  // parked, not redriven: their copies' positions
  std::uint64_t last_generation_ = 0;
  MemberId last_id_ = 0;
  bool paused_ = false;
  Reached reached_;
};

inline constexpr TopicId kLettersTopic{900};
inline const Place kLettersPlace{kLettersTopic, 0};

}  // namespace sluice::core::sim
