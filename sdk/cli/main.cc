// `sluice`, the command: wires signals and the command line.
#include "sdk/cli/command.h"
#include "sdk/cli/interrupt.h"

int main(int argc, char** argv) {
  sluice::cli::interrupt::install();
  return sluice::cli::run_command_line(argc, argv);
}
