#include "tests/systemd/container.h"

#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <stdexcept>

namespace sluice::test {
namespace {

constexpr const char* kDropIn = "run/systemd/system/sluiced.service.d/test.conf";
constexpr int kMakeRootCannot = 3;  // make_root.sh's exit code

std::string last_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const std::size_t at = text.rfind('\n');
  return at == std::string::npos ? text : text.substr(at + 1);
}

std::string first_word(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::string word;
  stream >> word;
  return word;
}

// The only child of a process, or -1.
pid_t child_of(pid_t parent) {
  const std::string task = "/proc/" + std::to_string(parent) + "/task/" + std::to_string(parent);
  const std::string child = first_word(task + "/children");
  return child.empty() ? -1 : static_cast<pid_t>(std::stoi(child));
}

// The container's systemd: unshare starts boot.sh, that systemd-nspawn, and that the container's first process.
pid_t find_leader(pid_t unshare) {
  const pid_t boot = child_of(unshare);
  const pid_t nspawn = boot < 0 ? -1 : child_of(boot);
  const pid_t leader = nspawn < 0 ? -1 : child_of(nspawn);
  if (leader < 0 || first_word("/proc/" + std::to_string(leader) + "/comm") != "systemd") return -1;
  return leader;
}

}  // namespace

std::string why_no_container() {
  if (::geteuid() != 0) return "only root can boot a container";
  for (const char* program : {"mmdebstrap", "systemd-nspawn", "nsenter", "unshare"})
    if (run_command({"sh", "-c", std::string("command -v ") + program}).exit_code != 0)
      return std::string(program) + " is not installed";
  const CommandResult made = run_command({MAKE_ROOT_PATH, ROOT_PATH, BUILD_PATH});
  if (made.exit_code == kMakeRootCannot) return last_line(made.output);
  if (made.exit_code != 0) throw std::runtime_error("making the root file system failed: " + made.output);
  return {};
}

Container::Container() {
  // In /var/tmp, for /tmp may be in memory.
  std::string pattern = "/var/tmp/sluice-systemd-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary directory");
  folder_ = pattern;
  std::filesystem::create_directory(folder_ / "data");
  Process::Options options;
  options.log = folder_ / "boot.log";
  // In a namespace of processes, whose end is the end of all in it, however this process ends.
  boot_ = Process::start({"/usr/bin/unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", BOOT_PATH,
                          ROOT_PATH, folder_ / "data", folder_.filename()},
                         options);
  const auto booted = [&] {
    if (leader_ < 0) leader_ = find_leader(boot_.pid());
    if (leader_ < 0) return false;
    const std::string state = run({"systemctl", "is-system-running"}).output;
    return state.starts_with("running") || state.starts_with("degraded");
  };
  bool up = false;
  wait_until([&] { return (up = booted()) || boot_.poll().has_value(); });
  if (!up) {
    std::ifstream log(folder_ / "boot.log");
    const std::string text(std::istreambuf_iterator<char>(log), {});
    throw std::runtime_error("the container does not boot: " + text);
  }
  // As a package's installation does it.
  const CommandResult users = run({"systemd-sysusers"});
  if (users.exit_code != 0) throw std::runtime_error("systemd-sysusers: " + users.output);
}

Container::~Container() {
  // With its first process all of it is gone, and boot.sh cleans up behind it.
  if (leader_ > 0) {
    ::kill(leader_, SIGKILL);
    static_cast<void>(boot_.wait());
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

CommandResult Container::run(std::vector<std::string> command) const {
  command.insert(command.begin(), {"nsenter", "--target", std::to_string(leader_), "--all"});
  return run_command(std::move(command));
}

void Container::systemctl(std::vector<std::string> arguments) const {
  std::string text = "systemctl";
  for (const std::string& argument : arguments) text += " " + argument;
  arguments.insert(arguments.begin(), "systemctl");
  const CommandResult result = run(std::move(arguments));
  if (result.exit_code != 0) throw std::runtime_error(text + ": " + result.output + "\n" + log_tail());
}

std::string Container::property(const std::string& name) const {
  return last_line(run({"systemctl", "show", "--value", "--property=" + name, "sluiced.service"}).output);
}

void Container::configure_unit(const std::string& lines) const {
  const std::filesystem::path file = root() / kDropIn;
  std::filesystem::create_directories(file.parent_path());
  if (lines.empty())
    std::filesystem::remove(file);
  else
    std::ofstream(file) << "[Service]\n" << lines;
  systemctl({"daemon-reload"});
}

void Container::start_afresh() const {
  systemctl({"stop", "sluiced.service"});
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "data"))
    std::filesystem::remove_all(entry.path());
  systemctl({"start", "sluiced.service"});
}

std::string Container::log_tail() const {
  return "the service's log ends with\n" +
         run({"journalctl", "--no-pager", "--unit=sluiced.service", "--lines=40", "--output=cat"}).output;
}

}  // namespace sluice::test
