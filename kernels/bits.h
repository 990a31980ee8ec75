/* Bits in memory: element i of a row is bit i % 8 of byte i / 8; a set bit stands for -1. */
#ifndef IB_BITS_H
#define IB_BITS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline size_t ib_bytes_of(size_t bits) { return bits / 8 + (bits % 8 != 0); }

static inline size_t ib_words_of(size_t bits) { return bits / 64 + (bits % 64 != 0); }

static inline uint64_t ib_low_bits(size_t count) { return count >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << count) - 1; }

/* A word of the kernels' own buffers, wherever it lies. Bit i of the number is element i. */
static inline uint64_t ib_load(const uint8_t *from) {
    uint64_t word;
    memcpy(&word, from, sizeof word);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

static inline void ib_store(uint8_t *to, uint64_t word) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    memcpy(to, &word, sizeof word);
}

/* `count` (at most 64) elements from `first` on; no byte without one of them is read. */
static inline uint64_t ib_take(const uint8_t *row, size_t first, size_t count) {
    const uint8_t *from = row + first / 8;
    const unsigned shift = first % 8;
    const size_t bytes = (shift + count + 7) / 8;
    uint64_t word = 0;
    if (bytes >= 8) {
        word = ib_load(from) >> shift;
        if (bytes > 8) word |= (uint64_t)from[8] << (64 - shift);
    } else {
        for (size_t i = 0; i < bytes; i++) word |= (uint64_t)from[i] << (8 * i);
        word >>= shift;
    }
    return word & ib_low_bits(count);
}

/* Number of set bits, without an instruction for it. */
static inline uint64_t ib_count(uint64_t x) {
    x -= (x >> 1) & UINT64_C(0x5555555555555555);
    x = (x & UINT64_C(0x3333333333333333)) + ((x >> 2) & UINT64_C(0x3333333333333333));
    x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (x * UINT64_C(0x0101010101010101)) >> 56;
}

#endif
