/* Launching: checks, the kernel argument segment, the run. Occupancy. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "exports.h"

enum {
    LDS = 65536,
    SIMDS = 4,
    MOST_WAVES = 8,
    WAVE = 64,
    REGISTERS = 512,
    REGISTER_GRANULE = 8,
    MOST_GROUPS = 32,
    LARGEST_KERNARG = 65536
};

/* --- kernel arguments ---------------------------------------------------------------------------------------------- */

static hipError_t from_extra(KernelWork *work, void **extra) {
    const void *data = NULL;
    size_t size = 0;
    for (int i = 0; extra[i] != HIP_LAUNCH_PARAM_END; i += 2) {
        if (i == 4) return hipErrorInvalidValue; /* after two pairs there can only be the end: read no further */
        if (extra[i] == HIP_LAUNCH_PARAM_BUFFER_POINTER)
            data = extra[i + 1];
        else if (extra[i] == HIP_LAUNCH_PARAM_BUFFER_SIZE && extra[i + 1])
            size = *(size_t *)extra[i + 1];
        else
            return hipErrorInvalidValue;
    }
    if ((!data && size) || size > LARGEST_KERNARG) return hipErrorInvalidValue;
    if (!config()->noop && size < work->function->explicit_bytes) {
        tell("launch of %s: %zu bytes of arguments, the kernel takes %u", work->function->name, size,
             work->function->explicit_bytes);
        return hipErrorInvalidValue;
    }
    uint32_t most = work->function->kernarg_bytes;
    work->bytes = config()->noop || size < most ? (uint32_t)size : most;
    if (!(work->kernarg = malloc(work->bytes + 1))) return hipErrorOutOfMemory;
    if (work->bytes) memcpy(work->kernarg, data, work->bytes);
    return hipSuccess;
}

static hipError_t from_params(KernelWork *work, void **params) {
    const Function *f = work->function;
    if (f->arguments && !params) {
        tell("launch of %s: no arguments given, the kernel takes %u", f->name, f->arguments);
        return hipErrorInvalidValue;
    }
    work->bytes = f->explicit_bytes;
    if (!(work->kernarg = calloc(1, work->bytes + 1))) return hipErrorOutOfMemory;
    for (uint32_t i = 0; i < f->arguments; i++) {
        if (!params[i]) return hipErrorInvalidValue;
        memcpy(work->kernarg + f->argument[i].offset, params[i], f->argument[i].size);
    }
    return hipSuccess;
}

static hipError_t check_shape(const Function *f, dim3 grid, dim3 block, uint32_t dynamic_lds) {
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (!grid.x || !grid.y || !grid.z || !threads) return hipErrorInvalidValue;
    if (block.x > 1024 || block.y > 1024 || block.z > 1024 || threads > f->max_threads) {
        tell("launch of %s: a block of %ux%ux%u; the kernel is compiled for at most %u work-items", f->name,
             block.x, block.y, block.z, f->max_threads);
        return hipErrorInvalidValue;
    }
    if ((uint64_t)grid.x * block.x > UINT32_MAX || (uint64_t)grid.y * block.y > UINT32_MAX ||
        (uint64_t)grid.z * block.z > UINT32_MAX)
        return hipErrorInvalidValue;
    if (dynamic_lds > LDS - f->lds) {
        tell("launch of %s: %u bytes of LDS beside its own %u; a workgroup has %d", f->name, dynamic_lds,
             f->lds, LDS);
        return hipErrorInvalidValue;
    }
    return hipSuccess;
}

hipError_t kernel_work(KernelWork *work, hipFunction_t function, dim3 grid, dim3 block, uint32_t dynamic_lds,
                       void **params, void **extra) {
    *work = (KernelWork){function, grid, block, dynamic_lds, 0, NULL};
    if (params && extra) return hipErrorInvalidValue;
    hipError_t error = check_shape(function, grid, block, dynamic_lds);
    if (!error) error = extra ? from_extra(work, extra) : from_params(work, params);
    if (error) {
        free(work->kernarg);
        work->kernarg = NULL;
    }
    return error;
}

/* --- running --------------------------------------------------------------------------------------------------------- */

hipError_t kernel_run(const KernelWork *work) {
    if (config()->noop) return hipSuccess;
    if (!object_is(work->function, FUNCTION)) {
        tell("launch: the kernel's module has been unloaded");
        return hipErrorInvalidDeviceFunction;
    }
    const Module *module = work->function->module;
    LaunchHeader header = {module->id,
                           work->function->index,
                           {work->grid.x, work->grid.y, work->grid.z},
                           {work->block.x, work->block.y, work->block.z},
                           work->dynamic_lds,
                           work->bytes};
    hipError_t error = worker_launch(&header, work->kernarg, module->device);
    if (error) device_failed(module->device, error);
    return error;
}

