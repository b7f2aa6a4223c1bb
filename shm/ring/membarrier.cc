#include "shm/ring/membarrier.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

namespace sluice::ring {

bool membarrier_register() { return ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0; }

bool membarrier_all() {
  const bool done = ::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
  // The system call orders the registered processes; this orders the caller where the call was refused.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return done;
}

}  // namespace sluice::ring
