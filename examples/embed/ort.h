/* As much of ONNX Runtime's C interface as main.c calls, under its own names.

   The Python packages of ONNX Runtime hold the library but no headers. Where you have onnxruntime_c_api.h, compile main.c
   with -DUSE_ONNXRUNTIME_HEADER instead. The interface is a table of functions that only grows at its end; `skipped`
   members stand for those that lie between. */
#ifndef EMBED_ORT_H
#define EMBED_ORT_H

#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION 17

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtValue OrtValue;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;

typedef enum OrtLoggingLevel { ORT_LOGGING_LEVEL_WARNING = 2 } OrtLoggingLevel;
typedef enum OrtAllocatorType { OrtArenaAllocator = 1 } OrtAllocatorType;
typedef enum OrtMemType { OrtMemTypeDefault = 0 } OrtMemType;
typedef enum ONNXTensorElementDataType { ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1 } ONNXTensorElementDataType;

#define SKIP(from, to) void (*skipped_##from[(to) - (from)])(void)

typedef struct OrtApi {
    SKIP(0, 2);
    const char *(*GetErrorMessage)(const OrtStatus *status); /* 2 */
    OrtStatus *(*CreateEnv)(OrtLoggingLevel level, const char *name, OrtEnv **env);
    SKIP(4, 7);
    OrtStatus *(*CreateSession)(const OrtEnv *env, const char *path, const OrtSessionOptions *options,
                                OrtSession **session); /* 7 */
    SKIP(8, 9);
    OrtStatus *(*Run)(OrtSession *session, const OrtRunOptions *options, const char *const *input_names,
                      const OrtValue *const *inputs, size_t input_count, const char *const *output_names,
                      size_t output_count, OrtValue **outputs); /* 9 */
    OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **options);
    SKIP(11, 24);
    OrtStatus *(*SetIntraOpNumThreads)(OrtSessionOptions *options, int threads); /* 24 */
    SKIP(25, 36);
    OrtStatus *(*SessionGetInputName)(const OrtSession *session, size_t index, OrtAllocator *allocator,
                                      char **name); /* 36 */
    OrtStatus *(*SessionGetOutputName)(const OrtSession *session, size_t index, OrtAllocator *allocator, char **name);
    SKIP(38, 49);
    OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *memory, void *data, size_t bytes,
                                                 const int64_t *shape, size_t rank, ONNXTensorElementDataType type,
                                                 OrtValue **value); /* 49 */
    SKIP(50, 51);
    OrtStatus *(*GetTensorMutableData)(OrtValue *value, void **data); /* 51 */
    SKIP(52, 64);
    OrtStatus *(*GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo *info, size_t *count); /* 64 */
    OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *value, OrtTensorTypeAndShapeInfo **info);
    SKIP(66, 69);
    OrtStatus *(*CreateCpuMemoryInfo)(OrtAllocatorType type, OrtMemType memory_type, OrtMemoryInfo **info); /* 69 */
    SKIP(70, 76);
    OrtStatus *(*AllocatorFree)(OrtAllocator *allocator, void *memory); /* 76 */
    SKIP(77, 78);
    OrtStatus *(*GetAllocatorWithDefaultOptions)(OrtAllocator **allocator); /* 78 */
    SKIP(79, 92);
    void (*ReleaseEnv)(OrtEnv *env); /* 92 */
    void (*ReleaseStatus)(OrtStatus *status);
    void (*ReleaseMemoryInfo)(OrtMemoryInfo *info);
    void (*ReleaseSession)(OrtSession *session);
    void (*ReleaseValue)(OrtValue *value);
    SKIP(97, 99);
    void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo *info); /* 99 */
    void (*ReleaseSessionOptions)(OrtSessionOptions *options);
    SKIP(101, 228);
    OrtStatus *(*RegisterCustomOpsLibrary_V2)(OrtSessionOptions *options, const char *library); /* 228 */
} OrtApi;

#undef SKIP

typedef struct OrtApiBase {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} OrtApiBase;

#endif
