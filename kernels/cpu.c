#include "cpu.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const NAMES[IB_ISA_COUNT] = {"portable", "neon", "avx2", "avx512"};

static atomic_int forced = IB_AUTO;

const char *ib_isa_name(int isa) { return isa >= 0 && isa < IB_ISA_COUNT ? NAMES[isa] : NULL; }

#if defined(__x86_64__)

/* Bits of XCR0: the operating system keeps xmm and ymm; and opmask and both halves of zmm (Intel SDM, vol. 1, 13.3). */
enum { YMM_STATE = 0x06, ZMM_STATE = 0xe6 };

static uint32_t saved_states(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27))) return 0; /* OSXSAVE */
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int has(int isa) {
    unsigned a, b, c, d;
    if (isa != IB_AVX2 && isa != IB_AVX512) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    const uint32_t states = saved_states();
    const int avx2 = (states & YMM_STATE) == YMM_STATE && (b & (1u << 5)) != 0;
    if (isa == IB_AVX2) return avx2;
    const uint32_t wanted = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    return avx2 && (states & ZMM_STATE) == ZMM_STATE && (b & wanted) == wanted && (c & (1u << 14)) != 0; /* VPOPCNTDQ */
}

#else

static int has(int isa) {
#if defined(__aarch64__)
    return isa == IB_NEON;
#else
    (void)isa;
    return 0;
#endif
}

#endif

/* Bit `isa` for each that is there. Asking the processor takes microseconds on a virtual machine, so it is remembered;
   threads that ask at once find the same. */
static int present(void) {
    static atomic_int known = 0;
    int sets = atomic_load_explicit(&known, memory_order_relaxed);
    if (sets) return sets;
    sets = 1 << IB_PORTABLE;
    for (int isa = IB_PORTABLE + 1; isa < IB_ISA_COUNT; isa++) sets |= has(isa) << isa;
    atomic_store_explicit(&known, sets, memory_order_relaxed);
    return sets;
}

int ib_isa_present(int isa) { return isa >= 0 && isa < IB_ISA_COUNT && present() >> isa & 1; }

int ib_force(int isa) {
    if (isa < IB_AUTO || isa >= IB_ISA_COUNT) return IB_UNKNOWN_ISA;
    if (isa != IB_AUTO && !ib_isa_present(isa)) return IB_MISSING_ISA;
    atomic_store(&forced, isa);
    return IB_OK;
}

static int best(void) {
    int isa = IB_ISA_COUNT - 1;
    while (!ib_isa_present(isa)) isa--;
    return isa;
}

int ib_isa_now(int *isa) {
    if (!isa) return IB_NULL;
    *isa = atomic_load(&forced);
    if (*isa != IB_AUTO) return IB_OK;
    const char *name = getenv("INTAGLIO_KERNELS");
    if (!name || !*name) {
        *isa = best();
        return IB_OK;
    }
    for (*isa = 0; *isa < IB_ISA_COUNT; ++*isa)
        if (!strcmp(name, NAMES[*isa])) return ib_isa_present(*isa) ? IB_OK : IB_MISSING_ISA;
    return IB_UNKNOWN_ISA;
}

int ib_isa_resolve(int asked, int *isa) {
    if (asked == IB_AUTO) return ib_isa_now(isa);
    if (asked < 0 || asked >= IB_ISA_COUNT) return IB_UNKNOWN_ISA;
    *isa = asked;
    return ib_isa_present(asked) ? IB_OK : IB_MISSING_ISA;
}
