/* The backend of four lanes for processors with AVX-512 IFMA. The pragma lets a build with default flags compile it. */
#if defined(__x86_64__) && defined(__GNUC__)
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512ifma,avx512vbmi")
#include <string.h>

#include "vector_ifma4.h"

#include "pair_form.h"

#include "operations.h"

#include "narrow.h"

static int is_available(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512ifma") &&
           __builtin_cpu_supports("avx512vbmi");
}

const Backend veilmatch_ifma4 = {
    "ifma4", LANES, LIMB_BITS, is_available, multiply, square, power, power_mod_n, power_of_two, select_and_multiply,
    enter, leave, compress, expand, run, saturate, NULL,
};
#endif
