// What sluiced's command line asks for: a configuration to run with, or something to print.
#pragma once

#include <optional>
#include <string>

#include "daemon/main/config.h"

namespace sluice::daemon {

// What a command line of sluiced says.
struct CommandLine {
  std::optional<Config> config;  // run with it; nothing: print `message` and end
  int exit_code = 0;             // 0: help, version or configuration printed · 2: usage or configuration
  std::string message;           // to stdout if exit_code is 0, else to stderr; ends with a newline
};
// Reads the file that --config names, then lets the other flags override it.
CommandLine parse_command_line(int argc, const char* const* argv, const Environment& environment);

}  // namespace sluice::daemon
