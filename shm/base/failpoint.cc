#include "shm/base/failpoint.h"

#if defined(SLUICE_FAILPOINTS)

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

namespace sluice::failpoint {
namespace {

struct Point {
  std::string name;
  std::string action;
  unsigned long nth = 1;
  bool random = false;
  std::atomic<unsigned long> hits{0};
};

std::function<void(std::string_view)>& handler() {
  static std::function<void(std::string_view)> instance;
  return instance;
}

std::string chosen() {
  const char* text = std::getenv("SLUICE_FAILPOINT");
  if (text == nullptr) return {};
  if (text[0] != '@') return text;
  std::ifstream file(text + 1);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::deque<Point> parse_environment() {
  std::deque<Point> points;
  const std::string text = chosen();
  std::string_view rest = text;
  while (!rest.empty()) {
    const auto comma = rest.find(',');
    std::string_view item = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    const auto equals = item.find('=');
    if (equals == std::string_view::npos) continue;
    Point& point = points.emplace_back();
    point.name = item.substr(0, equals);
    std::string_view action = item.substr(equals + 1);
    const auto at = action.find('@');
    if (at != std::string_view::npos) {
      std::string count(action.substr(at + 1));
      point.random = !count.empty() && count[0] == '~';
      point.nth = std::strtoul(count.c_str() + (point.random ? 1 : 0), nullptr, 10);
      action = action.substr(0, at);
    }
    point.action = action;
  }
  return points;
}

void act(const std::string& action) {
  if (action == "kill") {
    ::raise(SIGKILL);
  } else if (action == "stop") {
    ::raise(SIGSTOP);
  } else if (action == "abort") {
    std::abort();
  } else if (action.rfind("sleep:", 0) == 0) {
    const long ms = std::strtol(action.c_str() + 6, nullptr, 10);
    timespec t{ms / 1000, (ms % 1000) * 1'000'000};
    ::nanosleep(&t, nullptr);
  }
}

}  // namespace

void set_handler(std::function<void(std::string_view)> replacement) { handler() = std::move(replacement); }

void hit(std::string_view name) {
  if (handler()) {
    handler()(name);
    return;
  }
  static std::deque<Point> points = parse_environment();
  for (Point& point : points) {
    if (point.name != name) continue;
    if (point.random) {
      thread_local std::minstd_rand random(std::random_device{}());
      if (point.nth != 0 && random() % point.nth == 0) act(point.action);
    } else if (point.hits.fetch_add(1, std::memory_order_relaxed) + 1 == point.nth) {
      act(point.action);
    }
  }
}

}  // namespace sluice::failpoint

#endif
