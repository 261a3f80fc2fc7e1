/* Devices: counting, choosing, properties, attributes, contexts, peers. */
#include <stdio.h>
#include <string.h>

#include "call.h"
#include "exports.h"

_Thread_local int current_device;

enum {
    WAVE = 64, LDS = 65536, REGISTERS = 512 * 1024, MOST_THREADS = 1024, THREADS_PER_CU = 2048,
    VERSION = 70200000 /* HIP_VERSION_MAJOR * 10000000 + MINOR * 100000 + PATCH */
};
static unsigned device_flags[MAX_DEVICES];
static bool peers[MAX_DEVICES][MAX_DEVICES]; /* [who][whose memory] */

static bool is_device(int device) { return device >= 0 && device < config()->devices; }

hipError_t serve_hipInit(unsigned flags) { return flags ? hipErrorInvalidValue : hipSuccess; }

hipError_t serve_hipRuntimeGetVersion(int *version) {
    if (!version) return hipErrorInvalidValue;
    *version = VERSION;
    return hipSuccess;
}

hipError_t serve_hipDriverGetVersion(int *version) { return serve_hipRuntimeGetVersion(version); }

hipError_t serve_hipGetDeviceCount(int *count) {
    if (!count) return hipErrorInvalidValue;
    *count = config()->devices;
    return *count ? hipSuccess : hipErrorNoDevice;
}

hipError_t serve_hipGetDevice(int *device) {
    if (!device) return hipErrorInvalidValue;
    *device = current_device;
    return hipSuccess;
}

hipError_t serve_hipSetDevice(int device) {
    if (!is_device(device)) return hipErrorInvalidDevice;
    current_device = device;
    return hipSuccess;
}

hipError_t serve_hipDeviceGet(hipDevice_t *device, int ordinal) {
    if (!device) return hipErrorInvalidValue;
    if (!is_device(ordinal)) return hipErrorInvalidDevice;
    *device = ordinal;
    return hipSuccess;
}

hipError_t serve_hipDeviceGetName(char *name, int length, hipDevice_t device) {
    if (!is_device(device)) return hipErrorInvalidDevice;
    if (!name || length <= 0) return hipErrorInvalidValue;
    snprintf(name, (size_t)length, "%s", config()->model[device]->name);
    return hipSuccess;
}

hipError_t serve_hipDeviceTotalMem(size_t *bytes, hipDevice_t device) {
    if (!is_device(device)) return hipErrorInvalidDevice;
    if (!bytes) return hipErrorInvalidValue;
    *bytes = config()->memory;
    return hipSuccess;
}

hipError_t serve_hipDeviceComputeCapability(int *major, int *minor, hipDevice_t device) {
    if (!is_device(device)) return hipErrorInvalidDevice;
    if (!major || !minor) return hipErrorInvalidValue;
    *major = 9, *minor = strcmp(config()->model[device]->arch, "gfx942") ? 0 : 4;
    return hipSuccess;
}

hipError_t serve_hipDeviceGetUuid(hipUUID *uuid, hipDevice_t device) {
    if (!is_device(device)) return hipErrorInvalidDevice;
    if (!uuid) return hipErrorInvalidValue;
    char text[32];
    snprintf(text, sizeof text, "petitgen-virt-%02d", device);
    memcpy(uuid->bytes, text, sizeof uuid->bytes);
    return hipSuccess;
}

hipError_t serve_hipDeviceGetPCIBusId(char *text, int length, int device) {
    if (!is_device(device)) return hipErrorInvalidDevice;
    if (!text || length < 13) return hipErrorInvalidValue;
    snprintf(text, (size_t)length, "0000:%02x:00.0", device + 1);
    return hipSuccess;
}

