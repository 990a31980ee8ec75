/* Where ONNX Runtime enters: RegisterCustomOps gives the session's options the domain `intaglio`. */
#define _DEFAULT_SOURCE /* sysconf knows processors only with these */
#define _DARWIN_C_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "operators.h"

#define DOMAIN "intaglio"
#define THREADS "intaglio.threads"

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
enum { OPERATORS = IB_OPERATORS(COUNT), MOST_THREADS = 1024 };

/* Operators and domain as sessions see them, of one copy of ONNX Runtime in the process and one number of threads.
   Sessions keep pointers to them, so they are never freed; options that are registered later share them. */
typedef struct registered registered;
struct registered {
    registered *next;
    const ort_base *base;
    size_t threads;
    ort_domain *domain;
    bit_operator operators[OPERATORS];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static registered *first;

static ort_status *error(const ort_api *api, int code, const char *text) {
    return ORT_CALL(api, ORT_CREATE_STATUS, ort_status *, int, const char *)(code, text);
}

static ort_status *fill(registered *r, const ort_api *api, uint32_t version) {
    CHECK(ORT_CALL(api, ORT_CREATE_DOMAIN, ort_status *, const char *, ort_domain **)(DOMAIN, &r->domain));
#define COPY(name) ib_ort_##name,
    const bit_operator all[OPERATORS] = {IB_OPERATORS(COPY)};
    for (size_t i = 0; i < OPERATORS; i++) {
        r->operators[i] = all[i];
        r->operators[i].threads = r->threads;
        r->operators[i].base = INTERFACE;
        r->operators[i].base.version = version;
        ort_status *status = ORT_CALL(api, ORT_DOMAIN_ADD, ort_status *, ort_domain *, const ort_operator *)(
            r->domain, &r->operators[i].base);
        if (!status) continue;
        ORT_CALL(api, ORT_RELEASE_DOMAIN, void, ort_domain *)(r->domain);
        return status;
    }
    return NULL;
}

static ort_status *find(const ort_base *base, const ort_api *api, uint32_t version, size_t threads,
                        ort_domain **domain) {
    registered *r = first;
    while (r && (r->base != base || r->threads != threads)) r = r->next;
    if (!r) {
        r = calloc(1, sizeof *r);
        if (!r) return error(api, ORT_FAIL, ib_message(IB_NO_MEMORY));
        r->base = base;
        r->threads = threads;
        ort_status *status = fill(r, api, version);
        if (status) {
            free(r);
            return status;
        }
        r->next = first;
        first = r;
    }
    *domain = r->domain;
    return NULL;
}

/* For how many threads to cut work: the size of a session's pool cannot be asked for, so whoever registers the operators
   may say it in the options. Otherwise that of the machine, as ONNX Runtime's own default: a smaller pool takes more
   pieces in turn, which costs a little. */
static ort_status *read_threads(const ort_api *api, const ort_options *options, size_t *threads) {
    int said = 0;
    CHECK(ORT_CALL(api, ORT_HAS_CONFIG, ort_status *, const ort_options *, const char *, int *)(options, THREADS, &said));
    if (!said) {
        const long processors = sysconf(_SC_NPROCESSORS_ONLN);
        *threads = processors < 1 ? 1 : processors > MOST_THREADS ? MOST_THREADS : (size_t)processors;
        return NULL;
    }
    char text[16], *end = text;
    size_t size = sizeof text;
    CHECK(ORT_CALL(api, ORT_CONFIG, ort_status *, const ort_options *, const char *, char *, size_t *)(options, THREADS,
                                                                                                      text, &size));
    const long value = strtol(text, &end, 10);
    if (*end || value < 1 || value > MOST_THREADS)
        return error(api, ORT_INVALID_ARGUMENT, "the session configuration entry " THREADS " is not from 1 to 1024");
    *threads = (size_t)value;
    return NULL;
}

IB_API ort_status *RegisterCustomOps(ort_options *options, const ort_base *base);

ort_status *RegisterCustomOps(ort_options *options, const ort_base *base) {
    uint32_t version = ORT_PARALLEL_VERSION;
    const ort_api *api = base->get_api(version);
    if (!api) api = base->get_api(version = ORT_OLDEST_VERSION);
    if (!api)
        return error(base->get_api(1), ORT_NOT_IMPLEMENTED,
                     "the operators of domain " DOMAIN " need ONNX Runtime 1.16 or later");
    size_t threads = 1;
    ort_domain *domain = NULL;
    CHECK(read_threads(api, options, &threads));
    pthread_mutex_lock(&lock);
    ort_status *status = find(base, api, version, threads, &domain);
    pthread_mutex_unlock(&lock);
    CHECK(status);
    return ORT_CALL(api, ORT_ADD_DOMAIN, ort_status *, ort_options *, ort_domain *)(options, domain);
}
