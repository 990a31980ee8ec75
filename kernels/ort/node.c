#include "node.h"

#include <stdarg.h>
#include <stdio.h>

enum { MESSAGE = 512 };

ort_status *ib_node_error(const kernel *k, const char *format, ...) {
    char text[MESSAGE];
    const int start = k->made ? 0 : snprintf(text, sizeof text, "%s '%s': ", k->op->name, k->node);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + start, sizeof text - (size_t)start, format, arguments);
    va_end(arguments);
    return ORT_CALL(k->api, ORT_CREATE_STATUS, ort_status *, int, const char *)(ORT_INVALID_ARGUMENT, text);
}

ort_status *ib_node_status(const kernel *k, int status) {
    return status == IB_OK ? NULL : ib_node_error(k, "%s", ib_message(status));
}

/* ------------------------------------------------------------------------------------------------ attributes */

/* ONNX Runtime's reason for a missing attribute is dropped: it is long, and names no operator. */
static ort_status *missing(const kernel *k, const char *name, const char *kind, ort_status *reason) {
    ORT_CALL(k->api, ORT_RELEASE_STATUS, void, ort_status *)(reason);
    return ib_node_error(k, "attribute %s is missing or is not %s", name, kind);
}

static ort_status *bounded(const kernel *k, const char *name, int64_t least, int64_t most, int64_t value) {
    if (value >= least && value <= most) return NULL;
    return ib_node_error(k, "attribute %s holds %lld, outside %lld to %lld", name, (long long)value, (long long)least,
                         (long long)most);
}

ort_status *ib_node_int(const kernel *k, const ort_info *info, const char *name, int64_t least, int64_t most,
                        int64_t *value) {
    ort_status *reason = ORT_CALL(k->api, ORT_ATTRIBUTE_INT64, ort_status *, const ort_info *, const char *,
                                  int64_t *)(info, name, value);
    return reason ? missing(k, name, "an integer", reason) : bounded(k, name, least, most, *value);
}

ort_status *ib_node_float(const kernel *k, const ort_info *info, const char *name, float *value) {
    ort_status *reason =
        ORT_CALL(k->api, ORT_ATTRIBUTE_FLOAT, ort_status *, const ort_info *, const char *, float *)(info, name, value);
    return reason ? missing(k, name, "a number", reason) : NULL;
}

ort_status *ib_node_list(const kernel *k, const ort_info *info, const char *name, size_t most, int64_t *values,
                         size_t *count) {
    typedef ort_status *read_list(const ort_info *, const char *, int64_t *, size_t *);
    read_list *const read = (read_list *)k->api->slot[ORT_ATTRIBUTE_INT64S];
    *count = 0;
    ort_status *reason = read(info, name, NULL, count);
    if (reason) return missing(k, name, "a list of integers", reason);
    if (*count > most) return ib_node_error(k, "attribute %s holds %zu numbers, more than %zu", name, *count, most);
    reason = *count ? read(info, name, values, count) : NULL;
    return reason ? missing(k, name, "a list of integers", reason) : NULL;
}