hipError_t serve_hipDeviceGetByPCIBusId(int *device, const char *text) {
    unsigned domain, bus, slot, function;
    if (!device || !text) return hipErrorInvalidValue;
    if (sscanf(text, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4 || domain || slot || !is_device((int)bus - 1))
        return hipErrorInvalidValue;
    *device = (int)bus - 1;
    return hipSuccess;
}

hipError_t serve_hipSetDeviceFlags(unsigned flags) {
    device_flags[current_device] = flags;
    return hipSuccess;
}

hipError_t serve_hipGetDeviceFlags(unsigned *flags) {
    if (!flags) return hipErrorInvalidValue;
    *flags = device_flags[current_device];
    return hipSuccess;
}

/* --- properties ------------------------------------------------------------------------------------------ */

hipError_t serve_hipGetDevicePropertiesR0600(hipDeviceProp_tR0600 *p, int device) {
    if (!p) return hipErrorInvalidValue;
    if (!is_device(device)) return hipErrorInvalidDevice;
    const Model *m = config()->model[device];
    memset(p, 0, sizeof *p);
    strcpy(p->name, m->name);
    strcpy(p->gcnArchName, m->feature_name);
    serve_hipDeviceGetUuid(&p->uuid, device);
    serve_hipDeviceComputeCapability(&p->major, &p->minor, device);
    p->totalGlobalMem = config()->memory;
    p->totalConstMem = p->memPitch = 0x7fffffff;
    p->sharedMemPerBlock = p->sharedMemPerBlockOptin = p->sharedMemPerMultiprocessor = p->maxSharedMemoryPerMultiProcessor = LDS;
    p->regsPerBlock = p->regsPerMultiprocessor = REGISTERS / 4;
    p->warpSize = WAVE;
    p->maxThreadsPerBlock = p->maxThreadsDim[0] = p->maxThreadsDim[1] = p->maxThreadsDim[2] = MOST_THREADS;
    p->maxGridSize[0] = 0x7fffffff, p->maxGridSize[1] = p->maxGridSize[2] = 65536;
    p->maxThreadsPerMultiProcessor = THREADS_PER_CU;
    p->maxBlocksPerMultiProcessor = 32;
    p->multiProcessorCount = m->compute_units;
    p->clockRate = m->clock_khz, p->memoryClockRate = m->memory_clock_khz, p->memoryBusWidth = m->bus_bits;
    p->clockInstructionRate = 100000; /* s_memrealtime: 100 MHz */
    p->l2CacheSize = m->l2_bytes;
    p->textureAlignment = p->texturePitchAlignment = p->surfaceAlignment = 256;
    p->canMapHostMemory = p->concurrentKernels = p->unifiedAddressing = p->isLargeBar = p->ECCEnabled = 1;
    p->memoryPoolsSupported = p->managedMemory = p->hostRegisterSupported = p->streamPrioritiesSupported = 1;
    p->pciBusID = device + 1;
    p->arch = 0x1ffff & ~(1u << 14 | 1u << 15); /* every feature flag but surface functions and 3d textures */
    return hipSuccess;
}

hipError_t serve_hipGetDevicePropertiesR0000(hipDeviceProp_tR0000 *p, int device) {
    hipDeviceProp_tR0600 n;
    if (!p) return hipErrorInvalidValue;
    hipError_t error = serve_hipGetDevicePropertiesR0600(&n, device);
    if (error) return error;
    memset(p, 0, sizeof *p);
    memcpy(p->name, n.name, sizeof p->name);
    memcpy(p->gcnArchName, n.gcnArchName, sizeof p->gcnArchName);
    memcpy(p->maxThreadsDim, n.maxThreadsDim, sizeof p->maxThreadsDim);
    memcpy(p->maxGridSize, n.maxGridSize, sizeof p->maxGridSize);
#define SAME(field) p->field = n.field
    SAME(totalGlobalMem), SAME(sharedMemPerBlock), SAME(regsPerBlock), SAME(warpSize), SAME(maxThreadsPerBlock), SAME(clockRate);
    SAME(memoryClockRate), SAME(memoryBusWidth), SAME(totalConstMem), SAME(major), SAME(minor), SAME(multiProcessorCount), SAME(l2CacheSize);
    SAME(maxThreadsPerMultiProcessor), SAME(clockInstructionRate), SAME(arch), SAME(concurrentKernels), SAME(pciBusID);
    SAME(maxSharedMemoryPerMultiProcessor), SAME(canMapHostMemory), SAME(memPitch), SAME(textureAlignment), SAME(texturePitchAlignment);
    SAME(ECCEnabled), SAME(isLargeBar), SAME(managedMemory);
#undef SAME
    p->gcnArch = n.minor ? 942 : 910; /* ROCm 5 counted gfx90a as 910 */
    return hipSuccess;
}

/* By the old name, as programs compiled before ROCm 6 call it. */
hipError_t serve_hipGetDeviceProperties(hipDeviceProp_tR0000 *p, int device) { return serve_hipGetDevicePropertiesR0000(p, device); }

/* Numbers of hipDeviceAttribute_t (ROCm 6 and later). What is not listed and known is 0: a feature not there. */
enum {
    LAST_COMMON_ATTRIBUTE = 95, FIRST_AMD_ATTRIBUTE = 10000, LAST_AMD_ATTRIBUTE = 10022
};

static int attribute(const hipDeviceProp_tR0600 *p, const Model *m, int number) {
    const struct { int number; long long value; } table[] = {
        {0, p->ECCEnabled}, {3, p->canMapHostMemory}, {5, p->clockRate}, {8, p->concurrentKernels}, {19, p->l2CacheSize},
        {23, p->major}, {24, p->managedMemory}, {25, p->maxBlocksPerMultiProcessor}, {26, MOST_THREADS}, {27, MOST_THREADS},
        {28, MOST_THREADS}, {29, p->maxGridSize[0]}, {30, p->maxGridSize[1]}, {31, p->maxGridSize[2]}, {55, MOST_THREADS},
        {56, p->maxThreadsPerBlock}, {57, p->maxThreadsPerMultiProcessor}, {58, (long long)p->memPitch}, {59, p->memoryBusWidth},
        {60, p->memoryClockRate}, {61, p->minor}, {63, p->multiProcessorCount}, {67, p->pciBusID}, {68, p->pciDeviceID},
        {69, p->pciDomainID}, {71, p->regsPerBlock}, {72, p->regsPerMultiprocessor}, {74, LDS}, {75, LDS}, {76, LDS},
        {78, p->streamPrioritiesSupported}, {79, 256}, {81, 256}, {82, 256}, {83, (long long)p->totalConstMem},
        {84, p->totalGlobalMem > 0x7fffffff ? 0x7fffffff : (long long)p->totalGlobalMem}, {85, p->unifiedAddressing}, {87, WAVE},
        {88, 1}, {90, p->hostRegisterSupported}, {10000, p->clockInstructionRate}, {10002, LDS}, {10011, p->isLargeBar},
        {10015, m->compute_units}, {10016, 1}, {10017, 100000}, {10018, m->xccs}, {10019, 512},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].number == number) return (int)table[i].value;
    return 0;
}

