// Named places where a test makes the process die, stop or sleep. Compiled in with SLUICE_FAILPOINTS only.
//
// Chosen by the environment, read once: SLUICE_FAILPOINT="name=action[@n][,name=action[@n]...]" with action one of
//   kill (SIGKILL to itself) · stop (SIGSTOP to itself) · sleep:MS · abort
// and n: at the n-th hit (default 1), or "@~n": at each hit with probability 1/n. "@/a/path": what that file says when
// the first point is hit (nothing, if there is no such file).
// A test in the same process may set a handler instead. Thread safety: hit() from any thread; set_handler() before
// threads.
#pragma once

#if defined(SLUICE_FAILPOINTS)

#include <functional>
#include <string_view>

namespace sluice::failpoint {
void hit(std::string_view name);
// Replaces the environment's choice; an empty function restores it.
void set_handler(std::function<void(std::string_view name)> handler);
}  // namespace sluice::failpoint

#define SLUICE_FAILPOINT(name) ::sluice::failpoint::hit(name)
#else
#define SLUICE_FAILPOINT(name) static_cast<void>(0)
#endif