ort_status *ib_node_ints(const kernel *k, const ort_info *info, const char *name, int64_t least, int64_t most,
                         size_t count, int64_t *values) {
    size_t found;
    int64_t all[MOST_DIMENSIONS];
    CHECK(ib_node_list(k, info, name, MOST_DIMENSIONS, all, &found));
    if (found != count) return ib_node_error(k, "attribute %s holds %zu numbers, not %zu", name, found, count);
    for (size_t i = 0; i < count; i++) {
        CHECK(bounded(k, name, least, most, all[i]));
        values[i] = all[i];
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------------------ tensors */

static ort_status *read_shape(const kernel *k, const ort_shape *shape, size_t index, tensor *to) {
    CHECK(ORT_CALL(k->api, ORT_ELEMENT_TYPE, ort_status *, const ort_shape *, int *)(shape, &to->type));
    CHECK(ORT_CALL(k->api, ORT_DIMENSION_COUNT, ort_status *, const ort_shape *, size_t *)(shape, &to->rank));
    if (to->rank > MOST_DIMENSIONS)
        return ib_node_error(k, "input %zu has %zu dimensions, more than %d", index, to->rank, MOST_DIMENSIONS);
    CHECK(ORT_CALL(k->api, ORT_DIMENSIONS, ort_status *, const ort_shape *, int64_t *, size_t)(shape, to->shape, to->rank));
    to->count = 1;
    for (size_t i = 0; i < to->rank; i++)
        if (to->shape[i] < 0 || __builtin_mul_overflow(to->count, (size_t)to->shape[i], &to->count))
            return ib_node_error(k, "input %zu has no valid shape", index);
    return NULL;
}

static ort_status *read_tensor(const kernel *k, const ort_value *value, size_t index, tensor *to) {
    if (!value) return ib_node_error(k, "input %zu is missing", index);
    ort_shape *shape = NULL;
    CHECK(ORT_CALL(k->api, ORT_TYPE_AND_SHAPE, ort_status *, const ort_value *, ort_shape **)(value, &shape));
    ort_status *wrong = read_shape(k, shape, index, to);
    ORT_CALL(k->api, ORT_RELEASE_SHAPE, void, ort_shape *)(shape);
    CHECK(wrong);
    if (to->type != k->op->input[index])
        return ib_node_error(k, "input %zu has element type %d, not %d", index, to->type, k->op->input[index]);
    return ORT_CALL(k->api, ORT_MUTABLE_DATA, ort_status *, const ort_value *, void **)(value, &to->data);
}

ort_status *ib_node_constant(const kernel *k, const ort_info *info, size_t index, int *is_constant, tensor *to) {
    const ort_value *value = NULL;
    *is_constant = 0;
    CHECK(ORT_CALL(k->api, ORT_CONSTANT_INPUT, ort_status *, const ort_info *, size_t, int *, const ort_value **)(
        info, index, is_constant, &value));
    *is_constant = *is_constant && value;
    return *is_constant ? read_tensor(k, value, index, to) : NULL;
}

ort_status *ib_node_input(const kernel *k, ort_context *context, size_t index, tensor *to) {
    const ort_value *value = NULL;
    CHECK(ORT_CALL(k->api, ORT_INPUT, ort_status *, const ort_context *, size_t, const ort_value **)(context, index,
                                                                                                      &value));
    return read_tensor(k, value, index, to);
}

ort_status *ib_node_input_of(const kernel *k, ort_context *context, size_t index, size_t rank, tensor *to) {
    CHECK(ib_node_input(k, context, index, to));
    if (to->rank == rank) return NULL;
    return ib_node_error(k, "input %zu has %zu dimensions, not %zu", index, to->rank, rank);
}

ort_status *ib_node_output(const kernel *k, ort_context *context, const int64_t *shape, size_t rank, void **data) {
    ort_value *value = NULL;
    CHECK(ORT_CALL(k->api, ORT_OUTPUT, ort_status *, ort_context *, size_t, const int64_t *, size_t, ort_value **)(
        context, 0, shape, rank, &value));
    if (!value) return ib_node_error(k, "the output is missing");
    return ORT_CALL(k->api, ORT_MUTABLE_DATA, ort_status *, const ort_value *, void **)(value, data);
}

/* ------------------------------------------------------------------------------------------------ threads */

static void run_in_session(void *context, ib_task task, void *work, size_t tasks) {
    const node_threads *t = context;
    ort_status *failed =
        ORT_CALL(t->api, ORT_PARALLEL_FOR, ort_status *, const ort_context *, ib_task, size_t, size_t, void *)(
            t->context, task, tasks, 0, work);
    if (!failed) return;
    /* refused before anything was done */
    ORT_CALL(t->api, ORT_RELEASE_STATUS, void, ort_status *)(failed);
    for (size_t i = 0; i < tasks; i++) task(work, i);
}

void ib_node_threads(const kernel *k, const ort_context *context, node_threads *place) {
    const int lent = k->op->base.version >= ORT_PARALLEL_VERSION;
    *place = (node_threads){.threads = {.count = lent ? k->op->threads : 1, .run = run_in_session, .context = place},
                            .api = k->api,
                            .context = context};
}
