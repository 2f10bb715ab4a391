// SPDX-License-Identifier: Apache-2.0
// Counts allocations of the whole process: the benchmark's proof that a packet's path allocates nothing.
#ifndef CCOUNT_H
#define CCOUNT_H
#include <stdint.h>
uint64_t cc_allocations(void);
#endif