/* The benchmark's path: what a launch has to check, and nothing else. */
static hipError_t noop_launch(const Function *f, dim3 grid, dim3 block, uint32_t dynamic_lds, void **extra) {
    hipError_t error = check_shape(f, grid, block, dynamic_lds);
    return error || !extra || (extra[0] == HIP_LAUNCH_PARAM_BUFFER_POINTER && extra[1])
               ? error
               : hipErrorInvalidValue;
}

hipError_t launch(hipFunction_t function, dim3 grid, dim3 block, uint32_t dynamic_lds, hipStream_t stream,
                  void **params, void **extra) {
    Stream *s;
    hipError_t error = stream_for_work(stream, &s);
    if (error) return error;
    if (function->module->device != s->device) {
        tell("launch of %s: its module was loaded on device %d, the stream is on device %d", function->name,
             function->module->device, s->device);
        return hipErrorInvalidHandle;
    }
    if (config()->noop && !s->capture) return noop_launch(function, grid, block, dynamic_lds, extra);
    KernelWork work;
    error = kernel_work(&work, function, grid, block, dynamic_lds, params, extra);
    if (!error && !s->capture) error = kernel_run(&work);
    if (error || !s->capture) {
        free(work.kernarg);
        return error;
    }
    Node *node = node_new(hipGraphNodeTypeKernel);
    if (node)
        node->kernel = work;
    else
        free(work.kernarg);
    return node ? capture_work(s, node) : hipErrorOutOfMemory;
}

hipError_t any_function(const void *handle, hipFunction_t *function) {
    if (!object_is(handle, FUNCTION)) return registered_function(handle, function);
    *function = (hipFunction_t)(uintptr_t)handle;
    return hipSuccess;
}

hipError_t serve_hipModuleLaunchKernel(hipFunction_t f, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                       unsigned block_x, unsigned block_y, unsigned block_z,
                                       unsigned dynamic_lds, hipStream_t stream, void **params,
                                       void **extra) {
    if (!object_is(f, FUNCTION)) return hipErrorInvalidHandle;
    return launch(f, (dim3){grid_x, grid_y, grid_z}, (dim3){block_x, block_y, block_z}, dynamic_lds, stream,
                  params, extra);
}

/* As hipModuleLaunchKernel, but with the grid in work-items, and events around it. */
hipError_t serve_hipExtModuleLaunchKernel(hipFunction_t f, uint32_t items_x, uint32_t items_y,
                                          uint32_t items_z, uint32_t block_x, uint32_t block_y,
                                          uint32_t block_z, size_t dynamic_lds, hipStream_t stream,
                                          void **params, void **extra, hipEvent_t start, hipEvent_t stop,
                                          uint32_t flags) {
    if (!object_is(f, FUNCTION)) return hipErrorInvalidHandle;
    if (flags > 1 || !block_x || !block_y || !block_z || dynamic_lds > LDS) return hipErrorInvalidValue;
    if (items_x % block_x || items_y % block_y || items_z % block_z) {
        tell("hipExtModuleLaunchKernel: the grid, %ux%ux%u work-items, is no multiple of the block, "
             "%ux%ux%u; kernels here have whole workgroups",
             items_x, items_y, items_z, block_x, block_y, block_z);
        return hipErrorInvalidValue;
    }
    hipError_t error = start ? serve_hipEventRecord(start, stream) : hipSuccess;
    if (!error)
        error = launch(f, (dim3){items_x / block_x, items_y / block_y, items_z / block_z},
                       (dim3){block_x, block_y, block_z}, (uint32_t)dynamic_lds, stream, params, extra);
    return error || !stop ? error : serve_hipEventRecord(stop, stream);
}

hipError_t serve_hipHccModuleLaunchKernel(hipFunction_t f, uint32_t items_x, uint32_t items_y,
                                          uint32_t items_z, uint32_t block_x, uint32_t block_y,
                                          uint32_t block_z, size_t dynamic_lds, hipStream_t stream,
                                          void **params, void **extra, hipEvent_t start, hipEvent_t stop) {
    return serve_hipExtModuleLaunchKernel(f, items_x, items_y, items_z, block_x, block_y, block_z,
                                          dynamic_lds, stream, params, extra, start, stop, 0);
}

