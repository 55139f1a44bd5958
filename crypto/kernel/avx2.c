/* The backend for processors with AVX2. The pragma lets a build with default flags compile it. */
#if defined(__x86_64__) && defined(__GNUC__)
#pragma GCC target("avx2")
#include <string.h>

#include "vector_avx2.h"

#include "pair_form.h"

#include "operations.h"

#include "constants.h"

static int is_available(void) { return __builtin_cpu_supports("avx2"); }

const Backend veilmatch_avx2 = {
    "avx2", LANES, LIMB_BITS, is_available, multiply, square, power, power_mod_n, NULL, select_and_multiply,
    enter, leave, compress, expand, run, saturate, multiply_constants,
};
#endif
