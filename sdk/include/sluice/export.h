// What the shared library exports: everything else of it is hidden. The same macro as in shm/base/result.h, which
// stands alone once installed.
#pragma once

#ifndef SLUICE_EXPORT
#define SLUICE_EXPORT __attribute__((visibility("default")))
#endif
