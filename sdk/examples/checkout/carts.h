// The cart service: takes the goods of each order out of the cart, exactly once.
#pragma once

#include <string>

#include "database.h"

namespace checkout {

// Handles orders until `idle` has passed without one. Steps: before-cart-database, after-cart-database.
sluice::Status clear_carts(sluice::Client& client, const std::string& path, sluice::Duration idle);

}  // namespace checkout
