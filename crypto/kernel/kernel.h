/* The operations of the kernel, one table of them for each instruction set.
 *
 * A number mod N^2 is held in pair form: x = x0 + x1*N, two numbers below 2N of n limbs each, in
 * Montgomery form with R = 2^(n * limb_bits). A *group* is `lanes` such numbers side by side:
 * uint64_t[2][n][lanes], 64-byte aligned; one lane needs no more than a word does. All operations take the same time for all values.
 */
#ifndef VEILMATCH_KERNEL_H
#define VEILMATCH_KERNEL_H

#include <stddef.h>
#include <stdint.h>

enum {
    TILE = 5,         /* a tile of TILE x TILE limb products keeps its columns and one operand in registers */
    MAX_LIMBS = 120,  /* 3072 bits: 60 limbs of 52 bits, 110 of 28 */
    ALIGNMENT = 64,
    WINDOW_BITS = 5,  /* of a secret power */
    SATURATING = 12,  /* independent multiplications that keep the multiplier busy */
    MAX_LANES = 8,    /* of any backend */
    MAX_ENTRIES = 64, /* in a row of a table that is read by digits */
    CONSTANTS = 64,   /* in a row of a table of constants */
    ROW_SLACK = 64,
};

/* What an operation needs to know of N. Digits are limbs, least significant first. */
typedef struct {
    size_t limbs;            /* n, a multiple of 2 * TILE where there are lanes */
    uint64_t inverse;        /* -N^-1 mod 2^limb_bits */
    const uint64_t *modulus; /* N */
    const uint64_t *one;     /* R mod N^2 in pair form, 2n digits */
} Ring;

/* One product of a program: number `to` = number `left` * number `right`. Numbers below the count
 * of bases are the bases, which are never written; those from there on are scratch. */
typedef struct {
    int32_t to, left, right;
} Step;

typedef struct {
    const char *name;
    size_t lanes, limb_bits;
    int (*is_available)(void);
    /* out[i] = a[i] * b[i * b_step] for `groups` groups; b_step is 1, or 0 for one b for all; out may be a. */
    void (*multiply)(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups, const uint64_t *b,
                     size_t b_step);
    /* out[i] = a[i]^2. */
    void (*square)(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups);
    /* out[i] = a[i]^e for secret e of `size` bytes, little-endian: fixed windows, and every table read touches
     * every entry. That of the i-th number is at exponents[i * step]; step is size, or 0 for one for all.
     * scratch: 2^WINDOW_BITS + 1 groups. */
    void (*power)(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups, const uint8_t *exponents,
                  size_t size, size_t step, uint64_t *scratch);
    /* The same mod N, in two thirds of the time: of the first parts alone. The second ones become 0. NULL if the backend
     * has none. */
    void (*power_mod_n)(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups, const uint8_t *exponents,
                        size_t size, size_t step, uint64_t *scratch);
    /* What power does for the first two numbers of one group, faster; the others become 0. NULL if the backend has none. */
    void (*power_of_two)(const Ring *ring, uint64_t *out, const uint64_t *a, const uint8_t *exponents, size_t size,
                         size_t step, uint64_t *scratch);
    /* out[i] = product over rows r of the number in table[r] that the lane's digit names; every entry is read.
     * table: uint64_t[rows][2n][entries]; digits: uint64_t[rows][groups][lanes], all below `entries`, which is
     * a multiple of lanes; scratch: one group. */
    void (*select_and_multiply)(const Ring *ring, uint64_t *out, size_t groups, const uint64_t *table, size_t rows,
                                size_t entries, const uint64_t *digits, uint64_t *scratch);
    /* Numbers come and go as plain ones, x = low + high * R, in the form of a group: [0] is low, [1] is high, both of
     * any digits. enter: out = x in Montgomery form, both parts below 4N, which every operation takes. factors: R^2
     * and R^3 mod N^2, reduced, a group each; out may be x. leave: out = x mod N^2, reduced; out may be a. */
    void (*enter)(const Ring *ring, uint64_t *out, const uint64_t *x, size_t groups, const uint64_t *factors);
    void (*leave)(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups);
    /* Packs rest in rows: the same limb of all lanes without gaps, lanes * limb_bits / 8 bytes, so that memory
     * holds little more than their numbers. 2n rows a group; ROW_SLACK bytes after the last one may be read. */
    void (*compress)(const Ring *ring, uint8_t *rows, const uint64_t *a, size_t groups);
    void (*expand)(const Ring *ring, uint64_t *out, const uint8_t *rows, size_t groups);
    /* Runs a program over `count` bases in rows and writes the number that its last step made. The rows may be
     * those of a backend with more lanes of as many bits: row_bytes from one to the next, the first `lanes` of
     * each are read. scratch: room for two numbers and every one that is not a base. */
    void (*run)(const Ring *ring, uint64_t *out, const uint8_t *bases, size_t count, size_t row_bytes,
                const Step *steps, size_t step_count, uint64_t *scratch);
    /* Does rounds * SATURATING multiply instructions and nothing else, for measuring how fast they can be. */
    void (*saturate)(size_t rounds);
    /* What select_and_multiply does, from a table of constants that makes it faster (constants.h), with the rows of a
     * number in `pieces` of its lanes: 1, 2 or all. NULL if the backend has none.
     * table: [rows][3][n][CONSTANTS], words of 32 bits if limbs are shorter, else of 64; piece i has the rows from
     * i * rows / pieces on. digits: uint64_t[rows / pieces][groups][lanes].
     * out: uint64_t[groups][4][n][lanes] of digits: x, e, and the sum of all l. */
    void (*multiply_constants)(const Ring *ring, uint64_t *out, size_t groups, const void *table, size_t rows,
                               size_t pieces, const uint64_t *digits);
} Backend;

extern const Backend veilmatch_ifma, veilmatch_ifma4, veilmatch_avx2, veilmatch_portable;

#endif