hipError_t serve_hipDeviceGetAttribute(int *value, int number, int device) {
    hipDeviceProp_tR0600 p;
    if (!value) return hipErrorInvalidValue;
    hipError_t error = serve_hipGetDevicePropertiesR0600(&p, device);
    if (error) return error;
    bool known = (number >= 0 && number <= LAST_COMMON_ATTRIBUTE) || (number >= FIRST_AMD_ATTRIBUTE && number <= LAST_AMD_ATTRIBUTE);
    if (!known) return hipErrorInvalidValue;
    *value = attribute(&p, config()->model[device], number);
    return hipSuccess;
}

hipError_t serve_hipChooseDeviceR0600(int *device, const hipDeviceProp_tR0600 *wanted) {
    if (!device || !wanted) return hipErrorInvalidValue;
    *device = 0;
    for (int i = config()->devices - 1; i >= 0; i--)
        if (!strncmp(config()->model[i]->arch, wanted->gcnArchName, 6)) *device = i;
    return hipSuccess;
}

/* --- limits, peers, contexts ------------------------------------------------------------------------------- */

hipError_t serve_hipDeviceGetLimit(size_t *value, int limit) {
    enum { hipLimitStackSize, hipLimitPrintfFifoSize, hipLimitMallocHeapSize };
    if (!value) return hipErrorInvalidValue;
    if (limit < hipLimitStackSize || limit > hipLimitMallocHeapSize) return hipErrorUnsupportedLimit;
    *value = limit == hipLimitStackSize ? 1024 : 0; /* no printf and no heap in kernels */
    return hipSuccess;
}

/* Caches and banks are not modelled: settings are accepted, and the default is what is. */
static hipError_t accept(int setting, int most) { return setting >= 0 && setting <= most ? hipSuccess : hipErrorInvalidValue; }
hipError_t serve_hipDeviceSetCacheConfig(int setting) { return accept(setting, 3); }
hipError_t serve_hipDeviceSetSharedMemConfig(int setting) { return accept(setting, 2); }
hipError_t serve_hipDeviceGetCacheConfig(int *setting) { return setting ? (*setting = 0, hipSuccess) : hipErrorInvalidValue; }
hipError_t serve_hipDeviceGetSharedMemConfig(int *setting) { return setting ? (*setting = 0, hipSuccess) : hipErrorInvalidValue; }

hipError_t serve_hipDeviceGetP2PAttribute(int *value, int attribute, int device, int peer) {
    enum { PERFORMANCE_RANK, ACCESS_SUPPORTED, ATOMICS, ARRAY_ACCESS };
    if (!value || attribute < PERFORMANCE_RANK || attribute > ARRAY_ACCESS) return hipErrorInvalidValue;
    if (!is_device(device) || !is_device(peer) || device == peer) return hipErrorInvalidDevice;
    *value = attribute == ACCESS_SUPPORTED || attribute == ATOMICS;
    return hipSuccess;
}

