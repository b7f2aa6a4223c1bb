// A real sluiced of its own for a test: temporary data directory and socket, started, stopped and killed at will.
//
// The program is the one of this build: SLUICED, set by CMake. Owner: one test. What it started it also ends, by
// process id.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace sluice::test {

class DaemonFixture {
 public:
  // Makes the directories; starts nothing yet. `arguments` go to each start, behind --data-dir and --socket.
  explicit DaemonFixture(std::vector<std::string> arguments = {});
  ~DaemonFixture();  // kills the daemon and removes the directory
  DaemonFixture(const DaemonFixture&) = delete;
  DaemonFixture& operator=(const DaemonFixture&) = delete;

  // Returns once it has said "ready". False if it ended before, or after 30 s: log() says why.
  bool start();
  // SIGTERM, and waits. The exit status, or 128 + the signal it died of; −1 if it had to be killed after 30 s.
  int stop();
  // SIGKILL, and waits.
  void kill();

  pid_t pid() const { return pid_; }
  const std::string& socket() const { return socket_; }
  const std::string& directory() const { return directory_; }  // holds everything
  std::string data_directory() const { return directory_ + "/data"; }
  // All that it has written so far.
  std::string log() const;

 private:
  int wait_for_exit(std::chrono::milliseconds timeout);

  const std::vector<std::string> arguments_;
  std::string directory_;
  std::string socket_;
  pid_t pid_ = -1;
};

}  // namespace sluice::test
