// A whole HIP program, host and device, as hipcc would compile it; without HIP's headers, which need not be there.
typedef unsigned long size_t;
typedef unsigned u32;
struct dim3 { u32 x, y, z; dim3(u32 x, u32 y = 1, u32 z = 1) : x(x), y(y), z(z) {} };
typedef int hipError_t;
typedef struct ihipStream_t *hipStream_t;
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __host__ __attribute__((host))

extern "C" {
hipError_t hipMalloc(void **, size_t);
hipError_t hipFree(void *);
hipError_t hipMemcpy(void *, const void *, size_t, int);
hipError_t hipLaunchKernel(const void *, dim3, dim3, void **, size_t, hipStream_t);
hipError_t __hipPushCallConfiguration(dim3, dim3, size_t = 0, hipStream_t = 0);
hipError_t __hipPopCallConfiguration(dim3 *, dim3 *, size_t *, hipStream_t *);
hipError_t hipMemcpyToSymbol(const void *, const void *, size_t, size_t, int);
hipError_t hipMemcpyFromSymbol(void *, const void *, size_t, size_t, int);
hipError_t hipMemcpyToSymbolAsync(const void *, const void *, size_t, size_t, int, hipStream_t);
hipError_t hipMemcpyFromSymbolAsync(void *, const void *, size_t, size_t, int, hipStream_t);
hipError_t hipGetSymbolAddress(void **, const void *);
hipError_t hipGetSymbolSize(size_t *, const void *);
hipError_t hipGetFuncBySymbol(void **, const void *);
hipError_t hipExtLaunchKernel(const void *, dim3, dim3, void **, size_t, hipStream_t, void *, void *, int);
hipError_t hipDeviceSynchronize(void);
const char *hipKernelNameRefByPtr(const void *, hipStream_t);
int printf(const char *, ...);
}

__device__ int offset = 3;

__global__ void scale(int *data, int factor) {
    u32 i = __builtin_amdgcn_workgroup_id_x() * 64 + __builtin_amdgcn_workitem_id_x();
    data[i] = data[i] * factor + offset;
}

#define CHECK(call) if (int error = (call)) return printf("line %d: error %d\n", __LINE__, error), 1

int main() {
    int host[128], *data, eleven = 11, back = 0;
    size_t size = 0;
    void *address = 0, *function = 0;
    for (int i = 0; i < 128; i++) host[i] = i;
    CHECK(hipMalloc((void **)&data, sizeof host));
    CHECK(hipMemcpy(data, host, sizeof host, 1));
    scale<<<dim3(2), dim3(64)>>>(data, 10);
    CHECK(hipDeviceSynchronize());
    CHECK(hipMemcpyToSymbol((const void *)&offset, &eleven, 4, 0, 1));
    CHECK(hipMemcpyFromSymbol(&back, (const void *)&offset, 4, 0, 2));
    if (back != 11) return printf("symbol is %d\n", back), 1;
    CHECK(hipMemcpyToSymbolAsync((const void *)&offset, &eleven, 4, 0, 1, 0));
    CHECK(hipMemcpyFromSymbolAsync(&back, (const void *)&offset, 4, 0, 2, 0));
    CHECK(hipGetSymbolAddress(&address, (const void *)&offset));
    CHECK(hipGetSymbolSize(&size, (const void *)&offset));
    if (!address || size != 4) return printf("symbol at %p has %lu bytes\n", address, size), 1;
    scale<<<dim3(2), dim3(64)>>>(data, 2);
    CHECK(hipGetFuncBySymbol(&function, (const void *)scale));
    int factor = 1;
    void *arguments[] = {&data, &factor};
    CHECK(hipExtLaunchKernel((const void *)scale, dim3(2), dim3(64), arguments, 0, 0, 0, 0, 0));
    CHECK(hipMemcpy(host, data, sizeof host, 2));
    for (int i = 0; i < 128; i++)
        if (host[i] != (i * 10 + 3) * 2 + 22) return printf("host[%d] = %d\n", i, host[i]), 1;
    if (hipMemcpyToSymbol((const void *)&offset, &eleven, 4, 1, 1) != 1) return printf("past the symbol's end\n"), 1;
    CHECK(hipFree(data));
    printf("kernel %s: right\n", hipKernelNameRefByPtr((const void *)scale, 0));
}