hipError_t serve_hipLaunchKernel(const void *host, dim3 grid, dim3 block, void **params, size_t dynamic_lds,
                                 hipStream_t stream) {
    hipFunction_t f;
    hipError_t error = any_function(host, &f);
    if (error) return error;
    if (dynamic_lds > LDS || !grid.x || !grid.y || !grid.z || !block.x || !block.y || !block.z)
        return hipErrorInvalidConfiguration;
    return launch(f, grid, block, (uint32_t)dynamic_lds, stream, params, NULL);
}

hipError_t serve_hipExtLaunchKernel(const void *host, dim3 grid, dim3 block, void **params,
                                    size_t dynamic_lds, hipStream_t stream, hipEvent_t start, hipEvent_t stop,
                                    int flags) {
    (void)flags;
    hipError_t error = start ? serve_hipEventRecord(start, stream) : hipSuccess;
    if (!error) error = serve_hipLaunchKernel(host, grid, block, params, dynamic_lds, stream);
    return error || !stop ? error : serve_hipEventRecord(stop, stream);
}

/* --- occupancy: what registers, LDS and wave slots of a CU leave room for --------------------------------------------- */

static int groups_per_cu(const Function *f, int block, size_t dynamic_lds) {
    int waves = (block + WAVE - 1) / WAVE;
    int registers = f->vgprs ? (int)(f->vgprs + REGISTER_GRANULE - 1) / REGISTER_GRANULE * REGISTER_GRANULE
                             : REGISTER_GRANULE;
    int slots = REGISTERS / registers < MOST_WAVES ? REGISTERS / registers : MOST_WAVES;
    int groups = slots * SIMDS / waves;
    size_t lds = f->lds + dynamic_lds;
    if (lds > LDS) return 0;
    if (lds && (int)(LDS / lds) < groups) groups = (int)(LDS / lds);
    return groups < MOST_GROUPS ? groups : MOST_GROUPS;
}

hipError_t serve_hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, hipFunction_t f, int block,
                                                                    size_t dynamic_lds) {
    if (!blocks || block < 1) return hipErrorInvalidValue;
    if (!object_is(f, FUNCTION)) return hipErrorInvalidDeviceFunction;
    *blocks = groups_per_cu(f, block, dynamic_lds);
    return hipSuccess;
}

hipError_t serve_hipModuleOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, hipFunction_t f,
                                                                             int block, size_t dynamic_lds,
                                                                             unsigned flags) {
    return flags ? hipErrorInvalidValue
                 : serve_hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(blocks, f, block, dynamic_lds);
}

hipError_t serve_hipOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int block,
                                                              size_t dynamic_lds) {
    hipFunction_t f;
    hipError_t error = any_function(function, &f);
    return error ? error
                 : serve_hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(blocks, f, block, dynamic_lds);
}

hipError_t serve_hipModuleOccupancyMaxPotentialBlockSize(int *grid, int *block, hipFunction_t f,
                                                         size_t dynamic_lds, int limit) {
    if (!grid || !block) return hipErrorInvalidValue;
    if (!object_is(f, FUNCTION)) return hipErrorInvalidDeviceFunction;
    int most = limit > 0 && limit < (int)f->max_threads ? limit : (int)f->max_threads, best = 0;
    *grid = *block = 0;
    for (int size = most; size >= 1; size = (size - 1) / WAVE * WAVE) {
        int groups = groups_per_cu(f, size, dynamic_lds);
        if (groups * size > best)
            best = groups * size, *block = size,
            *grid = groups * config()->model[f->module->device]->compute_units;
    }
    return hipSuccess;
}

hipError_t serve_hipOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function,
                                                                       int block, size_t dynamic_lds,
                                                                       unsigned flags) {
    return flags ? hipErrorInvalidValue
                 : serve_hipOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, block, dynamic_lds);
}

hipError_t serve_hipModuleOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *block, hipFunction_t f,
                                                                  size_t dynamic_lds, int limit,
                                                                  unsigned flags) {
    return flags ? hipErrorInvalidValue
                 : serve_hipModuleOccupancyMaxPotentialBlockSize(grid, block, f, dynamic_lds, limit);
}

hipError_t serve_hipOccupancyMaxPotentialBlockSize(int *grid, int *block, const void *function,
                                                   size_t dynamic_lds, int limit) {
    hipFunction_t f;
    hipError_t error = any_function(function, &f);
    return error ? error : serve_hipModuleOccupancyMaxPotentialBlockSize(grid, block, f, dynamic_lds, limit);
}
