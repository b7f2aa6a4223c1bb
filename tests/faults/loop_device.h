// File systems of a test's own: a loop device over a file, ext4 on it, mounted where only this process and its children
// see it.
//
// Owner: the test; one thread, its main one. Everything goes with these objects, and with the process if it is killed:
// the mounts are in a mount namespace of its own, and a loop device clears itself with its last user.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "shm/base/fd.h"

namespace sluice::test {

// Empty, or why file systems cannot be made here: the reason to skip.
std::string why_no_file_systems();

// From here on what this process mounts is seen by it and its children only. Once; before threads are started.
void enter_private_mounts();

struct CommandResult {
  int exit_code = -1;  // -1: it did not end by itself
  std::string output;  // stdout and stderr
};
// Runs a program to its end; `command[0]` is looked for in the system's folders where it is not a path.
CommandResult run_command(std::vector<std::string> command);

class LoopDevice {
 public:
  // `backing` is an open file (a memfd will do), whose size is the device's.
  explicit LoopDevice(int backing);
  ~LoopDevice();
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;

  const std::string& path() const { return path_; }
  // Requests that the device was given and has not answered.
  unsigned in_flight() const;

 private:
  UniqueFd fd_;
  std::string path_;
};

// Makes an ext4 on the device. Every block of it is written by mkfs, none later by the kernel in the background.
void make_ext4(const std::string& device);

class Mount {
 public:
  // An ext4 is on a device; a bind mount shows another folder. The folder is made if it is missing. Throws with the
  // reason if it cannot be mounted.
  enum class As : std::uint8_t { ext4, bind };
  Mount(const std::string& source, std::filesystem::path folder, As as = As::ext4);
  ~Mount();
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;

 private:
  std::filesystem::path folder_;
};

}  // namespace sluice::test
