// Result, Error and the numbers of a log, under a name that installed headers in folders below this one find.
#pragma once

#include "shm/base/result.h"
#include "shm/base/types.h"
