/* The backend of eight lanes for processors with AVX-512 IFMA. The pragma lets a build with default flags compile it. */
#if defined(__x86_64__) && defined(__GNUC__)
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512ifma,avx512vbmi")
#include <string.h>

#include "vector_ifma.h"

#include "pair_form.h"

#include "operations.h"

static int is_available(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512ifma") &&
           __builtin_cpu_supports("avx512vbmi");
}

const Backend veilmatch_ifma = {
    "ifma", LANES, LIMB_BITS, is_available, multiply, square, power, power_mod_n, NULL, select_and_multiply,
    enter, leave, compress, expand, run, saturate, NULL,
};
#endif
