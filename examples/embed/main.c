/* Run a model with operators on bits in a program of your own, without Python.

       cc -O2 main.c -ldl -o embed
       ./embed libonnxruntime.so.1.31.1 _bits.abi3.so model.onnx x.f32 1 3 32 32 > y.f32

   x.f32 holds the first input, float32 of the shape that follows; the first output, float32, goes to the standard output.
   `intaglio.ops_library()` tells where the library of operators lies. With - in its place nothing is registered, and ONNX
   Runtime computes the operators by the definitions that the model carries. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef USE_ONNXRUNTIME_HEADER
#include <onnxruntime_c_api.h>
#else
#include "ort.h"
#endif

enum { MOST_DIMENSIONS = 8, FIRST_DIMENSION = 5 };

static const OrtApi *ort;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "error: %s: %s\n", what, why);
    exit(1);
}

static void check(OrtStatus *status, const char *what) {
    if (status) fail(what, ort->GetErrorMessage(status));
}

static void load_runtime(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail("loading ONNX Runtime", dlerror());
    const OrtApiBase *(*base)(void);
    *(void **)&base = dlsym(library, "OrtGetApiBase"); /* as POSIX wants a function's address taken */
    if (!base) fail(path, "exports no OrtGetApiBase");
    ort = base()->GetApi(ORT_API_VERSION);
    if (!ort) fail(path, "is too old");
}

static float *read_floats(const char *path, size_t count) {
    FILE *file = fopen(path, "rb");
    float *values = malloc(count * sizeof *values);
    if (!file || !values || fread(values, sizeof *values, count, file) != count || fgetc(file) != EOF)
        fail(path, "does not hold exactly the numbers of the shape");
    fclose(file);
    return values;
}

static OrtSession *open_session(const OrtEnv *env, const char *model, const char *operators) {
    OrtSessionOptions *options;
    OrtSession *session;
    check(ort->CreateSessionOptions(&options), "session options");
    check(ort->SetIntraOpNumThreads(options, 1), "threads");
    if (strcmp(operators, "-") != 0)
        check(ort->RegisterCustomOpsLibrary_V2(options, operators), "registering the operators");
    check(ort->CreateSession(env, model, options, &session), "opening the model");
    ort->ReleaseSessionOptions(options);
    return session;
}

static OrtValue *run(OrtSession *session, const OrtValue *input) {
    OrtAllocator *allocator;
    char *input_name, *output_name;
    OrtValue *output = NULL;
    check(ort->GetAllocatorWithDefaultOptions(&allocator), "allocator");
    check(ort->SessionGetInputName(session, 0, allocator, &input_name), "the first input");
    check(ort->SessionGetOutputName(session, 0, allocator, &output_name), "the first output");
    const char *const input_names[] = {input_name}, *const output_names[] = {output_name};
    check(ort->Run(session, NULL, input_names, &input, 1, output_names, 1, &output), "running the model");
    check(ort->AllocatorFree(allocator, input_name), "free");
    check(ort->AllocatorFree(allocator, output_name), "free");
    return output;
}

static void write_floats(OrtValue *value) {
    OrtTensorTypeAndShapeInfo *info;
    size_t count;
    void *data;
    check(ort->GetTensorTypeAndShape(value, &info), "shape of the output");
    check(ort->GetTensorShapeElementCount(info, &count), "size of the output");
    check(ort->GetTensorMutableData(value, &data), "data of the output");
    ort->ReleaseTensorTypeAndShapeInfo(info);
    if (fwrite(data, sizeof(float), count, stdout) != count || fflush(stdout)) fail("the standard output", "is full");
}

int main(int count, char **arguments) {
    const int rank = count - FIRST_DIMENSION;
    if (rank < 1 || rank > MOST_DIMENSIONS) fail("usage", "embed RUNTIME OPERATORS MODEL INPUT DIMENSION...");
    int64_t shape[MOST_DIMENSIONS];
    size_t numbers = 1;
    for (int i = 0; i < rank; i++) numbers *= (size_t)(shape[i] = atoll(arguments[FIRST_DIMENSION + i]));
    load_runtime(arguments[1]);
    float *data = read_floats(arguments[4], numbers);

    OrtEnv *env;
    OrtMemoryInfo *memory;
    OrtValue *input = NULL;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "embed", &env), "environment");
    OrtSession *session = open_session(env, arguments[3], arguments[2]);
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory), "memory");
    check(ort->CreateTensorWithDataAsOrtValue(memory, data, numbers * sizeof *data, shape, (size_t)rank,
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &input),
          "input");
    OrtValue *output = run(session, input);
    write_floats(output);

    ort->ReleaseValue(output);
    ort->ReleaseValue(input);
    ort->ReleaseMemoryInfo(memory);
    ort->ReleaseSession(session);
    ort->ReleaseEnv(env);
    free(data);
    return 0;
}
