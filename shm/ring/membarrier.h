// membarrier(GLOBAL_EXPEDITED): a full fence in every registered process at once, paid by the rare side (sleeper,
// reclaimer) so that the common side (producers, consumers) runs with plain stores.
#pragma once

namespace sluice::ring {

// Registers this process. Needed after exec, not after fork. False where the kernel refuses: the caller's pins and
// commits must be exchanges then.
bool membarrier_register();
// Returns once every registered process has executed a full fence. False where it is refused: bound your sleep.
bool membarrier_all();

}  // namespace sluice::ring
