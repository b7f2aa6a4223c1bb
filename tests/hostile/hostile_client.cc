// A client that means harm. It attaches as any other, and then does to the memory it was given what no library would.
//
//   sluice_hostile_client SOCKET TOPIC scribble COUNT SEED   random words over record headers of the topic's log
//   sluice_hostile_client SOCKET TOPIC bells COUNT SEED      the same over its bells and its own session's region
//   sluice_hostile_client SOCKET TOPIC claims COUNT SEED     claims that are held past their deadline, and one it dies
//   in sluice_hostile_client SOCKET TOPIC attack-reader         everything that a reader's descriptors must not allow
//   sluice_hostile_client SOCKET TOPIC attack-producer       the same with a producer's, and holes where that is
//   allowed sluice_hostile_client SOCKET TOPIC publish|read          is it let in at all?
//
// One line to stdout for each thing tried: "WHAT REGION: refused|done". Exit codes: 0 tried · 4 not let in · 2 usage.
// It keeps the descriptors that the library maps by standing in front of mmap, and knows a region by its memfd's name.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "sluice/sluice.h"

namespace {

struct Taken {
  int fd = -1;
  void* address = nullptr;
  std::size_t size = 0;
  bool writable = false;
  std::string name;
};

constexpr std::size_t kTakenMax = 64;
int taken_fds[kTakenMax];
void* taken_addresses[kTakenMax];
std::size_t taken_sizes[kTakenMax];
bool taken_writable[kTakenMax];
std::size_t taken_count = 0;
bool taking = false;

std::vector<Taken> taken() {
  std::vector<Taken> all;
  for (std::size_t i = 0; i < taken_count; ++i) {
    char link[256] = {};
    const std::string path = "/proc/self/fd/" + std::to_string(taken_fds[i]);
    if (::readlink(path.c_str(), link, sizeof link - 1) < 0 || std::strncmp(link, "/memfd:", 7) != 0) continue;
    std::string name(link + 7);
    name = name.substr(0, name.find(' '));
    all.push_back({taken_fds[i], taken_addresses[i], taken_sizes[i], taken_writable[i], name});
  }
  return all;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void* mmap(void* address, std::size_t size, int protection, int flags,
                                                             int fd, off_t offset) noexcept {
  void* result = reinterpret_cast<void*>(::syscall(SYS_mmap, address, size, protection, flags, fd, offset));
  if (taking && fd >= 0 && result != MAP_FAILED && taken_count < kTakenMax) {
    taken_fds[taken_count] = ::fcntl(fd, F_DUPFD_CLOEXEC, 100);
    taken_addresses[taken_count] = result;
    taken_sizes[taken_count] = size;
    taken_writable[taken_count++] = (protection & PROT_WRITE) != 0;
  }
  return result;
}

namespace {

void tell(const char* what, const Taken& region, bool done) {
  std::printf("%s %s: %s\n", what, region.name.c_str(), done ? "done" : "refused");
  std::fflush(stdout);
}

// None of these may work on any region, for anybody.
void attack_any(const Taken& region) {
  tell("shrink", region, ::ftruncate(region.fd, 0) == 0);
  tell("grow", region, ::ftruncate(region.fd, static_cast<off_t>(region.size) * 2) == 0);
  tell("seal", region, ::fcntl(region.fd, F_ADD_SEALS, F_SEAL_WRITE) == 0);
}

// None of these may work on what was handed out for reading alone.
void attack_read_only(const Taken& region) {
  const std::string path = "/proc/self/fd/" + std::to_string(region.fd);
  tell("chmod", region, ::fchmod(region.fd, 0666) == 0 || ::chmod(path.c_str(), 0666) == 0);
  const int again = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  tell("reopen", region, again >= 0);
  tell("truncating-reopen", region, ::open(path.c_str(), O_RDWR | O_TRUNC | O_CLOEXEC) >= 0);
  tell("map", region, ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, region.fd, 0) != MAP_FAILED);
  tell("mprotect", region, ::mprotect(region.address, 4096, PROT_READ | PROT_WRITE) == 0);
  tell("punch", region, ::fallocate(region.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0);
  tell("write", region, ::pwrite(region.fd, "x", 1, 0) == 1);
}

void attack() {
  for (const Taken& region : taken()) {
    attack_any(region);
    if (!region.writable) {
      attack_read_only(region);
    } else if (ends_with(region.name, ":log")) {
      // Allowed, as writing is: harms this topic alone.
      tell("hole-in-own", region,
           ::fallocate(region.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(region.size)) == 0);
    }
  }
}

// Words over record headers, which stand at multiples of 64; the first page, with the tail, is hit as often as any.
void scribble(bool logs, std::uint64_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Taken> targets;
  for (const Taken& region : taken()) {
    if (region.writable && ends_with(region.name, ":log") == logs) targets.push_back(region);
  }
  for (std::uint64_t i = 0; i < count && !targets.empty(); ++i) {
    const Taken& region = targets[random() % targets.size()];
    // Near the start of the region, where slots are in use, more often than in its empty end.
    const std::size_t reach = random() % 4 == 0 ? region.size : std::min<std::size_t>(region.size, 1 << 20);
    const std::size_t at = random() % (reach / 64) * 64 + random() % 4 * 8;
    std::uint64_t word = random();
    if (i % 3 == 1) word = random() % 64;  // small, as a state or a length
    if (i % 3 == 2) word = UINT64_MAX << (random() % 64);
    *reinterpret_cast<volatile std::uint64_t*>(static_cast<char*>(region.address) + at) = word;
    if (i % 16 == 15) std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
  std::printf("scribbled over %zu regions\n", targets.size());
}

void hold_claims(sluice::Producer& producer, std::uint64_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uint64_t expired = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    auto claim = producer.claim(random() % 5000);
    if (!claim) continue;
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 300));
    if (random() % 2 == 0) expired += !claim->commit();
    if (i + 1 < count) continue;
    std::printf("%llu claims expired\n", static_cast<unsigned long long>(expired));
    std::fflush(stdout);
    auto last = producer.claim(100);
    ::raise(SIGKILL);
  }
}

int refused(const sluice::Error& error) {
  std::printf("not let in: %s\n", error.message().c_str());
  return error.code() == sluice::ErrorCode::permission ? 4 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const std::string verb = argv[3];
  const std::uint64_t count = argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 0;
  const std::uint64_t seed = argc > 5 ? std::strtoull(argv[5], nullptr, 10) : 0;
  taking = true;
  sluice::ConnectOptions options;
  options.socket = argv[1];
  auto client = sluice::Client::connect(options);
  if (!client) return refused(client.error());
  if (verb == "read" || verb == "attack-reader") {
    sluice::ReaderOptions reading;
    reading.from = sluice::From::earliest();
    auto reader = client->reader({argv[2]}, reading);
    if (!reader) return refused(reader.error());
    static_cast<void>(reader->next(std::chrono::milliseconds(100)));
    if (verb == "attack-reader") attack();
    return 0;
  }
  auto producer = client->producer(argv[2]);
  if (!producer) return refused(producer.error());
  if (auto sent = producer->send("from one who means harm"); !sent) return refused(sent.error());
  if (verb == "attack-producer") attack();
  if (verb == "claims") hold_claims(*producer, count, seed);
  if (verb == "scribble" || verb == "bells") scribble(verb == "scribble", count, seed);
  return 0;
}
