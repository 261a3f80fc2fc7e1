/* Programs that hipcc compiled as a whole: their constructors register code objects, kernels and variables here, and
   <<<>>> becomes hipLaunchKernel of a host function. Code objects load at the first use on a device.
   source: clang, lib/CodeGen/CGCUDANV.cpp describes the calls; FatBinary is its wrapper section. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "exports.h"

enum { FAT_BINARY_MAGIC = 0x48495046 }; /* "HIPF" */
typedef struct {
    uint32_t magic, version;
    const void *image, *unused;
} FatBinary;
typedef struct Registration {
    const FatBinary *binary;
    Module *module[MAX_DEVICES];
} Registration;
typedef struct {
    Registration *from;
    const void *host;
    const char *name;
} Entry;
typedef struct {
    Entry *entry;
    size_t count;
} Entries;
typedef struct {
    dim3 grid, block;
    size_t lds;
    hipStream_t stream;
} Configuration;

static Entries kernels, variables;
static _Thread_local Configuration configurations[16];
static _Thread_local int configured;

static void enter(Entries *to, Registration *from, const void *host, const char *name) {
    lock();
    Entry *grown = realloc(to->entry, (to->count + 1) * sizeof *grown);
    if (grown) {
        to->entry = grown;
        to->entry[to->count++] = (Entry){from, host, name};
    }
    unlock();
}

static void leave(Entries *from, const Registration *gone) {
    size_t kept = 0;
    for (size_t i = 0; i < from->count; i++)
        if (from->entry[i].from != gone) from->entry[kept++] = from->entry[i];
    from->count = kept;
}

EXPORT void **__hipRegisterFatBinary(const void *data) {
    const FatBinary *binary = data;
    Registration *fresh = binary->magic == FAT_BINARY_MAGIC ? calloc(1, sizeof *fresh) : NULL;
    if (fresh) fresh->binary = binary;
    return (void **)fresh;
}

EXPORT void __hipUnregisterFatBinary(void **handle) {
    Registration *gone = (Registration *)handle;
    if (!gone) return;
    lock();
    leave(&kernels, gone), leave(&variables, gone);
    unlock();
    free(gone); /* the modules end with the process, which is what is about to happen */
}

EXPORT void __hipRegisterFunction(void **handle, const void *host, char *name, const char *device_name,
                                  unsigned threads, void *a, void *b, void *c, void *d, int *e) {
    (void)name, (void)threads, (void)a, (void)b, (void)c, (void)d, (void)e;
    if (handle) enter(&kernels, (Registration *)handle, host, device_name);
}

EXPORT void __hipRegisterVar(void **handle, void *host, char *name, char *device_name, int external,
                             size_t size, int constant, int global) {
    (void)name, (void)external, (void)size, (void)constant, (void)global;
    if (handle) enter(&variables, (Registration *)handle, host, device_name);
}

static hipError_t module_of(Registration *from, Module **module) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    hipError_t error = hipSuccess;
    pthread_mutex_lock(&mutex);
    Module **place = &from->module[current_device];
    if (*place && !object_is(*place, MODULE)) *place = NULL; /* hipDeviceReset has unloaded it */
    if (!*place) error = module_from_image(from->binary->image, LARGEST_IMAGE, place);
    *module = *place;
    pthread_mutex_unlock(&mutex);
    return error;
}

static bool find(const Entries *in, const void *host, Entry *found) {
    bool there = false;
    lock();
    for (size_t i = 0; !there && i < in->count; i++)
        if (in->entry[i].host == host) *found = in->entry[i], there = true;
    unlock();
    return there;
}

hipError_t registered_function(const void *host, hipFunction_t *function) {
    Entry entry;
    Module *module;
    if (!find(&kernels, host, &entry)) return hipErrorInvalidDeviceFunction;
    hipError_t error = module_of(entry.from, &module);
    return error ? error : serve_hipModuleGetFunction(function, module, entry.name);
}

hipError_t serve_hipGetFuncBySymbol(hipFunction_t *function, const void *host) {
    return function ? registered_function(host, function) : hipErrorInvalidValue;
}

/* --- <<<>>> ------------------------------------------------------------------------------------------------------------ */

hipError_t serve___hipPushCallConfiguration(dim3 grid, dim3 block, size_t lds, hipStream_t stream) {
    if (configured == sizeof configurations / sizeof *configurations) return hipErrorInvalidConfiguration;
    configurations[configured++] = (Configuration){grid, block, lds, stream};
    return hipSuccess;
}

hipError_t serve___hipPopCallConfiguration(dim3 *grid, dim3 *block, size_t *lds, hipStream_t *stream) {
    if (!configured) return hipErrorMissingConfiguration;
    Configuration top = configurations[--configured];
    *grid = top.grid, *block = top.block, *lds = top.lds, *stream = top.stream;
    return hipSuccess;
}

/* --- variables ------------------------------------------------------------------------------------------------------------ */

static hipError_t symbol(const void *host, void **address, size_t *size) {
    Entry entry;
    Module *module;
    if (!find(&variables, host, &entry)) return hipErrorInvalidSymbol;
    hipError_t error = module_of(entry.from, &module);
    return error ? error : serve_hipModuleGetGlobal(address, size, module, entry.name);
}

hipError_t serve_hipGetSymbolAddress(void **address, const void *host) {
    size_t size;
    return address ? symbol(host, address, &size) : hipErrorInvalidValue;
}

hipError_t serve_hipGetSymbolSize(size_t *size, const void *host) {
    void *address;
    return size ? symbol(host, &address, size) : hipErrorInvalidValue;
}

hipError_t serve_hipMemcpyToSymbol(const void *host, const void *from, size_t size, size_t offset,
                                   hipMemcpyKind kind) {
    return serve_hipMemcpyToSymbolAsync(host, from, size, offset, kind, NULL);
}

hipError_t serve_hipMemcpyFromSymbol(void *to, const void *host, size_t size, size_t offset,
                                     hipMemcpyKind kind) {
    return serve_hipMemcpyFromSymbolAsync(to, host, size, offset, kind, NULL);
}

hipError_t serve_hipMemcpyToSymbolAsync(const void *host, const void *from, size_t size, size_t offset,
                                        hipMemcpyKind kind, hipStream_t stream) {
    void *address;
    size_t room;
    hipError_t error = symbol(host, &address, &room);
    if (error) return error;
    return offset > room || size > room - offset
               ? hipErrorInvalidValue
               : serve_hipMemcpyAsync((char *)address + offset, from, size, kind, stream);
}

hipError_t serve_hipMemcpyFromSymbolAsync(void *to, const void *host, size_t size, size_t offset,
                                          hipMemcpyKind kind, hipStream_t stream) {
    void *address;
    size_t room;
    hipError_t error = symbol(host, &address, &room);
    if (error) return error;
    return offset > room || size > room - offset
               ? hipErrorInvalidValue
               : serve_hipMemcpyAsync(to, (char *)address + offset, size, kind, stream);
}

EXPORT const char *hipKernelNameRef(hipFunction_t function) {
    return object_is(function, FUNCTION) ? function->name : NULL;
}

EXPORT const char *hipKernelNameRefByPtr(const void *host, hipStream_t stream) {
    Entry entry;
    (void)stream;
    return find(&kernels, host, &entry) ? entry.name : NULL;
}
