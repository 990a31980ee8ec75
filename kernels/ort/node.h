/* A node of a model, as the operators see it: its attributes and constants when it is made, its tensors when it runs. */
#ifndef IB_ORT_NODE_H
#define IB_ORT_NODE_H

#include "../cpu.h"
#include "../output.h"
#include "../threads.h"
#include "abi.h"

enum { MOST_DIMENSIONS = 8, MOST_INPUTS = 4 };

typedef struct tensor {
    void *data; /* null where the tensor is empty */
    int type;
    size_t rank, count;
    int64_t shape[MOST_DIMENSIONS];
} tensor;

typedef struct bit_operator bit_operator;

/* What every kernel begins with. Nothing in a kernel changes once it is made: runs may overlap. */
typedef struct kernel {
    const ort_api *api;
    const bit_operator *op;
    char node[64]; /* its name; empty where it does not fit */
    int made;
} kernel;

/* One operator of the domain. */
struct bit_operator {
    ort_operator base;
    const char *name;
    size_t inputs;
    int input[MOST_INPUTS]; /* element types */
    int output;
    size_t threads; /* for how many work is cut */
    size_t bytes;   /* of its kernel, which begins with `kernel` and is zero before `make` */
    ort_status *(*make)(kernel *, const ort_info *);
    ort_status *(*run)(const kernel *, ort_context *);
    void (*release)(kernel *); /* what make allocated, as far as it came */
};

/* An error: what is wrong, as printf writes it. While the kernel is made it begins with the operator and the node; when
   a node fails to run, ONNX Runtime says which. */
ort_status *ib_node_error(const kernel *k, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The error for what the library's functions return; null for IB_OK. */
ort_status *ib_node_status(const kernel *k, int status);

/* Attributes that must be there, each number within bounds; a list has `count` of them. */
ort_status *ib_node_int(const kernel *k, const ort_info *info, const char *name, int64_t least, int64_t most,
                        int64_t *value);
ort_status *ib_node_ints(const kernel *k, const ort_info *info, const char *name, int64_t least, int64_t most,
                         size_t count, int64_t *values);
ort_status *ib_node_float(const kernel *k, const ort_info *info, const char *name, float *value);

/* Numbers in a list, at most `most`; `count` gets how many. */
ort_status *ib_node_list(const kernel *k, const ort_info *info, const char *name, size_t most, int64_t *values,
                         size_t *count);

/* Input `index` where it is a constant of the model; is_constant tells. */
ort_status *ib_node_constant(const kernel *k, const ort_info *info, size_t index, int *is_constant, tensor *to);

ort_status *ib_node_input(const kernel *k, ort_context *context, size_t index, tensor *to);

/* Input `index`, whose number of dimensions must be `rank`. */
ort_status *ib_node_input_of(const kernel *k, ort_context *context, size_t index, size_t rank, tensor *to);

/* Makes the output; `data` gets where it lies. */
ort_status *ib_node_output(const kernel *k, ort_context *context, const int64_t *shape, size_t rank, void **data);

/* The threads of the session that runs the node. */
typedef struct node_threads {
    ib_threads threads;
    const ort_api *api;
    const ort_context *context;
} node_threads;

void ib_node_threads(const kernel *k, const ort_context *context, node_threads *place);

/* Return the error, if there is one. */
#define CHECK(call)                             \
    do {                                        \
        ort_status *const status_ = (call);     \
        if (status_) return status_;            \
    } while (0)

#endif