hipError_t serve_hipDeviceGetStreamPriorityRange(int *least, int *greatest) {
    if (least) *least = 1;
    if (greatest) *greatest = -1;
    return hipSuccess;
}

hipError_t serve_hipDeviceCanAccessPeer(int *can, int device, int peer) {
    if (!can) return hipErrorInvalidValue;
    if (!is_device(device) || !is_device(peer)) return hipErrorInvalidDevice;
    *can = device != peer;
    return hipSuccess;
}

hipError_t serve_hipDeviceEnablePeerAccess(int peer, unsigned flags) {
    if (flags) return hipErrorInvalidValue;
    if (!is_device(peer) || peer == current_device) return hipErrorInvalidDevice;
    if (peers[current_device][peer]) return hipErrorPeerAccessAlreadyEnabled;
    peers[current_device][peer] = true;
    worker_note(CHANGE_PEER_ON, current_device, (uint64_t)peer, 0);
    return hipSuccess;
}

hipError_t serve_hipDeviceDisablePeerAccess(int peer) {
    if (!is_device(peer)) return hipErrorInvalidDevice;
    if (!peers[current_device][peer]) return hipErrorPeerAccessNotEnabled;
    peers[current_device][peer] = false;
    worker_note(CHANGE_PEER_OFF, current_device, (uint64_t)peer, 0);
    return hipSuccess;
}

hipError_t serve_hipDeviceSynchronize(void) { return hipSuccess; } /* work has run when its call returns */

static void drop_module(void *handle, void *device) {
    Module *module = handle;
    if (module->device == *(int *)device && object_remove(module, MODULE)) module_destroy(module);
}

hipError_t serve_hipDeviceReset(void) {
    object_each(MODULE, drop_module, &current_device);
    arena_free_device(current_device);
    device_healed(current_device);
    return hipSuccess;
}

/* A device's primary context is a number that is no pointer to anything: nothing looks inside. */
static hipCtx_t context_of(int device) { return (hipCtx_t)(uintptr_t)(0x1000 + device); }
static int device_of(hipCtx_t context) { return (int)((uintptr_t)context - 0x1000); }

hipError_t serve_hipDevicePrimaryCtxRetain(hipCtx_t *context, hipDevice_t device) {
    if (!context) return hipErrorInvalidValue;
    if (!is_device(device)) return hipErrorInvalidDevice;
    *context = context_of(device);
    return hipSuccess;
}

hipError_t serve_hipDevicePrimaryCtxRelease(hipDevice_t device) { return is_device(device) ? hipSuccess : hipErrorInvalidDevice; }

hipError_t serve_hipDevicePrimaryCtxGetState(hipDevice_t device, unsigned *flags, int *active) {
    if (!flags || !active) return hipErrorInvalidValue;
    if (!is_device(device)) return hipErrorInvalidDevice;
    *flags = device_flags[device], *active = 1;
    return hipSuccess;
}

hipError_t serve_hipCtxGetCurrent(hipCtx_t *context) { return serve_hipDevicePrimaryCtxRetain(context, current_device); }
hipError_t serve_hipCtxSetCurrent(hipCtx_t context) {
    return !context ? hipSuccess : is_device(device_of(context)) ? serve_hipSetDevice(device_of(context)) : hipErrorInvalidContext;
}
hipError_t serve_hipCtxGetDevice(hipDevice_t *device) { return serve_hipGetDevice(device); }
hipError_t serve_hipCtxSynchronize(void) { return hipSuccess; }

static _Thread_local int context_stack[16];
static _Thread_local int contexts;

hipError_t serve_hipCtxPushCurrent(hipCtx_t context) {
    if (!is_device(device_of(context))) return hipErrorInvalidContext;
    if (contexts == sizeof context_stack / sizeof *context_stack) return hipErrorInvalidValue;
    context_stack[contexts++] = current_device;
    return serve_hipSetDevice(device_of(context));
}

hipError_t serve_hipCtxPopCurrent(hipCtx_t *context) {
    if (!contexts) return hipErrorInvalidContext;
    if (context) *context = context_of(current_device);
    current_device = context_stack[--contexts];
    return hipSuccess;
}

/* Tell a worker that knows nothing yet whose kernels may access whose memory. */
void device_replay_peers(void) {
    for (int who = 0; who < config()->devices; who++)
        for (int whose = 0; whose < config()->devices; whose++)
            if (peers[who][whose]) worker_note(CHANGE_PEER_ON, who, (uint64_t)whose, 0);
}
