/* Devices: counting, choosing, names, limits, peers, contexts. Properties are in properties.c. */
#include <stdio.h>
#include <string.h>

#include "call.h"
#include "exports.h"

_Thread_local int current_device;

enum { VERSION = 70200000 /* HIP_VERSION_MAJOR * 10000000 + MINOR * 100000 + PATCH */ };
static unsigned device_flags[MAX_DEVICES];
static bool peers[MAX_DEVICES][MAX_DEVICES]; /* [who][whose memory] */

bool is_device(int device) { return device >= 0 && device < config()->devices; }

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
    if (sscanf(text, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4 || domain || slot ||
        !is_device((int)bus - 1))
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

/* --- limits, peers, contexts ------------------------------------------------------------------------------- */

hipError_t serve_hipDeviceGetLimit(size_t *value, int limit) {
    enum { hipLimitStackSize, hipLimitPrintfFifoSize, hipLimitMallocHeapSize };
    if (!value) return hipErrorInvalidValue;
    if (limit < hipLimitStackSize || limit > hipLimitMallocHeapSize) return hipErrorUnsupportedLimit;
    *value = limit == hipLimitStackSize ? 1024 : 0; /* no printf and no heap in kernels */
    return hipSuccess;
}

/* Caches and banks are not modelled: settings are accepted, and the default is what is. */
static hipError_t accept(int setting, int most) {
    return setting >= 0 && setting <= most ? hipSuccess : hipErrorInvalidValue;
}
hipError_t serve_hipDeviceSetCacheConfig(int setting) { return accept(setting, 3); }
hipError_t serve_hipDeviceSetSharedMemConfig(int setting) { return accept(setting, 2); }
hipError_t serve_hipDeviceGetCacheConfig(int *setting) {
    return setting ? (*setting = 0, hipSuccess) : hipErrorInvalidValue;
}
hipError_t serve_hipDeviceGetSharedMemConfig(int *setting) {
    return setting ? (*setting = 0, hipSuccess) : hipErrorInvalidValue;
}

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
    for (int peer = 0; peer < config()->devices; peer++)
        if (peers[current_device][peer]) serve_hipDeviceDisablePeerAccess(peer);
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

hipError_t serve_hipDevicePrimaryCtxRelease(hipDevice_t device) {
    return is_device(device) ? hipSuccess : hipErrorInvalidDevice;
}

hipError_t serve_hipDevicePrimaryCtxGetState(hipDevice_t device, unsigned *flags, int *active) {
    if (!flags || !active) return hipErrorInvalidValue;
    if (!is_device(device)) return hipErrorInvalidDevice;
    *flags = device_flags[device], *active = 1;
    return hipSuccess;
}

hipError_t serve_hipCtxGetCurrent(hipCtx_t *context) {
    return serve_hipDevicePrimaryCtxRetain(context, current_device);
}
hipError_t serve_hipCtxSetCurrent(hipCtx_t context) {
    return !context                        ? hipSuccess
           : is_device(device_of(context)) ? serve_hipSetDevice(device_of(context))
                                           : hipErrorInvalidContext;
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
