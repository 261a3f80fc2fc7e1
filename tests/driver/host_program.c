/* A plain C program that uses HIP through AMD's own header or, without it, through the few declarations below.
   host_program KERNELS.hsaco */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HIP_HEADER
#include <hip/hip_runtime_api.h>
#else
typedef int hipError_t;
typedef void *hipModule_t, *hipFunction_t, *hipStream_t, *hipEvent_t, *hipGraph_t, *hipGraphExec_t, *hipDeviceptr_t;
enum { hipMemcpyHostToDevice = 1, hipMemcpyDeviceToHost = 2, hipStreamCaptureModeGlobal = 0 };
hipError_t hipInit(unsigned), hipGetDeviceCount(int *), hipMalloc(void **, size_t), hipFree(void *), hipDeviceSynchronize(void);
hipError_t hipMemcpy(void *, const void *, size_t, int), hipMemcpyAsync(void *, const void *, size_t, int, hipStream_t);
hipError_t hipModuleLoad(hipModule_t *, const char *), hipModuleGetFunction(hipFunction_t *, hipModule_t, const char *);
hipError_t hipModuleUnload(hipModule_t), hipStreamCreate(hipStream_t *), hipStreamDestroy(hipStream_t), hipStreamSynchronize(hipStream_t);
hipError_t hipModuleLaunchKernel(hipFunction_t, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, hipStream_t, void **,
                                 void **);
hipError_t hipStreamBeginCapture(hipStream_t, int), hipStreamEndCapture(hipStream_t, hipGraph_t *), hipGraphDestroy(hipGraph_t);
hipError_t hipGraphInstantiate(hipGraphExec_t *, hipGraph_t, void *, char *, size_t), hipGraphLaunch(hipGraphExec_t, hipStream_t);
hipError_t hipGraphExecDestroy(hipGraphExec_t), hipGetLastError(void);
const char *hipGetErrorString(hipError_t);
#endif

#define CHECK(call)                                                                                              \
    do {                                                                                                         \
        hipError_t error = (call);                                                                               \
        if (error) return printf("%s: %d %s\n", #call, (int)error, hipGetErrorString(error)), EXIT_FAILURE;      \
    } while (0)

enum { N = 1000 };

int main(int count, char **arguments) {
    int devices = 0, *data, host[N], value = 5;
    unsigned n = N;
    hipModule_t module;
    hipFunction_t add, store;
    hipStream_t stream;
    hipGraph_t graph;
    hipGraphExec_t runnable;
    if (count < 2) return EXIT_FAILURE;
    CHECK(hipInit(0));
    CHECK(hipGetDeviceCount(&devices));
    CHECK(hipModuleLoad(&module, arguments[1]));
    CHECK(hipModuleGetFunction(&add, module, "add"));
    CHECK(hipMalloc((void **)&data, sizeof host));
    for (int i = 0; i < N; i++) host[i] = i;
    CHECK(hipMemcpy(data, host, sizeof host, hipMemcpyHostToDevice));
    void *params[] = {&data, &value, &n};
    CHECK(hipModuleLaunchKernel(add, (N + 63) / 64, 1, 1, 64, 1, 1, 0, NULL, params, NULL));
    CHECK(hipStreamCreate(&stream));
    CHECK(hipStreamBeginCapture(stream, hipStreamCaptureModeGlobal));
    CHECK(hipModuleLaunchKernel(add, (N + 63) / 64, 1, 1, 64, 1, 1, 0, stream, params, NULL));
    CHECK(hipStreamEndCapture(stream, &graph));
    CHECK(hipGraphInstantiate(&runnable, graph, NULL, NULL, 0));
    for (int i = 0; i < 3; i++) CHECK(hipGraphLaunch(runnable, stream));
    CHECK(hipMemcpyAsync(host, data, sizeof host, hipMemcpyDeviceToHost, stream));
    CHECK(hipStreamSynchronize(stream));
    for (int i = 0; i < N; i++)
        if (host[i] != i + 20) return printf("host[%d] = %d\n", i, host[i]), EXIT_FAILURE;
#ifdef HIP_HEADER
    hipDeviceProp_t properties;
    hipPointerAttribute_t attributes;
    hipFuncAttributes about;
    CHECK(hipGetDeviceProperties(&properties, 0));
    if (properties.warpSize != 64 || properties.multiProcessorCount != 304 || strncmp(properties.gcnArchName, "gfx942", 6) ||
        properties.maxSharedMemoryPerMultiProcessor != 65536 || properties.isLargeBar != 1 || properties.l2CacheSize != 4 << 20)
        return printf("properties: %s, %d CUs\n", properties.gcnArchName, properties.multiProcessorCount), EXIT_FAILURE;
    CHECK(hipPointerGetAttributes(&attributes, data));
    CHECK(hipFuncGetAttributes(&about, add));
    if (attributes.devicePointer != data || about.maxThreadsPerBlock != 64) return printf("attributes\n"), EXIT_FAILURE;
#endif
    CHECK(hipGraphExecDestroy(runnable));
    CHECK(hipGraphDestroy(graph));
    CHECK(hipStreamDestroy(stream));
    void *nowhere = (void *)16, *wrong[] = {&nowhere};
    CHECK(hipModuleGetFunction(&store, module, "store_at"));
    hipError_t fault = hipModuleLaunchKernel(store, 1, 1, 1, 1, 1, 1, 0, NULL, wrong, NULL);
    printf("%d device, a fault is: %s\n", devices, hipGetErrorString(fault ? fault : hipDeviceSynchronize()));
    CHECK(hipFree(data));
    CHECK(hipModuleUnload(module));
    return EXIT_SUCCESS;
}
