#include "status.h"

static const char *const MESSAGES[IB_STATUS_COUNT] = {
    [IB_OK] = "done",
    [IB_BAD_SIZE] = "a size is negative, or zero where at least one is needed",
    [IB_TOO_LARGE] = "the sizes multiply to more than memory can address",
    [IB_BAD_LENGTH] = "a buffer holds another number of bytes than its sizes ask for",
    [IB_BAD_VALUE] = "an option lies outside its range",
    [IB_EMPTY_WINDOW] = "a pooling window lies wholly in the padding",
    [IB_NO_MEMORY] = "there is not enough memory",
    [IB_UNKNOWN_ISA] = "no instruction set has that name: choose portable, neon, avx2 or avx512",
    [IB_MISSING_ISA] = "the processor lacks the instruction set asked for",
    [IB_NULL] = "a pointer is null",
};

const char *ib_message(int status) {
    return status >= 0 && status < IB_STATUS_COUNT ? MESSAGES[status] : "unknown status";
}
