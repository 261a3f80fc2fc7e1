/* Allocating and asking about memory. Pinned host memory and managed memory live in the arena as device memory does,
   so kernels reach them at the address the host uses. */
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "exports.h"

static hipError_t allocate(void **address, size_t size, int device, hipMemoryType type, unsigned flags,
                           const char *what) {
    if (!address) return hipErrorInvalidValue;
    *address = NULL;
    if (!size) return hipSuccess; /* HIP: success and a null pointer */
    hipError_t error = arena_allocate(size, device, type, flags, address);
    if (error == hipErrorOutOfMemory)
        tell("%s of %zu bytes: out of memory, %zu of %zu in use", what, size, arena_used(device),
             config()->memory);
    return error;
}

static hipError_t release(const void *address, hipMemoryType type) {
    return address ? arena_free(address, type) : hipSuccess;
}

hipError_t serve_hipMalloc(void **address, size_t size) {
    return allocate(address, size, current_device, hipMemoryTypeDevice, 0, "hipMalloc");
}

hipError_t serve_hipExtMallocWithFlags(void **address, size_t size, unsigned flags) {
    return allocate(address, size, current_device, hipMemoryTypeDevice, flags, "hipExtMallocWithFlags");
}

hipError_t serve_hipMallocManaged(void **address, size_t size, unsigned flags) {
    return allocate(address, size, current_device, hipMemoryTypeManaged, flags, "hipMallocManaged");
}

hipError_t serve_hipMallocPitch(void **address, size_t *pitch, size_t width, size_t height) {
    size_t padded, size;
    if (!address || !pitch) return hipErrorInvalidValue;
    *address = NULL, *pitch = 0;
    if (__builtin_add_overflow(width, 255, &padded)) return hipErrorOutOfMemory;
    padded -= padded % 256;
    if (__builtin_mul_overflow(padded, height, &size)) return hipErrorOutOfMemory;
    *pitch = padded;
    return allocate(address, size, current_device, hipMemoryTypeDevice, 0, "hipMallocPitch");
}

hipError_t serve_hipMemAllocPitch(hipDeviceptr_t *address, size_t *pitch, size_t width, size_t height,
                                  unsigned element) {
    return element == 4 || element == 8 || element == 16 ? serve_hipMallocPitch(address, pitch, width, height)
                                                         : hipErrorInvalidValue;
}

hipError_t serve_hipFree(void *address) { return release(address, hipMemoryTypeDevice); }

hipError_t serve_hipMallocAsync(void **address, size_t size, hipStream_t stream) {
    Stream *s;
    hipError_t error = stream_for_query(stream, &s);
    return error ? error : allocate(address, size, s->device, hipMemoryTypeDevice, 0, "hipMallocAsync");
}

hipError_t serve_hipFreeAsync(void *address, hipStream_t stream) {
    Stream *s;
    hipError_t error = stream_for_query(stream, &s);
    if (error) return error;
    return address ? release(address, hipMemoryTypeDevice) : hipErrorInvalidValue;
}

/* The one pool of a device, its default: a number that nothing looks behind. */
static hipMemPool_t pool_of(int device) { return (hipMemPool_t)(uintptr_t)(0x2000 + device); }
static bool is_pool(hipMemPool_t pool) { return (uintptr_t)pool - 0x2000 < (uintptr_t)config()->devices; }
static uint64_t pool_threshold[MAX_DEVICES];

hipError_t serve_hipDeviceGetDefaultMemPool(hipMemPool_t *pool, int device) {
    if (!pool) return hipErrorInvalidValue;
    if (device < 0 || device >= config()->devices) return hipErrorInvalidDevice;
    *pool = pool_of(device);
    return hipSuccess;
}
hipError_t serve_hipDeviceGetMemPool(hipMemPool_t *pool, int device) {
    return serve_hipDeviceGetDefaultMemPool(pool, device);
}

hipError_t serve_hipMallocFromPoolAsync(void **address, size_t size, hipMemPool_t pool, hipStream_t stream) {
    return is_pool(pool) ? serve_hipMallocAsync(address, size, stream) : hipErrorInvalidValue;
}

