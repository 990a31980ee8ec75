/* Where ONNX Runtime enters: RegisterCustomOps gives the session's options the domain `intaglio`. */
#include <pthread.h>
#include <stdlib.h>

#include "operators.h"

#define DOMAIN "intaglio"

/* ------------------------------------------------------------------------------------------------ one operator */

static const bit_operator *of(const ort_operator *op) { return (const bit_operator *)op; }

static const char *name(const ort_operator *op) { return of(op)->name; }

static const char *provider(const ort_operator *op) {
    (void)op;
    return NULL; /* the processor's */
}

static size_t input_count(const ort_operator *op) { return of(op)->inputs; }

static int input_type(const ort_operator *op, size_t index) { return of(op)->input[index]; }

static size_t output_count(const ort_operator *op) {
    (void)op;
    return 1;
}

static int output_type(const ort_operator *op, size_t index) {
    (void)index;
    return of(op)->output;
}

static int zero(const ort_operator *op, size_t index) { /* required; in the processor's memory */
    (void)op;
    (void)index;
    return 0;
}

static int one(const ort_operator *op) {
    (void)op;
    return 1;
}

static int latest(const ort_operator *op) {
    (void)op;
    return INT32_MAX;
}

static void destroy(void *kernel_) {
    kernel *k = kernel_;
    if (!k) return;
    if (k->op->release) k->op->release(k);
    free(k);
}

/* A name that does not fit stays empty: it only helps to read errors. */
static void read_name(kernel *k, const ort_info *info) {
    size_t size = sizeof k->node;
    ort_status *status =
        ORT_CALL(k->api, ORT_NODE_NAME, ort_status *, const ort_info *, char *, size_t *)(info, k->node, &size);
    if (!status) return;
    k->node[0] = 0;
    ORT_CALL(k->api, ORT_RELEASE_STATUS, void, ort_status *)(status);
}

static ort_status *create(const ort_operator *base, const ort_api *api, const ort_info *info, void **result) {
    const bit_operator *op = of(base);
    *result = NULL;
    kernel *k = calloc(1, op->bytes);
    if (!k) return ORT_CALL(api, ORT_CREATE_STATUS, ort_status *, int, const char *)(ORT_FAIL, ib_message(IB_NO_MEMORY));
    k->api = api;
    k->op = op;
    k->pieces = ib_node_pieces();
    read_name(k, info);
    ort_status *status = op->make(k, info);
    k->made = 1;
    if (status)
        destroy(k);
    else
        *result = k;
    return status;
}

static ort_status *compute(void *kernel_, ort_context *context) {
    const kernel *k = kernel_;
    return k->op->run(k, context);
}

static const ort_operator INTERFACE = {
    .name = name,
    .provider = provider,
    .input_type = input_type,
    .input_count = input_count,
    .output_type = output_type,
    .output_count = output_count,
    .destroy = destroy,
    .input_characteristic = zero,
    .output_characteristic = zero,
    .input_memory = zero,
    .variadic_input_least = one,
    .variadic_input_homogeneous = one,
    .variadic_output_least = one,
    .variadic_output_homogeneous = one,
    .create = create,
    .compute = compute,
    .first_version = one,
    .last_version = latest,
};

/* ------------------------------------------------------------------------------------------------ the domain */

#define COUNT(name) +1
enum { OPERATORS = IB_OPERATORS(COUNT), RUNTIMES = 8 };

/* Operators and domain as one copy of ONNX Runtime in the process sees them. Sessions keep pointers to them, so they are
   never freed; options that are registered later share them. */
typedef struct runtime {
    const ort_base *base;
    ort_domain *domain;
    bit_operator operators[OPERATORS];
} runtime;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static runtime runtimes[RUNTIMES];

static ort_status *error(const ort_api *api, const char *text) {
    return ORT_CALL(api, ORT_CREATE_STATUS, ort_status *, int, const char *)(ORT_NOT_IMPLEMENTED, text);
}

static ort_status *fill(runtime *r, const ort_base *base, const ort_api *api, uint32_t version) {
    ort_domain *domain = NULL;
    CHECK(ORT_CALL(api, ORT_CREATE_DOMAIN, ort_status *, const char *, ort_domain **)(DOMAIN, &domain));
#define COPY(name) ib_ort_##name,
    const bit_operator all[OPERATORS] = {IB_OPERATORS(COPY)};
    for (size_t i = 0; i < OPERATORS; i++) {
        r->operators[i] = all[i];
        r->operators[i].base = INTERFACE;
        r->operators[i].base.version = version;
        ort_status *status = ORT_CALL(api, ORT_DOMAIN_ADD, ort_status *, ort_domain *, const ort_operator *)(
            domain, &r->operators[i].base);
        if (!status) continue;
        ORT_CALL(api, ORT_RELEASE_DOMAIN, void, ort_domain *)(domain);
        return status;
    }
    r->domain = domain;
    r->base = base;
    return NULL;
}

static ort_status *find(const ort_base *base, const ort_api *api, uint32_t version, ort_domain **domain) {
    for (size_t i = 0; i < RUNTIMES; i++) {
        runtime *r = &runtimes[i];
        if (!r->base) CHECK(fill(r, base, api, version));
        if (r->base != base) continue;
        *domain = r->domain;
        return NULL;
    }
    return error(api, "too many copies of ONNX Runtime in one process use the operators of domain " DOMAIN);
}

IB_API ort_status *RegisterCustomOps(ort_options *options, const ort_base *base);

ort_status *RegisterCustomOps(ort_options *options, const ort_base *base) {
    uint32_t version = ORT_PARALLEL_VERSION;
    const ort_api *api = base->get_api(version);
    if (!api) api = base->get_api(version = ORT_OLDEST_VERSION);
    if (!api) return error(base->get_api(1), "the operators of domain " DOMAIN " need ONNX Runtime 1.16 or later");
    ort_domain *domain = NULL;
    pthread_mutex_lock(&lock);
    ort_status *status = find(base, api, version, &domain);
    pthread_mutex_unlock(&lock);
    CHECK(status);
    return ORT_CALL(api, ORT_ADD_DOMAIN, ort_status *, ort_options *, ort_domain *)(options, domain);
}
