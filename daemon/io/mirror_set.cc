#include "daemon/io/mirror_set.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "shm/base/assert.h"

namespace sluice::io {
namespace {

struct Seen {
  enum class Kind : std::uint8_t { empty, foreign, member, unreadable } kind = Kind::empty;
  std::string root;
  std::string why;  // unreadable
  MirrorState state;
};

// What may lie in a directory that is still to become a copy: a fresh file system's own, and our lock.
bool counts_as_nothing(const std::string& name) {
  return name == "lost+found" || name == "lock" || name == std::string(kMirrorStateName) + ".tmp";
}

class Opener {
 public:
  Opener(Disk& disk, const MirrorSetOptions& options) : disk_(disk), options_(options) {}

  Result<MirrorSet> run() {
    for (const std::string& root : options_.roots) {
      SLUICE_ASSIGN(Seen seen, look(root));
      seen_.push_back(std::move(seen));
    }
    SLUICE_TRY(check_states());
    if (deciding_ == nullptr) {
      SLUICE_TRY(begin_set());
    } else {
      SLUICE_TRY(go_on());
    }
    return std::move(set_);
  }

 private:
  Result<Seen> look(const std::string& root) {
    Seen seen;
    seen.root = root;
    const auto unreadable = [&](const Error& error) {
      seen.kind = Seen::Kind::unreadable;
      seen.why = error.message();
      return seen;
    };
    if (Status made = disk_.make_directories(root); !made) return unreadable(made.error());
    Result<std::optional<MirrorState>> state = read_mirror_state(disk_, root);
    if (!state && state.error().code() == ErrorCode::version) return fail(std::move(state).error());
    if (!state) return unreadable(state.error());
    if (*state) {
      seen.kind = Seen::Kind::member;
      seen.state = std::move(**state);
      return seen;
    }
    const Result<std::vector<std::string>> names = disk_.list(root);
    if (!names) return unreadable(names.error());
    const bool empty = std::all_of(names->begin(), names->end(), counts_as_nothing);
    seen.kind = empty ? Seen::Kind::empty : Seen::Kind::foreign;
    return seen;
  }

  // Finds the deciding state; refuses roots that do not belong together.
  Status check_states() {
    std::set<std::uint64_t> selves;
    for (const Seen& seen : seen_) {
      if (seen.kind != Seen::Kind::member) continue;
      if (deciding_ != nullptr && seen.state.set != deciding_->state.set)
        return refuse(deciding_->root + " and " + seen.root +
                      " are copies of different data directories: give each its own mirrors");
      if (!selves.insert(seen.state.self).second)
        return refuse(seen.root + " is a copy that somebody made of another mirror: empty it, and it is filled again");
      if (deciding_ == nullptr || seen.state.generation > deciding_->state.generation) deciding_ = &seen;
    }
    if (deciding_ == nullptr) return {};
    for (const Seen& seen : seen_) {
      if (seen.kind != Seen::Kind::member) continue;
      const bool same_generation = seen.state.generation == deciding_->state.generation;
      // Of one generation and the same members, the one that decides may be a stale copy itself: it knows that.
      const bool went_on_alone = !same_generation && seen.state.is_good(seen.state.self) &&
                                 !seen.state.is_good(deciding_->state.self) &&
                                 seen.state.find(deciding_->state.self) != nullptr;
      if (went_on_alone || (same_generation && !seen.state.same_members(deciding_->state)))
        return refuse(deciding_->root + " and " + seen.root +
                      " have each gone on without the other: choose the one to keep, and empty the other");
    }
    return {};
  }

  // No root has a state: the data directory is the first copy, whatever is in it, and the others must be empty.
  Status begin_set() {
    for (const Seen& seen : seen_) {
      const bool first = &seen == &seen_.front();
      if (seen.kind == Seen::Kind::unreadable) return refuse("looking at " + seen.root + ": " + seen.why);
      if (seen.kind == Seen::Kind::foreign && !first) return refuse_foreign(seen);
    }
    const bool nothing_to_fill = seen_.front().kind == Seen::Kind::empty;
    set_.state.set = random_id();
    for (const Seen& seen : seen_) {
      const bool first = &seen == &seen_.front();
      const std::uint64_t id = random_id();
      set_.copies.push_back({seen.root, id, first, false, first ? "" : "it is new"});
      set_.state.members.push_back({id, first, seen.root});
    }
    set_.state.generation = 1;
    SLUICE_TRY(create_states());
    if (!nothing_to_fill) return {};
    // Nothing was ever acknowledged: all of them are good from the start.
    for (MirrorCopy& copy : set_.copies) copy.good = true, copy.reason.clear();
    for (MirrorMember& member : set_.state.members) member.good = true;
    ++set_.state.generation;
    for (const MirrorCopy& copy : set_.copies) SLUICE_TRY(write_mirror_state(disk_, copy.root, state_of(copy)));
    return {};
  }

