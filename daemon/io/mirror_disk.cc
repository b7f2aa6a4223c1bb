#include "daemon/io/mirror_disk.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "shm/base/assert.h"

namespace sluice::io {
namespace {

// The system's condition, or the caller's: it says nothing against the copy that met it.
bool is_no_failure_of_a_copy(int system_errno) {
  switch (system_errno) {
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN:
    case EEXIST:
    case ENOTEMPTY:
    case EFBIG: return true;
    default: return false;
  }
}

constexpr unsigned kCopyBits = 8;  // of a token at the inner disk: the copy; above: the request

}  // namespace

// What the copies made of one call.
struct MirrorDisk::Outcome {
  PerCopy<bool> done{};
  PerCopy<std::optional<Error>> failed;
  std::optional<Error> first;    // of any copy
  std::optional<Error> refusal;  // one that is no failure of a copy
  bool any_done = false;
};

std::uint32_t MirrorDisk::inner_queue_depth(std::uint32_t queue_depth, std::size_t copies) {
  return queue_depth * static_cast<std::uint32_t>(copies) + kFillRequestsMax;
}

MirrorDisk::MirrorDisk(std::unique_ptr<Disk> inner, MirrorSet set, Options options)
    : inner_(std::move(inner)),
      options_(std::move(options)),
      state_(std::move(set.state)),
      requests_(options_.queue_depth) {
  SLUICE_ASSERT(set.copies.size() <= kMirrorCopiesMax);
  for (MirrorCopy& copy : set.copies)
    copies_.push_back(
        {std::move(copy.root), copy.id, copy.good ? CopyState::good : CopyState::stale, std::move(copy.reason), 0});
  SLUICE_ASSERT(good_count() != 0);
  for (std::uint32_t index = options_.queue_depth; index > 0; --index) idle_requests_.push_back(index - 1);
}

// The memory that is written from must outlive the write.
MirrorDisk::~MirrorDisk() {
  while (fill_ && fill_->is_busy()) {
    std::array<Completion, 1> answer;
    if (inner_->reap(answer) == 0) std::this_thread::yield();
    if (answer[0].token == kFillToken) fill_->on_answer(answer[0].result);
  }
}

// ---- the copies

std::size_t MirrorDisk::good_count() const {
  return static_cast<std::size_t>(
      std::count_if(copies_.begin(), copies_.end(), [](const Copy& c) { return c.state == CopyState::good; }));
}

std::string MirrorDisk::path_at(std::size_t copy, const std::string& path) const {
  const std::string& first = copies_[0].root;
  SLUICE_ASSERT(path.starts_with(first));
  SLUICE_ASSERT(path.size() == first.size() || path[first.size()] == '/');
  return copy == 0 ? path : copies_[copy].root + path.substr(first.size());
}

std::vector<MirrorInfo> MirrorDisk::info() const {
  std::vector<MirrorInfo> all;
  for (std::size_t copy = 0; copy < copies_.size(); ++copy) {
    MirrorInfo& one = all.emplace_back();
    one.root = copies_[copy].root;
    one.good = is_good(copy);
    one.reason = copies_[copy].reason;
    one.filling = is_filling(copy);
    one.filled_bytes = one.filling ? fill_->filled_bytes() : 0;
    one.failed_reads = copies_[copy].failed_reads;
  }
  return all;
}

Status MirrorDisk::mark_stale(std::size_t copy, const std::string& reason) {
  SLUICE_ASSERT(is_good(copy));
  SLUICE_ASSERT(good_count() > 1);
  fail_copy(copy, reason);
  return settle();
}

void MirrorDisk::fail_copy(std::size_t copy, const std::string& reason) {
  copies_[copy].state = CopyState::failed;
  copies_[copy].reason = reason;
  unsettled_ = true;
}

// Every good copy's state says which ones are stale, before anything is called done without them. A good copy that
// cannot take the note has failed itself.
Status MirrorDisk::settle() {
  while (unsettled_) {
    MirrorState next = state_;
    ++next.generation;
    for (MirrorMember& member : next.members)
      for (const Copy& copy : copies_)
        if (member.id == copy.id) member.good = copy.state == CopyState::good;
    bool noted = true;
    for (std::size_t copy = 0; copy < copies_.size() && noted; ++copy) {
      if (!is_good(copy)) continue;
      next.self = copies_[copy].id;
      const Status written = write_mirror_state(*inner_, copies_[copy].root, next);
      noted = written.has_value();
      if (noted) continue;
      if (good_count() == 1)
        return fail(ErrorCode::io, "noting on the last good copy which ones are stale: " + written.error().context(),
                    written.error().system_errno());
      fail_copy(copy, written.error().message());
    }
    // Also where not all have it: the next one must be newer.
    state_ = std::move(next);
    if (!noted) continue;
    unsettled_ = false;
    for (std::size_t copy = 0; copy < copies_.size(); ++copy) {
      if (copies_[copy].state != CopyState::failed) continue;
      copies_[copy].state = CopyState::stale;
      if (options_.on_stale) options_.on_stale(info()[copy]);
    }
    for (OpenFile& file : files_)
      if (!file.path.empty()) close_handles_of_lost_copies(file);
  }
  return {};
}

// Runs `call` on every good copy. `as_good_as_done`: an errno that stands for success where another copy succeeded.
template <typename Call, typename Undo>
Status MirrorDisk::on_all(Call call, Undo undo, int as_good_as_done) {
  Outcome outcome;
  for (std::size_t copy = 0; copy < copies_.size(); ++copy) {
    if (!is_good(copy)) continue;
    Status done = call(copy);
    if (done) {
      outcome.done[copy] = outcome.any_done = true;
      continue;
    }
    Error error = std::move(done).error();
    if (!outcome.first) outcome.first = error;
    if (!outcome.refusal && is_no_failure_of_a_copy(error.system_errno())) outcome.refusal = error;
    outcome.failed[copy] = std::move(error);
  }
  if (outcome.any_done && as_good_as_done != 0)
    for (auto& failed : outcome.failed)
      if (failed && failed->system_errno() == as_good_as_done) failed.reset();
  if (outcome.refusal && outcome.any_done)
    for (std::size_t copy = 0; copy < copies_.size(); ++copy)
      if (outcome.done[copy]) undo(copy);
  return conclude(outcome);
}

template <typename Call>
Status MirrorDisk::on_all(Call call) {
  return on_all(call, [](std::size_t) {});
}

Status MirrorDisk::conclude(const Outcome& outcome) {
  if (!outcome.any_done && !outcome.refusal) return fail(*outcome.first);
  for (std::size_t copy = 0; copy < copies_.size(); ++copy) {
    if (!outcome.failed[copy] || !is_good(copy)) continue;
    if (!is_no_failure_of_a_copy(outcome.failed[copy]->system_errno()))
      fail_copy(copy, outcome.failed[copy]->message());
  }
  SLUICE_TRY(settle());
  if (outcome.refusal) return fail(*outcome.refusal);
  return {};
}

template <typename Call>
auto MirrorDisk::first_that_works(Call call) -> decltype(call(std::size_t{0})) {
  std::optional<Error> first;
  for (std::size_t copy = 0; copy < copies_.size(); ++copy) {
    if (!is_good(copy)) continue;
    auto result = call(copy);
    if (result) return result;
    if (!first) first = std::move(result).error();
  }
  return fail(*first);
}

// ---- what the copy that is being filled gets too (the rest: mirror_disk_fill.cc)

// What is not there on the copy yet comes with the rest.
template <typename Call>
void MirrorDisk::also_on_filling(Call call) {
  if (!fill_ || !fill_->failure().empty()) return;
  const Status done = call(fill_->copy());
  if (!done && done.error().code() != ErrorCode::not_found) fill_->fail(done.error().message());
}

template <typename Call>
void MirrorDisk::also_on_filling(OpenFile& file, FileId id, bool resizes, Call call) {
  if (!fill_ || !fill_->failure().empty() || file.ids[fill_->copy()] == FileId()) return;
  const std::size_t copy = fill_->copy();
  // Its bytes are being copied just now: from the start again, as it is then.
  if (resizes && fill_->is_copying(id)) {
    if (file.in_flight != 0) return fill_->fail(path_at(copy, file.path) + " changes its length while it is written");
    if (fill_->lets_go_of(id)) inner_->close(file.ids[copy]);
    file.ids[copy] = FileId();
    fill_->touched(file.path);
    return;
  }
  if (const Status done = call(file.ids[copy]); !done) fill_->fail(done.error().message());
}

// ---- files

MirrorDisk::OpenFile& MirrorDisk::at(FileId file) {
  SLUICE_ASSERT(file.value >= 1 && file.value <= files_.size());
  OpenFile& found = files_[file.value - 1];
  SLUICE_ASSERT(!found.path.empty());
  return found;
}

FileId MirrorDisk::add_file(OpenFile file) {
  if (unused_.empty()) {
    files_.emplace_back();
    unused_.push_back(static_cast<std::uint32_t>(files_.size() - 1));
  }
  const std::uint32_t index = unused_.back();
  unused_.pop_back();
  files_[index] = std::move(file);
  return FileId(index + 1);
}

Result<FileId> MirrorDisk::open(const std::string& path, OpenMode mode) {
  OpenFile file;
  file.path = path;
  file.mode = mode;
  const auto open_at = [&](std::size_t copy) -> Status {
    SLUICE_ASSIGN(file.ids[copy], inner_->open(path_at(copy, path), mode));
    return {};
  };
  const auto close_at = [&](std::size_t copy) {
    inner_->close(std::exchange(file.ids[copy], FileId()));
    if (mode == OpenMode::create) static_cast<void>(inner_->unlink(path_at(copy, path)).has_value());
  };
  Status opened = mode == OpenMode::read ? first_that_works(open_at) : on_all(open_at, close_at);
  if (!opened) {
    for (const FileId id : file.ids)
      if (id != FileId()) inner_->close(id);
    return fail(std::move(opened).error());
  }
  if (mode == OpenMode::create) create_on_filling(file);
  const FileId id = add_file(std::move(file));
  if (mode == OpenMode::create && fill_ && at(id).ids[fill_->copy()] != FileId()) fill_->made(id);
  return id;
}

void MirrorDisk::close(FileId file) {
  OpenFile& closing = at(file);
  SLUICE_ASSERT(closing.in_flight == 0);
  if (fill_ && closing.mode != OpenMode::read) {
    const bool was_there = closing.ids[fill_->copy()] != FileId();
    const bool in_sync = fill_->is_in_sync(file);
    if (!fill_->lets_go_of(file)) closing.ids[fill_->copy()] = FileId();
    if (!was_there || !in_sync) fill_->touched(closing.path);
  }
  for (const FileId id : closing.ids)
    if (id != FileId()) inner_->close(id);
  closing = OpenFile{};
  unused_.push_back(file.value - 1);
}

Result<std::uint64_t> MirrorDisk::size(FileId file) {
  OpenFile& open_file = at(file);
  return first_that_works([&](std::size_t copy) -> Result<std::uint64_t> {
    if (open_file.ids[copy] == FileId())
      return fail(ErrorCode::io, "asking for the size of " + path_at(copy, open_file.path) + ": it is not open there");
    return inner_->size(open_file.ids[copy]);
  });
}

Status MirrorDisk::allocate(FileId file, std::uint64_t size) {
  OpenFile& open_file = at(file);
  SLUICE_ASSERT(open_file.mode != OpenMode::read);
  PerCopy<std::uint64_t> before{};
  also_on_filling(open_file, file, true, [&](FileId id) { return inner_->allocate(id, size); });
  return on_all(
      [&](std::size_t copy) -> Status {
        SLUICE_ASSIGN(before[copy], inner_->size(open_file.ids[copy]));
        return inner_->allocate(open_file.ids[copy], size);
      },
      [&](std::size_t copy) {
        if (before[copy] < size) static_cast<void>(inner_->truncate(open_file.ids[copy], before[copy]).has_value());
      });
}

Status MirrorDisk::truncate(FileId file, std::uint64_t size) {
  OpenFile& open_file = at(file);
  also_on_filling(open_file, file, true, [&](FileId id) { return inner_->truncate(id, size); });
  return on_all([&](std::size_t copy) { return inner_->truncate(open_file.ids[copy], size); });
}

Result<std::size_t> MirrorDisk::read_at(OpenFile& file, std::size_t copy, std::uint64_t offset,
                                        std::span<std::byte> into) {
  if (file.ids[copy] == FileId()) {
    SLUICE_ASSIGN(file.ids[copy], inner_->open(path_at(copy, file.path), OpenMode::read));
  }
  return inner_->read(file.ids[copy], offset, into);
}

Result<std::size_t> MirrorDisk::read(FileId file, std::uint64_t offset, std::span<std::byte> into) {
  OpenFile& open_file = at(file);
  std::optional<Error> first;
  // What is open is asked first: a file that is only read is opened elsewhere when that fails.
  for (const bool is_open : {true, false}) {
    for (std::size_t copy = 0; copy < copies_.size(); ++copy) {
      if (!is_good(copy) || (open_file.ids[copy] != FileId()) != is_open) continue;
      Result<std::size_t> got = read_at(open_file, copy, offset, into);
      if (got) return got;
      ++copies_[copy].failed_reads;
      if (!first) first = std::move(got).error();
    }
  }
  return fail(*first);
}

Status MirrorDisk::write_synced(FileId file, std::uint64_t offset, std::span<const std::byte> bytes) {
  OpenFile& open_file = at(file);
  SLUICE_ASSERT(open_file.mode != OpenMode::read);
  also_on_filling(open_file, file, true, [&](FileId id) { return inner_->write_synced(id, offset, bytes); });
  return on_all([&](std::size_t copy) { return inner_->write_synced(open_file.ids[copy], offset, bytes); });
}

Status MirrorDisk::lock(FileId file) {
  OpenFile& open_file = at(file);
  also_on_filling(open_file, file, false, [&](FileId id) { return inner_->lock(id); });
  return on_all([&](std::size_t copy) { return inner_->lock(open_file.ids[copy]); });
}

Status MirrorDisk::rename(const std::string& from, const std::string& to) {
  SLUICE_TRY(on_all([&](std::size_t copy) { return inner_->rename(path_at(copy, from), path_at(copy, to)); },
                    [&](std::size_t copy) {
                      static_cast<void>(inner_->rename(path_at(copy, to), path_at(copy, from)).has_value());
                    }));
  for (OpenFile& file : files_) {
    if (file.path == from || file.path.starts_with(from + '/')) file.path = to + file.path.substr(from.size());
  }
  // What the copy has not under its old name yet is looked at under the new one.
  also_on_filling([&](std::size_t copy) { return inner_->rename(path_at(copy, from), path_at(copy, to)); });
  if (fill_) fill_->touched(to);
  return {};
}

Status MirrorDisk::unlink(const std::string& path) {
  also_on_filling([&](std::size_t copy) { return inner_->unlink(path_at(copy, path)); });
  return on_all([&](std::size_t copy) { return inner_->unlink(path_at(copy, path)); }, [](std::size_t) {}, ENOENT);
}

Status MirrorDisk::make_directories(const std::string& path) {
  also_on_filling([&](std::size_t copy) { return inner_->make_directories(path_at(copy, path)); });
  return on_all([&](std::size_t copy) { return inner_->make_directories(path_at(copy, path)); });
}

Status MirrorDisk::remove_directory(const std::string& path) {
  // What still lies there on the copy goes when this is looked at.
  if (fill_) fill_->touched(path);
  return on_all([&](std::size_t copy) { return inner_->remove_directory(path_at(copy, path)); }, [](std::size_t) {},
                ENOENT);
}

Status MirrorDisk::sync_directory(const std::string& path) {
  also_on_filling([&](std::size_t copy) { return inner_->sync_directory(path_at(copy, path)); });
  return on_all([&](std::size_t copy) { return inner_->sync_directory(path_at(copy, path)); });
}

Result<std::vector<std::string>> MirrorDisk::list(const std::string& path) {
  return first_that_works([&](std::size_t copy) { return inner_->list(path_at(copy, path)); });
}

Result<UniqueFd> MirrorDisk::open_for_client(const std::string& path) {
  return first_that_works([&](std::size_t copy) { return inner_->open_for_client(path_at(copy, path)); });
}

// Of the copy that has least: the others wait for it.
Result<std::uint64_t> MirrorDisk::free_bytes(const std::string& path) {
  std::optional<std::uint64_t> least;
  for (std::size_t copy = 0; copy < copies_.size(); ++copy) {
    if (!is_good(copy)) continue;
    SLUICE_ASSIGN(const std::uint64_t bytes, inner_->free_bytes(path_at(copy, path)));
    least = std::min(bytes, least.value_or(bytes));
  }
  return *least;
}

// ---- data

// The inner queue has room for every copy of every request, so it never refuses.
template <typename Submit>
bool MirrorDisk::submit(FileId file, std::uint64_t offset, std::uint64_t size, std::uint64_t token, Submit call) {
  OpenFile& target = at(file);
  SLUICE_ASSERT(target.mode != OpenMode::read);
  if (full()) return false;
  const std::uint32_t index = idle_requests_.back();
  idle_requests_.pop_back();
  Request& request = requests_[index];
  request = Request{};
  request.token = token;
  request.file = file;
  request.offset = offset;
  request.size = size;
  const bool to_filling = !fill_ || size == 0 || fill_->on_write(file, offset, size);
  ++target.in_flight;
  for (std::size_t copy = 0; copy < copies_.size(); ++copy) {
    const bool takes_part = is_good(copy) || (to_filling && is_filling(copy));
    if (!takes_part || target.ids[copy] == FileId()) continue;
    request.given[copy] = true;
    ++request.waiting_for;
    const bool taken = call(target.ids[copy], (std::uint64_t{index} << kCopyBits) | copy);
    SLUICE_ASSERT(taken);
  }
  SLUICE_ASSERT(request.waiting_for != 0);
  return true;
}

bool MirrorDisk::submit_write(FileId file, std::uint64_t offset, std::span<const std::byte> bytes,
                              std::uint64_t token) {
  return submit(file, offset, bytes.size(), token, [&](FileId id, std::uint64_t inner_token) {
    return inner_->submit_write(id, offset, bytes, inner_token);
  });
}

bool MirrorDisk::submit_sync(FileId file, std::uint64_t token) {
  return submit(file, 0, 0, token,
                [&](FileId id, std::uint64_t inner_token) { return inner_->submit_sync(id, inner_token); });
}

std::size_t MirrorDisk::reap(std::span<Completion> into) {
  std::size_t count = 0;
  std::array<Completion, 64> answers;
  while (count < into.size()) {
    // At most one request ends with each answer, so none is left over when `into` is full.
    const std::size_t got = inner_->reap(std::span(answers).first(std::min(answers.size(), into.size() - count)));
    for (std::size_t i = 0; i < got; ++i)
      if (take_answer(answers[i], into[count])) ++count;
    if (got == 0) break;
  }
  return count;
}

// True: that was the last answer its request waited for.
bool MirrorDisk::take_answer(const Completion& answer, Completion& completion) {
  if (answer.token == kFillToken) {
    fill_->on_answer(answer.result);
    return false;
  }
  const auto index = static_cast<std::uint32_t>(answer.token >> kCopyBits);
  const std::size_t copy = answer.token & ((1u << kCopyBits) - 1);
  SLUICE_ASSERT(index < requests_.size());
  SLUICE_ASSERT(copy < copies_.size());
  Request& request = requests_[index];
  SLUICE_ASSERT(request.waiting_for != 0);
  request.results[copy] = answer.result;
  if (--request.waiting_for != 0) return false;
  completion = Completion{request.token, result_of(request)};
  OpenFile& file = at(request.file);
  if (--file.in_flight == 0) close_handles_of_lost_copies(file);
  idle_requests_.push_back(index);
  return true;
}

// As on_all() does with calls: see the invariants.
std::int64_t MirrorDisk::result_of(const Request& request) {
  if (fill_ && request.given[fill_->copy()] && !is_good(fill_->copy()) &&
      request.results[fill_->copy()] != static_cast<std::int64_t>(request.size)) {
    const std::int64_t result = request.results[fill_->copy()];
    fill_->fail("writing " + path_at(fill_->copy(), at(request.file).path) + ": " +
                (result < 0 ? std::generic_category().message(static_cast<int>(-result)) : "it came back short"));
  }
  std::optional<std::int64_t> least;
  std::int64_t refusal = 0;
  std::int64_t failure = 0;
  for (std::size_t copy = 0; copy < copies_.size(); ++copy) {
    if (!request.given[copy] || !is_good(copy)) continue;
    const std::int64_t result = request.results[copy];
    if (result >= 0) {
      least = std::min(result, least.value_or(result));
    } else {
      std::int64_t& kind = is_no_failure_of_a_copy(static_cast<int>(-result)) ? refusal : failure;
      if (kind == 0) kind = result;
    }
  }
  if (!least && refusal == 0) {
    SLUICE_ASSERT(failure != 0);
    return failure;
  }
  if (failure != 0) {
    for (std::size_t copy = 0; copy < copies_.size(); ++copy) {
      if (!request.given[copy] || !is_good(copy) || request.results[copy] >= 0) continue;
      const int error = static_cast<int>(-request.results[copy]);
      if (!is_no_failure_of_a_copy(error))
        fail_copy(copy,
                  "writing " + path_at(copy, at(request.file).path) + ": " + std::generic_category().message(error));
    }
  }
  if (Status settled = settle(); !settled) return -EIO;
  return refusal != 0 ? refusal : *least;
}

}  // namespace sluice::io
