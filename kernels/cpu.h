/* Which instruction sets the processor has, and which one is to be used. */
#ifndef IB_CPU_H
#define IB_CPU_H

#include <stddef.h>

#include "status.h"

/* Ordered: of two that a processor has, the later is the faster. */
typedef enum ib_isa { IB_AUTO = -1, IB_PORTABLE = 0, IB_NEON, IB_AVX2, IB_AVX512, IB_ISA_COUNT } ib_isa;

/* The same by their names, for lists: IB_ISA_avx2. */
enum { IB_ISA_portable = IB_PORTABLE, IB_ISA_neon = IB_NEON, IB_ISA_avx2 = IB_AVX2, IB_ISA_avx512 = IB_AVX512 };

/* "portable", "neon", "avx2" or "avx512"; null for another number. */
IB_API const char *ib_isa_name(int isa);

/* 1 where processor, operating system and build have the instruction set, else 0.
   avx512 stands for F, BW, DQ, VL and VPOPCNTDQ together. */
IB_API int ib_isa_present(int isa);

/* Use this instruction set from now on wherever IB_AUTO is asked for; IB_AUTO takes it back. */
IB_API int ib_force(int isa);

/* What IB_AUTO means at this moment: what was forced, else what the variable INTAGLIO_KERNELS names, else the best. */
IB_API int ib_isa_now(int *isa);

/* Turn what a caller asked for into an instruction set that is present. */
int ib_isa_resolve(int asked, int *isa);

#endif
