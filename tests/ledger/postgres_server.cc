#include "tests/ledger/postgres_server.h"

#include <fcntl.h>
#include <grp.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <iterator>
#include <optional>
#include <thread>

namespace sluice::ledger {
namespace {

namespace fs = std::filesystem;

constexpr auto kStartTimeout = std::chrono::seconds(60);

// Debian keeps each version's programs in a folder of its own.
std::optional<fs::path> find_programs() {
  std::error_code error;
  for (const auto& version : fs::directory_iterator("/usr/lib/postgresql", error)) {
    const fs::path programs = version.path() / "bin";
    if (fs::exists(programs / "initdb", error) && fs::exists(programs / "postgres", error)) return programs;
  }
  return std::nullopt;
}

bool become(uid_t uid, gid_t gid) { return setgroups(0, nullptr) == 0 && setgid(gid) == 0 && setuid(uid) == 0; }

}  // namespace

const Result<std::string>& PostgresServer::connection_string() {
  static PostgresServer server;
  static const Result<std::string> started = server.start();
  return started;
}

Error PostgresServer::failed(const std::string& what) const {
  std::ifstream log(directory_ / "log");
  return Error(ErrorCode::internal, "starting PostgreSQL for the tests: " + what + "\n" +
                                        std::string(std::istreambuf_iterator<char>(log), {}));
}

Result<pid_t> PostgresServer::spawn(const std::vector<std::string>& command) const {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const std::string log = (directory_ / "log").string();
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) return fail(system_error(errno, "starting " + command.front()));
  if (child > 0) return child;
  if (uid_ != 0 && !become(uid_, gid_)) _exit(126);
  // Behind the change of user, which takes it away. SIGQUIT: at once.
  if (prctl(PR_SET_PDEATHSIG, SIGQUIT) != 0 || getppid() != parent) _exit(126);
  const int output = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  const int input = open("/dev/null", O_RDONLY);
  if (output < 0 || input < 0 || dup2(input, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0) _exit(126);
  setenv("LC_ALL", "C", 1);
  execv(arguments.front(), arguments.data());
  _exit(127);
}

Result<std::string> PostgresServer::start() {
  const auto programs = find_programs();
  if (!programs)
    return fail(failed("no /usr/lib/postgresql/*/bin with initdb and postgres: scripts/install-packages.sh test"));
  std::string pattern = (fs::temp_directory_path() / "sluice-ledger-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) return fail(system_error(errno, "making " + pattern));
  directory_ = pattern;
  if (getuid() == 0) {
    const passwd* user = getpwnam("postgres");
    if (user == nullptr) user = getpwnam("nobody");
    if (user == nullptr) return fail(failed("there is neither a user postgres nor nobody"));
    uid_ = user->pw_uid;
    gid_ = user->pw_gid;
    if (chown(directory_.c_str(), uid_, gid_) != 0) return fail(system_error(errno, "giving away " + pattern));
  }
  const std::string data = (directory_ / "data").string();
  SLUICE_ASSIGN(const pid_t maker, spawn({(*programs / "initdb").string(), "-D", data, "-U", "ledger", "-A", "trust",
                                          "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"}));
  int status = 0;
  if (waitpid(maker, &status, 0) != maker || status != 0) return fail(failed("initdb failed"));
  // Nothing here loses power, so nothing is synced.
  SLUICE_ASSIGN(pid_, spawn({(*programs / "postgres").string(), "-D", data, "-k", directory_.string(), "-c",
                             "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB", "-c",
                             "max_connections=60", "-c", "deadlock_timeout=100ms", "-c", "autovacuum=off"}));
  std::string connection = "host=" + directory_.string() + " user=ledger dbname=postgres";
  const auto deadline = std::chrono::steady_clock::now() + kStartTimeout;
  while (PQping(connection.c_str()) != PQPING_OK) {
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = 0;
      return fail(failed("the server ended"));
    }
    if (std::chrono::steady_clock::now() > deadline) return fail(failed("the server does not answer"));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return connection;
}

PostgresServer::~PostgresServer() {
  if (pid_ != 0) {
    kill(pid_, SIGINT);  // ends its connections, and writes nothing that is not needed
    waitpid(pid_, nullptr, 0);
  }
  std::error_code error;
  if (!directory_.empty()) fs::remove_all(directory_, error);
}

}  // namespace sluice::ledger