  Status go_on() {
    set_.state = deciding_->state;
    SLUICE_TRY(check_missing());
    for (const Seen& seen : seen_) {
      if (seen.kind == Seen::Kind::foreign) return refuse_foreign(seen);
      set_.copies.push_back(copy_of(seen));
    }
    const bool any_good =
        std::any_of(set_.copies.begin(), set_.copies.end(), [](const MirrorCopy& c) { return c.good; });
    if (!any_good)
      return refuse("only stale copies are there, which lack what was acknowledged since: bring back " +
                    missing_good_text() + "; or, to go on with " + deciding_->root + " as it is, remove " +
                    deciding_->root + "/" + kMirrorStateName + " and empty the others");
    set_.state.members.clear();
    for (const MirrorCopy& copy : set_.copies) set_.state.members.push_back({copy.id, copy.good, copy.root});
    const bool changed = set_.state.members != deciding_->state.members;
    if (changed) ++set_.state.generation;
    // The good ones first: a copy that is to be filled must be known as stale before its own state says anything.
    for (const MirrorCopy& copy : set_.copies)
      if (copy.good) SLUICE_TRY(say_so(copy));
    for (MirrorCopy& copy : set_.copies) {
      if (copy.good || copy.absent) continue;
      if (Status made = create_mirror_state(disk_, copy.root, state_of(copy)); !made) {
        copy.absent = true;
        copy.reason = made.error().message();
      }
    }
    return {};
  }

  // In place where it can be: a start must not need room on a full disk.
  Status say_so(const MirrorCopy& copy) {
    const MirrorState state = state_of(copy);
    const auto seen = std::find_if(seen_.begin(), seen_.end(), [&](const Seen& s) { return s.root == copy.root; });
    const MirrorState& there = seen->state;
    if (seen->kind == Seen::Kind::member && there.self == state.self) {
      if (there.same_members(state)) return {};
      // The other slot holds what it says now.
      if (there.generation + 1 == state.generation) return write_mirror_state(disk_, copy.root, state);
    }
    return create_mirror_state(disk_, copy.root, state);
  }

  MirrorCopy copy_of(const Seen& seen) {
    MirrorCopy copy;
    copy.root = seen.root;
    if (seen.kind == Seen::Kind::member && set_.state.find(seen.state.self) != nullptr) {
      copy.id = seen.state.self;
      copy.good = set_.state.is_good(copy.id);
      if (!copy.good) copy.reason = "it was marked stale before this start";
      return copy;
    }
    copy.id = random_id();
    copy.absent = seen.kind == Seen::Kind::unreadable;
    copy.reason = copy.absent                      ? seen.why
                  : seen.kind == Seen::Kind::empty ? "it is new"
                                                   : "it was not a member any more";
    return copy;
  }

  // Members that are good and not to be seen: each must have been accepted as missing.
  Status check_missing() {
    for (const MirrorMember& member : deciding_->state.members) {
      if (!member.good || is_seen(member.id)) continue;
      if (is_accepted(member)) {
        std::erase_if(set_.state.members, [&](const MirrorMember& m) { return m.id == member.id; });
        continue;
      }
      return refuse("the copy that was last at " + member.path + " is good and cannot be seen" + why_not(member.path) +
                    ": mount its disk; or, if it is lost for good, start once with --accept-missing-mirror " +
                    member.path + " (it may hold messages whose receipts were given after the others failed)");
    }
    return {};
  }

  bool is_seen(std::uint64_t id) const {
    return std::any_of(seen_.begin(), seen_.end(),
                       [id](const Seen& s) { return s.kind == Seen::Kind::member && s.state.self == id; });
  }

  bool is_accepted(const MirrorMember& member) const {
    const auto& accepted = options_.accept_missing;
    return std::any_of(accepted.begin(), accepted.end(),
                       [&](const std::string& path) { return (member.path + "/").starts_with(path + "/"); });
  }

  std::string why_not(const std::string& path) const {
    const auto seen = std::find_if(seen_.begin(), seen_.end(), [&](const Seen& s) { return s.root == path; });
    if (seen == seen_.end()) return " (the configuration does not name it)";
    if (seen->kind == Seen::Kind::unreadable) return " (" + seen->why + ")";
    return seen->kind == Seen::Kind::empty ? " (the directory is empty)"
                                           : " (there is something else in that directory)";
  }

  std::string missing_good_text() const {
    std::string text;
    for (const MirrorMember& member : deciding_->state.members)
      if (member.good) text += (text.empty() ? "" : ", ") + member.path;
    return text.empty() ? "a good one" : text;
  }

  Status create_states() {
    for (const MirrorCopy& copy : set_.copies) SLUICE_TRY(create_mirror_state(disk_, copy.root, state_of(copy)));
    return {};
  }

  MirrorState state_of(const MirrorCopy& copy) const {
    MirrorState state = set_.state;
    state.self = copy.id;
    return state;
  }

  std::uint64_t random_id() const {
    std::uint64_t id = 0;
    while (id == 0) id = options_.random();
    return id;
  }

  static Status refuse_foreign(const Seen& seen) {
    return refuse(seen.root + " is not empty and is no copy: choose another directory, or empty it");
  }
  static Status refuse(const std::string& why) { return fail(ErrorCode::conflict, "opening the mirrors: " + why); }

  Disk& disk_;
  const MirrorSetOptions& options_;
  std::vector<Seen> seen_;
  const Seen* deciding_ = nullptr;  // into seen_
  MirrorSet set_;
};

}  // namespace

Result<bool> has_mirror_state(Disk& disk, const std::string& root) {
  const Result<std::optional<MirrorState>> state = read_mirror_state(disk, root);
  if (!state && state.error().code() == ErrorCode::corrupt) return true;
  if (!state) return fail(state.error());
  return state->has_value();
}

Result<MirrorSet> open_mirror_set(Disk& disk, const MirrorSetOptions& options) {
  SLUICE_ASSERT(!options.roots.empty());
  SLUICE_ASSERT(options.roots.size() <= kMirrorCopiesMax);
  return Opener(disk, options).run();
}

}  // namespace sluice::io