/* Nothing is kept when freed, so there is nothing to trim, and the release threshold is only remembered. */
hipError_t serve_hipMemPoolTrimTo(hipMemPool_t pool, size_t kept) {
    (void)kept;
    return is_pool(pool) ? hipSuccess : hipErrorInvalidValue;
}

enum { RELEASE_THRESHOLD = 4, RESERVED_NOW = 5, USED_NOW = 7 };

hipError_t serve_hipMemPoolSetAttribute(hipMemPool_t pool, int attribute, void *value) {
    if (!is_pool(pool) || !value) return hipErrorInvalidValue;
    if (attribute != RELEASE_THRESHOLD)
        return attribute > 0 && attribute < RELEASE_THRESHOLD ? hipSuccess : hipErrorInvalidValue;
    pool_threshold[(uintptr_t)pool - 0x2000] = *(uint64_t *)value;
    return hipSuccess;
}

hipError_t serve_hipMemPoolGetAttribute(hipMemPool_t pool, int attribute, void *value) {
    if (!is_pool(pool) || !value) return hipErrorInvalidValue;
    int device = (int)((uintptr_t)pool - 0x2000);
    if (attribute != RELEASE_THRESHOLD && attribute != RESERVED_NOW && attribute != USED_NOW)
        return hipErrorNotSupported;
    *(uint64_t *)value = attribute == RELEASE_THRESHOLD ? pool_threshold[device] : arena_used(device);
    return hipSuccess;
}

hipError_t serve_hipHostMalloc(void **address, size_t size, unsigned flags) {
    return allocate(address, size, HOST_MEMORY, hipMemoryTypeHost, flags, "hipHostMalloc");
}
hipError_t serve_hipHostAlloc(void **address, size_t size, unsigned flags) {
    return serve_hipHostMalloc(address, size, flags);
}
hipError_t serve_hipMallocHost(void **address, size_t size) { return serve_hipHostMalloc(address, size, 0); }
hipError_t serve_hipMemAllocHost(void **address, size_t size) {
    return serve_hipHostMalloc(address, size, 0);
}
hipError_t serve_hipHostFree(void *address) { return release(address, hipMemoryTypeHost); }
hipError_t serve_hipFreeHost(void *address) { return release(address, hipMemoryTypeHost); }

hipError_t serve_hipHostGetDevicePointer(void **device, void *host, unsigned flags) {
    Allocation a;
    if (!device || !host || flags) return hipErrorInvalidValue;
    if (!arena_find(host, &a) || a.type != hipMemoryTypeHost) {
        tell("hipHostGetDevicePointer: %p was not allocated with hipHostMalloc; kernels cannot reach other "
             "host memory here",
             host);
        return hipErrorInvalidValue;
    }
    *device = host;
    return hipSuccess;
}

hipError_t serve_hipHostGetFlags(unsigned *flags, void *host) {
    Allocation a;
    if (!flags || !arena_find(host, &a) || a.type != hipMemoryTypeHost) return hipErrorInvalidValue;
    *flags = a.flags;
    return hipSuccess;
}

/* --- registered host memory: remembered, so that registering twice is an error as in HIP ---------------------- */

typedef struct Registered {
    const char *start;
    size_t size;
    struct Registered *next;
} Registered;
static Registered *registered;

static Registered **registered_at(const void *start, size_t size) {
    Registered **at = &registered;
    while (*at &&
           !((*at)->start < (const char *)start + size && (const char *)start < (*at)->start + (*at)->size))
        at = &(*at)->next;
    return at;
}

hipError_t serve_hipHostRegister(void *start, size_t size, unsigned flags) {
    (void)flags;
    if (!start || !size) return hipErrorInvalidValue;
    Registered *fresh = malloc(sizeof *fresh);
    if (!fresh) return hipErrorOutOfMemory;
    lock();
    bool taken = *registered_at(start, size);
    if (!taken) {
        *fresh = (Registered){start, size, registered};
        registered = fresh;
    }
    unlock();
    if (taken) free(fresh);
    return taken ? hipErrorHostMemoryAlreadyRegistered : hipSuccess;
}

