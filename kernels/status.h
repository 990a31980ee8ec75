/* What the functions of the library return, and the sentence each value stands for. */
#ifndef IB_STATUS_H
#define IB_STATUS_H

#define IB_API __attribute__((visibility("default")))

typedef enum ib_status {
    IB_OK = 0,
    IB_BAD_SIZE,     /* negative, or zero where something is needed */
    IB_TOO_LARGE,    /* the product of sizes overflows */
    IB_BAD_LENGTH,   /* a buffer holds another number of bytes than its sizes ask for */
    IB_BAD_VALUE,    /* an option outside its range */
    IB_EMPTY_WINDOW, /* a pooling window without a single element */
    IB_NO_MEMORY,
    IB_UNKNOWN_ISA, /* not the name or number of an instruction set */
    IB_MISSING_ISA, /* the processor, or this build, lacks it */
    IB_NULL,        /* a pointer that must not be null */
    IB_STATUS_COUNT
} ib_status;

/* A sentence for people; never null. */
IB_API const char *ib_message(int status);

#endif
