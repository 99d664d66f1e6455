// A second translation unit with the header: definitions must not clash.
#include "polyscore.hpp"
#include "polyscore.hpp"

int second_unit() { return polyscore_abi_version() == POLYSCORE_ABI_VERSION ? 0 : 1; }