hipError_t serve_hipHostUnregister(void *start) {
    lock();
    Registered **at = registered_at(start, 1), *found = *at;
    bool there = found && found->start == start;
    if (there) *at = found->next;
    unlock();
    if (there) free(found);
    return there ? hipSuccess : hipErrorHostMemoryNotRegistered;
}

/* Managed memory is in one place for all, so advice and prefetching change nothing. */
hipError_t serve_hipMemAdvise(const void *address, size_t size, int advice, int device) {
    (void)advice, (void)device;
    return size && arena_has(address, size) ? hipSuccess : hipErrorInvalidValue;
}

hipError_t serve_hipMemPrefetchAsync(const void *address, size_t size, int device, hipStream_t stream) {
    Stream *s;
    hipError_t error = stream_for_work(stream, &s);
    return error ? error : serve_hipMemAdvise(address, size, 0, device);
}

/* --- questions --------------------------------------------------------------------------------------------- */

hipError_t serve_hipMemGetInfo(size_t *free_, size_t *total) {
    if (!free_ || !total) return hipErrorInvalidValue;
    *total = config()->memory, *free_ = *total - arena_used(current_device);
    return hipSuccess;
}

hipError_t serve_hipMemGetAddressRange(hipDeviceptr_t *base, size_t *size, hipDeviceptr_t address) {
    Allocation a;
    if (!arena_find(address, &a)) return hipErrorNotFound;
    if (base) *base = (void *)a.address;
    if (size) *size = a.size;
    return hipSuccess;
}

hipError_t serve_hipMemPtrGetInfo(void *address, size_t *size) {
    Allocation a;
    if (!size || !arena_find(address, &a)) return hipErrorInvalidValue;
    *size = a.size;
    return hipSuccess;
}

hipError_t serve_hipPointerGetAttributes(hipPointerAttribute_t *p, const void *address) {
    Allocation a;
    if (!p || !address) return hipErrorInvalidValue;
    memset(p, 0, sizeof *p);
    p->device = -1;
    if (!arena_find(address, &a)) {
        lock();
        bool host = *registered_at(address, 1);
        unlock();
        if (host) p->type = hipMemoryTypeHost, p->hostPointer = (void *)address;
        return hipSuccess; /* as since ROCm 6: memory unknown to HIP has the type Unregistered */
    }
    p->type = a.type, p->allocationFlags = a.flags;
    p->device = a.device == HOST_MEMORY ? current_device : a.device;
    p->devicePointer = (void *)address;
    p->isManaged = a.type == hipMemoryTypeManaged;
    if (a.type != hipMemoryTypeDevice) p->hostPointer = (void *)address;
    return hipSuccess;
}

hipError_t serve_hipPointerGetAttribute(void *data, int attribute, hipDeviceptr_t address) {
    enum {
        MEMORY_TYPE = 2,
        DEVICE_POINTER = 3,
        HOST_POINTER = 4,
        IS_MANAGED = 8,
        DEVICE_ORDINAL = 9,
        RANGE_START = 11,
        RANGE_SIZE = 12
    };
    Allocation a;
    hipPointerAttribute_t p;
    if (!data || !arena_find(address, &a)) return hipErrorInvalidValue;
    serve_hipPointerGetAttributes(&p, address);
    switch (attribute) {
        case MEMORY_TYPE: *(unsigned *)data = p.type; return hipSuccess;
        case DEVICE_POINTER: *(void **)data = p.devicePointer; return hipSuccess;
        case HOST_POINTER:
            *(void **)data = p.hostPointer;
            return p.hostPointer ? hipSuccess : hipErrorInvalidValue;
        case IS_MANAGED: *(bool *)data = p.isManaged; return hipSuccess;
        case DEVICE_ORDINAL: *(int *)data = p.device; return hipSuccess;
        case RANGE_START: *(uint64_t *)data = a.address; return hipSuccess;
        case RANGE_SIZE: *(size_t *)data = a.size; return hipSuccess;
        default: return hipErrorNotSupported;
    }
}
