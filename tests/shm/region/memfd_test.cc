#include "shm/region/memfd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include <gtest/gtest.h>

#include "shm/region/mapping.h"

namespace sluice::region {
namespace {

constexpr std::uint64_t kSize = 1024 * 1024;

UniqueFd made() { return create_memfd("sluice-test", kSize).value(); }

std::uint64_t backed_bytes(int fd) {
  struct stat status {};
  EXPECT_EQ(fstat(fd, &status), 0);
  return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

TEST(Memfd, IsSealedPrivateAndSparse) {
  UniqueFd fd = made();
  EXPECT_EQ(file_size(fd.get(), "x").value(), kSize);
  EXPECT_EQ(backed_bytes(fd.get()), 0u);
  EXPECT_EQ(fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  struct stat status {};
  ASSERT_EQ(fstat(fd.get(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(ftruncate(fd.get(), 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(ftruncate(fd.get(), 2 * kSize), -1);
  EXPECT_EQ(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE), -1) << "the seals themselves are sealed";
  EXPECT_TRUE(check_memfd(fd.get(), kSize, "x"));
}

TEST(Memfd, OfSizeZeroIsRefused) { EXPECT_EQ(create_memfd("x", 0).error().code(), ErrorCode::invalid); }

TEST(Memfd, AReadOnlyDescriptorGivesNoWayToWrite) {
  UniqueFd fd = made();
  UniqueFd reader = reopen_read_only(fd.get(), "x").value();
  EXPECT_EQ(mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, reader.get(), 0), MAP_FAILED);
  EXPECT_EQ(errno, EACCES);
  void* mapped = mmap(nullptr, kSize, PROT_READ, MAP_SHARED, reader.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  EXPECT_EQ(mprotect(mapped, kSize, PROT_READ | PROT_WRITE), -1);
  EXPECT_EQ(errno, EACCES);
  munmap(mapped, kSize);
  EXPECT_EQ(ftruncate(reader.get(), 0), -1);
  EXPECT_EQ(write(reader.get(), "x", 1), -1);
  EXPECT_EQ(fallocate(reader.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
  EXPECT_TRUE(check_memfd(reader.get(), kSize, "x")) << "a reader can check the seals, too";
  EXPECT_EQ(Mapping::map(reader.get(), Access::read_write, "x").error().code(), ErrorCode::permission);
}

TEST(Memfd, AnotherUserCannotReopenItForWriting) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  UniqueFd fd = made();
  UniqueFd reader = reopen_read_only(fd.get(), "x").value();
  const pid_t child = fork();
  if (child == 0) {
    if (setresuid(1234, 1234, 1234) != 0) _exit(2);
    const std::string path = "/proc/self/fd/" + std::to_string(reader.get());
    _exit(open(path.c_str(), O_RDWR) == -1 && errno == EACCES ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(Memfd, AReopenedDescriptorSeesTheSameBytes) {
  UniqueFd fd = made();
  UniqueFd writer = reopen_read_write(fd.get(), "x").value();
  UniqueFd reader = reopen_read_only(fd.get(), "x").value();
  ASSERT_EQ(pwrite(writer.get(), "hello", 5, 4096), 5);
  char bytes[5];
  ASSERT_EQ(pread(reader.get(), bytes, 5, 4096), 5);
  EXPECT_EQ(std::string(bytes, 5), "hello");
}

TEST(Memfd, MemoryIsBackedByTheStepAndGivenBack) {
  UniqueFd fd = made();
  ASSERT_TRUE(allocate(fd.get(), 0, 256 * 1024, "x"));
  EXPECT_EQ(backed_bytes(fd.get()), 256u * 1024);
  ASSERT_EQ(pwrite(fd.get(), "hello", 5, 0), 5);
  ASSERT_TRUE(punch_hole(fd.get(), 0, 256 * 1024, "x"));
  EXPECT_EQ(backed_bytes(fd.get()), 0u);
  char bytes[5] = {1, 1, 1, 1, 1};
  ASSERT_EQ(pread(fd.get(), bytes, 5, 0), 5);
  EXPECT_EQ(std::string(bytes, 5), std::string(5, '\0'));
}

TEST(Memfd, ADescriptorThatCanShrinkIsRefused) {
  UniqueFd unsealed(memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(unsealed.get(), kSize), 0);
  EXPECT_EQ(check_memfd(unsealed.get(), kSize, "x").error().code(), ErrorCode::corrupt);
  UniqueFd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(check_memfd(file.get(), 0, "x").error().code(), ErrorCode::corrupt);
  UniqueFd fd = made();
  EXPECT_EQ(check_memfd(fd.get(), kSize + 4096, "x").error().code(), ErrorCode::corrupt);
}

TEST(Mapping, ErrorsNameTheThingAndNeverThrow) {
  const auto result = Mapping::map(-1, Access::read_only, "the log region of topic 7");
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message().find("the log region of topic 7"), std::string::npos) << result.error().message();
}

TEST(Mapping, PopulatesARangeAndRefusesOneOutside) {
  UniqueFd fd = made();
  Mapping mapping = Mapping::map(fd.get(), Access::read_write, "x").value();
  EXPECT_EQ(mapping.size(), kSize);
  ASSERT_TRUE(mapping.populate_write(8192, 4096, "x"));
  EXPECT_EQ(backed_bytes(fd.get()), 4096u);
  ASSERT_TRUE(mapping.populate_read(0, 100, "x"));
  EXPECT_EQ(mapping.populate_read(kSize - 4096, 8192, "x").error().code(), ErrorCode::invalid);
  EXPECT_EQ(mapping.populate_read(~0ull, 2, "x").error().code(), ErrorCode::invalid);
}

TEST(Mapping, AReadErrorUnderAMappingIsAnErrorAndNotASignal) {
  char path[] = "/tmp/sluice-mapping-XXXXXX";
  UniqueFd fd(mkstemp(path));
  ASSERT_TRUE(fd);
  unlink(path);
  ASSERT_EQ(ftruncate(fd.get(), 8192), 0);
  Mapping mapping = Mapping::map(fd.get(), Access::read_only, "x", 0, 8192).value();
  ASSERT_EQ(ftruncate(fd.get(), 0), 0);  // pages past the end fault like pages that the disk cannot read
  const Status status = mapping.populate_read(0, 8192, "the log file x");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code(), ErrorCode::io) << status.error().message();
}

TEST(Mapping, IsNotInheritedByAForkedChild) {
  UniqueFd fd = made();
  Mapping mapping = Mapping::map(fd.get(), Access::read_write, "x").value();
  mapping.data()[0] = std::byte{1};
  const pid_t child = fork();
  if (child == 0) {
    unsigned char resident = 0;
    _exit(mincore(mapping.data(), 4096, &resident) == -1 && errno == ENOMEM ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace sluice::region
