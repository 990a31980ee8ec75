/* net_clamp */
static inline float net_clamp(float v, float low, float high) {
    v = v < low ? low : v;
    return v > high ? high : v;
}

/* net_within: a length, from 0 to the most that there is */
static inline int net_within(int32_t v, int most) { return v < 0 ? 0 : v < most ? (int)v : most; }

/* net_round: to the nearest integer, half to even, for sizes below 2^22; what is rounded lies in the low bits then */
static inline int32_t net_round(float v) {
    const float large = v + 12582912.0f;
    int32_t bits;
    memcpy(&bits, &large, sizeof bits);
    return bits - 0x4b400000;
}

/* net_exp */
static inline float net_exp(float v) { return expf(v); }

/* net_dot: adds to each of 16 sums four products of bytes of a row with weights */
static inline void net_dot(int32_t *a, const uint8_t *x, const int8_t *w) {
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
    int32_t four;
    memcpy(&four, x, sizeof four);
    _mm512_storeu_si512(a, _mm512_dpbusd_epi32(_mm512_loadu_si512(a), _mm512_set1_epi32(four), _mm512_loadu_si512(w)));
#else
    for (int i = 0; i < 16; i++) {
        a[i] += x[0] * w[4 * i] + x[1] * w[4 * i + 1] + x[2] * w[4 * i + 2] + x[3] * w[4 * i + 3];
    }
#endif
}

/* net_count: set bits of a word */
static inline int32_t net_count(uint64_t v) {
#if defined(__GNUC__)
    return __builtin_popcountll(v);
#else
    v -= (v >> 1) & UINT64_C(0x5555555555555555);
    v = (v & UINT64_C(0x3333333333333333)) + ((v >> 2) & UINT64_C(0x3333333333333333));
    v = (v + (v >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (int32_t)((v * UINT64_C(0x0101010101010101)) >> 56);
#endif
}
