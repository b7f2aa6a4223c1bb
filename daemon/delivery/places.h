// A partition as the rules name it, and as the store does.
#pragma once

#include "daemon/core/delivery_types.h"
#include "daemon/store/group_store.h"

namespace sluice::delivery {

inline core::Place to_core(const store::GroupPosition& place) { return {place.topic, place.partition}; }
inline store::GroupPosition to_store(const core::Place& place) { return {place.topic, place.partition}; }

}  // namespace sluice::delivery
