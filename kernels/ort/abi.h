/* The part of ONNX Runtime's C interface that custom operators need, declared here because its packages hold no headers.

   The interface is one table of functions that only ever grows at its end. A function is known by its place, and the
   version of ONNX Runtime that brought it is noted: a table asked for by a version has all functions up to it. */
#ifndef IB_ORT_ABI_H
#define IB_ORT_ABI_H

#include <stddef.h>
#include <stdint.h>

typedef struct ort_status ort_status; /* null means success; others are released by who gets them */
typedef struct ort_options ort_options;
typedef struct ort_domain ort_domain;
typedef struct ort_info ort_info;       /* a node, when its kernel is made */
typedef struct ort_context ort_context; /* a node, when it runs */
typedef struct ort_value ort_value;
typedef struct ort_shape ort_shape; /* element type and dimensions of a tensor */

enum ort_error { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2, ORT_NOT_IMPLEMENTED = 9 };

enum ort_type { ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INT8 = 3, ORT_INT32 = 6 };

enum {
    ORT_OLDEST_VERSION = 16,   /* the first whose custom operators can report an error */
    ORT_PARALLEL_VERSION = 17, /* the first that lends its threads */
};

enum ort_slot {
    ORT_CREATE_STATUS = 0,
    ORT_CREATE_DOMAIN = 26,
    ORT_DOMAIN_ADD = 27,
    ORT_ADD_DOMAIN = 28,
    ORT_MUTABLE_DATA = 51,
    ORT_ELEMENT_TYPE = 60,
    ORT_DIMENSION_COUNT = 61,
    ORT_DIMENSIONS = 62,
    ORT_TYPE_AND_SHAPE = 65,
    ORT_ATTRIBUTE_FLOAT = 85,
    ORT_ATTRIBUTE_INT64 = 86,
    ORT_INPUT_COUNT = 88,
    ORT_INPUT = 90,
    ORT_OUTPUT = 91,
    ORT_RELEASE_STATUS = 93,
    ORT_RELEASE_SHAPE = 99,
    ORT_RELEASE_DOMAIN = 101,
    ORT_ATTRIBUTE_INT64S = 163, /* 1.8 */
    ORT_HAS_CONFIG = 237,       /* 1.14 */
    ORT_CONFIG = 238,           /* 1.14 */
    ORT_NODE_NAME = 244,        /* 1.15 */
    ORT_CONSTANT_INPUT = 249,   /* 1.15 */
    ORT_PARALLEL_FOR = 274,     /* 1.17 */
    ORT_SLOTS
};

typedef struct ort_api {
    void (*slot[ORT_SLOTS])(void);
} ort_api;

typedef struct ort_base {
    const ort_api *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
} ort_base;

/* ORT_CALL(api, function, result type, argument types...)(arguments...) */
#define ORT_CALL(api, name, result, ...) ((result(*)(__VA_ARGS__))(api)->slot[name])

/* One custom operator. Members after version 17's are left out: nobody reads them at that version. */
typedef struct ort_operator ort_operator;
struct ort_operator {
    uint32_t version;
    void *(*create_without_status)(const ort_operator *, const ort_api *, const ort_info *);
    const char *(*name)(const ort_operator *);
    const char *(*provider)(const ort_operator *);
    int (*input_type)(const ort_operator *, size_t);
    size_t (*input_count)(const ort_operator *);
    int (*output_type)(const ort_operator *, size_t);
    size_t (*output_count)(const ort_operator *);
    void (*compute_without_status)(void *, ort_context *);
    void (*destroy)(void *);
    int (*input_characteristic)(const ort_operator *, size_t);
    int (*output_characteristic)(const ort_operator *, size_t);
    int (*input_memory)(const ort_operator *, size_t);
    int (*variadic_input_least)(const ort_operator *);
    int (*variadic_input_homogeneous)(const ort_operator *);
    int (*variadic_output_least)(const ort_operator *);
    int (*variadic_output_homogeneous)(const ort_operator *);
    ort_status *(*create)(const ort_operator *, const ort_api *, const ort_info *, void **);
    ort_status *(*compute)(void *, ort_context *);
    ort_status *(*infer_shape)(const ort_operator *, void *);
    int (*first_version)(const ort_operator *);
    int (*last_version)(const ort_operator *);
};

#endif
