/* What a device says about itself: the two property structs, and attributes by number. */
#include <string.h>

#include "call.h"
#include "exports.h"

enum { WAVE = 64, LDS = 65536, REGISTERS = 512 * 1024, MOST_THREADS = 1024, THREADS_PER_CU = 2048 };

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
    p->sharedMemPerBlock = p->sharedMemPerBlockOptin = p->sharedMemPerMultiprocessor =
        p->maxSharedMemoryPerMultiProcessor = LDS;
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
    SAME(totalGlobalMem), SAME(sharedMemPerBlock), SAME(regsPerBlock), SAME(warpSize),
        SAME(maxThreadsPerBlock), SAME(clockRate);
    SAME(memoryClockRate), SAME(memoryBusWidth), SAME(totalConstMem), SAME(major), SAME(minor),
        SAME(multiProcessorCount), SAME(l2CacheSize);
    SAME(maxThreadsPerMultiProcessor), SAME(clockInstructionRate), SAME(arch), SAME(concurrentKernels),
        SAME(pciBusID);
    SAME(maxSharedMemoryPerMultiProcessor), SAME(canMapHostMemory), SAME(memPitch), SAME(textureAlignment),
        SAME(texturePitchAlignment);
    SAME(ECCEnabled), SAME(isLargeBar), SAME(managedMemory);
#undef SAME
    p->gcnArch = n.minor ? 942 : 910; /* ROCm 5 counted gfx90a as 910 */
    return hipSuccess;
}

/* By the old name, as programs compiled before ROCm 6 call it. */
hipError_t serve_hipGetDeviceProperties(hipDeviceProp_tR0000 *p, int device) {
    return serve_hipGetDevicePropertiesR0000(p, device);
}

/* Numbers of hipDeviceAttribute_t (ROCm 6 and later). What is not listed and known is 0: a feature not there. */
enum { LAST_COMMON_ATTRIBUTE = 95, FIRST_AMD_ATTRIBUTE = 10000, LAST_AMD_ATTRIBUTE = 10022 };

static int attribute(const hipDeviceProp_tR0600 *p, const Model *m, int number) {
    const struct {
        int number;
        long long value;
    } table[] = {
        {0, p->ECCEnabled},
        {3, p->canMapHostMemory},
        {5, p->clockRate},
        {8, p->concurrentKernels},
        {19, p->l2CacheSize},
        {23, p->major},
        {24, p->managedMemory},
        {25, p->maxBlocksPerMultiProcessor},
        {26, MOST_THREADS},
        {27, MOST_THREADS},
        {28, MOST_THREADS},
        {29, p->maxGridSize[0]},
        {30, p->maxGridSize[1]},
        {31, p->maxGridSize[2]},
        {55, MOST_THREADS},
        {56, p->maxThreadsPerBlock},
        {57, p->maxThreadsPerMultiProcessor},
        {58, (long long)p->memPitch},
        {59, p->memoryBusWidth},
        {60, p->memoryClockRate},
        {61, p->minor},
        {63, p->multiProcessorCount},
        {67, p->pciBusID},
        {68, p->pciDeviceID},
        {69, p->pciDomainID},
        {71, p->regsPerBlock},
        {72, p->regsPerMultiprocessor},
        {74, LDS},
        {75, LDS},
        {76, LDS},
        {78, p->streamPrioritiesSupported},
        {79, 256},
        {81, 256},
        {82, 256},
        {83, (long long)p->totalConstMem},
        {84, p->totalGlobalMem > 0x7fffffff ? 0x7fffffff : (long long)p->totalGlobalMem},
        {85, p->unifiedAddressing},
        {87, WAVE},
        {88, 1},
        {90, p->hostRegisterSupported},
        {10000, p->clockInstructionRate},
        {10002, LDS},
        {10011, p->isLargeBar},
        {10015, m->compute_units},
        {10016, 1},
        {10017, 100000},
        {10018, m->xccs},
        {10019, 512},
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
    bool known = (number >= 0 && number <= LAST_COMMON_ATTRIBUTE) ||
                 (number >= FIRST_AMD_ATTRIBUTE && number <= LAST_AMD_ATTRIBUTE);
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
