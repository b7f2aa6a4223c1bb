// SIGINT and SIGTERM as a flag and a descriptor, so that a command ends where it wants to: cleanly, with its summary.
// The second signal of a kind ends the process at once.
//
// Owner: main() calls install() once, before anything that waits. SIGPIPE is ignored from then on: a reader that is
// gone is an error of write(). Thread safety: requested() and descriptor() from any thread.
#pragma once

namespace sluice::cli::interrupt {

void install();
// True once one of the signals has come.
bool requested();
// Readable once requested(); for poll(). Never read from it. −1 before install().
int descriptor();
// Sleeps, but no longer than until requested().
void sleep_ms(int ms);

}  // namespace sluice::cli::interrupt
