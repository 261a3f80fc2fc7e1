/* The HIP ABI we serve: numbers and layouts only, as published in AMD's HIP API reference (ROCm 5 to 7).
   Enumerators are named as HIP names them, so that a reader can look them up there. */
#ifndef PETITGEN_HIP_ABI_H
#define PETITGEN_HIP_ABI_H

#include <stddef.h>
#include <stdint.h>

typedef int hipDevice_t;
typedef void *hipDeviceptr_t;
typedef struct Stream *hipStream_t;
typedef struct Event *hipEvent_t;
typedef struct Module *hipModule_t;
typedef struct Function *hipFunction_t;
typedef struct Graph *hipGraph_t;
typedef struct GraphExec *hipGraphExec_t;
typedef struct Node *hipGraphNode_t;
typedef struct Context *hipCtx_t;
typedef struct Pool *hipMemPool_t;
typedef void (*hipHostFn_t)(void *);
typedef void (*hipStreamCallback_t)(hipStream_t, int, void *);

/* Errors: the X-macro gives the enumerators here and names and texts in errors.c. */
#define HIP_ERRORS(X) \
    X(0, hipSuccess, "no error") \
    X(1, hipErrorInvalidValue, "invalid argument") \
    X(2, hipErrorOutOfMemory, "out of memory") \
    X(3, hipErrorNotInitialized, "initialization error") \
    X(4, hipErrorDeinitialized, "driver shutting down") \
    X(9, hipErrorInvalidConfiguration, "invalid configuration argument") \
    X(12, hipErrorInvalidPitchValue, "invalid pitch argument") \
    X(13, hipErrorInvalidSymbol, "invalid device symbol") \
    X(17, hipErrorInvalidDevicePointer, "invalid device pointer") \
    X(21, hipErrorInvalidMemcpyDirection, "invalid copy direction for memcpy") \
    X(35, hipErrorInsufficientDriver, "driver version is insufficient for runtime version") \
    X(52, hipErrorMissingConfiguration, "__global__ function call is not configured") \
    X(53, hipErrorPriorLaunchFailure, "unspecified launch failure in prior launch") \
    X(98, hipErrorInvalidDeviceFunction, "invalid device function") \
    X(100, hipErrorNoDevice, "no ROCm-capable device is detected") \
    X(101, hipErrorInvalidDevice, "invalid device ordinal") \
    X(200, hipErrorInvalidImage, "device kernel image is invalid") \
    X(201, hipErrorInvalidContext, "invalid device context") \
    X(205, hipErrorMapFailed, "mapping of buffer object failed") \
    X(209, hipErrorNoBinaryForGpu, "no kernel image is available for execution on the device") \
    X(215, hipErrorUnsupportedLimit, "limit is not supported on this architecture") \
    X(217, hipErrorPeerAccessUnsupported, "peer access is not supported between these two devices") \
    X(218, hipErrorInvalidKernelFile, "invalid kernel file") \
    X(300, hipErrorInvalidSource, "device kernel image is invalid") \
    X(301, hipErrorFileNotFound, "file not found") \
    X(302, hipErrorSharedObjectSymbolNotFound, "shared object symbol not found") \
    X(303, hipErrorSharedObjectInitFailed, "shared object initialization failed") \
    X(304, hipErrorOperatingSystem, "OS call failed or operation not supported on this OS") \
    X(400, hipErrorInvalidHandle, "invalid resource handle") \
    X(401, hipErrorIllegalState, "the operation cannot be performed in the present state") \
    X(500, hipErrorNotFound, "named symbol not found") \
    X(600, hipErrorNotReady, "device not ready") \
    X(700, hipErrorIllegalAddress, "an illegal memory access was encountered") \
    X(701, hipErrorLaunchOutOfResources, "too many resources requested for launch") \
    X(702, hipErrorLaunchTimeOut, "the launch timed out and was terminated") \
    X(704, hipErrorPeerAccessAlreadyEnabled, "peer access is already enabled") \
    X(705, hipErrorPeerAccessNotEnabled, "peer access has not been enabled") \
    X(708, hipErrorSetOnActiveProcess, "cannot set while device is active in this process") \
    X(709, hipErrorContextIsDestroyed, "context is destroyed") \
    X(710, hipErrorAssert, "device-side assert triggered") \
    X(712, hipErrorHostMemoryAlreadyRegistered, \
      "part or all of the requested memory range is already mapped") \
    X(713, hipErrorHostMemoryNotRegistered, "pointer does not correspond to a registered memory region") \
    X(719, hipErrorLaunchFailure, "unspecified launch failure") \
    X(720, hipErrorCooperativeLaunchTooLarge, "too many blocks in cooperative launch") \
    X(801, hipErrorNotSupported, "operation not supported") \
    X(900, hipErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing") \
    X(901, hipErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture") \
    X(902, hipErrorStreamCaptureMerge, "operation would result in a merge of separate capture sequences") \
    X(903, hipErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began") \
    X(904, hipErrorStreamCaptureUnjoined, "capturing stream has unjoined work") \
    X(905, hipErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream") \
    X(906, hipErrorStreamCaptureImplicit, \
      "operation would make the legacy stream depend on a capturing blocking stream") \
    X(907, hipErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream") \
    X(908, hipErrorStreamCaptureWrongThread, \
      "attempt to terminate a thread-local capture sequence from another thread") \
    X(910, hipErrorGraphExecUpdateFailure, \
      "the graph update was not performed because it included changes which violated constraints specific " \
      "to instantiated graph update") \
    X(999, hipErrorUnknown, "unknown error")

typedef enum {
#define X(number, name, text) name = number,
    HIP_ERRORS(X)
#undef X
} hipError_t;

typedef enum {
    hipMemcpyHostToHost,
    hipMemcpyHostToDevice,
    hipMemcpyDeviceToHost,
    hipMemcpyDeviceToDevice,
    hipMemcpyDefault,
    hipMemcpyDeviceToDeviceNoCU = 1024
} hipMemcpyKind;

/* The numbers of ROCm 6 and later (ROCm 5 had host 0, device 1). */
typedef enum {
    hipMemoryTypeUnregistered,
    hipMemoryTypeHost,
    hipMemoryTypeDevice,
    hipMemoryTypeManaged,
    hipMemoryTypeArray = 10,
    hipMemoryTypeUnified = 11
} hipMemoryType;

typedef enum {
    hipStreamCaptureStatusNone,
    hipStreamCaptureStatusActive,
    hipStreamCaptureStatusInvalidated
} hipStreamCaptureStatus;
typedef enum {
    hipStreamCaptureModeGlobal,
    hipStreamCaptureModeThreadLocal,
    hipStreamCaptureModeRelaxed
} hipStreamCaptureMode;
typedef enum {
    hipGraphNodeTypeKernel,
    hipGraphNodeTypeMemcpy,
    hipGraphNodeTypeMemset,
    hipGraphNodeTypeHost,
    hipGraphNodeTypeGraph,
    hipGraphNodeTypeEmpty
} hipGraphNodeType;

#define hipStreamLegacy ((hipStream_t)1)
#define hipStreamPerThread ((hipStream_t)2)
#define HIP_LAUNCH_PARAM_BUFFER_POINTER ((void *)1)
#define HIP_LAUNCH_PARAM_BUFFER_SIZE ((void *)2)
#define HIP_LAUNCH_PARAM_END ((void *)3)
enum { hipStreamNonBlocking = 1, hipEventDisableTiming = 2, hipStreamSetCaptureDependencies = 1 };

typedef struct {
    uint32_t x, y, z;
} dim3;
typedef struct {
    char bytes[16];
} hipUUID;
typedef struct {
    hipMemoryType type;
    int device;
    void *devicePointer, *hostPointer;
    int isManaged;
    unsigned allocationFlags;
} hipPointerAttribute_t;
typedef struct {
    size_t width, height, depth;
} hipExtent;
typedef struct {
    size_t x, y, z;
} hipPos;
typedef struct {
    void *ptr;
    size_t pitch, xsize, ysize;
} hipPitchedPtr;
typedef struct {
    void *srcArray;
    hipPos srcPos;
    hipPitchedPtr srcPtr;
    void *dstArray;
    hipPos dstPos;
    hipPitchedPtr dstPtr;
    hipExtent extent;
    hipMemcpyKind kind;
} hipMemcpy3DParms;
typedef struct {
    size_t srcXInBytes, srcY;
    hipMemoryType srcMemoryType;
    const void *srcHost;
    hipDeviceptr_t srcDevice;
    void *srcArray;
    size_t srcPitch;
    size_t dstXInBytes, dstY;
    hipMemoryType dstMemoryType;
    void *dstHost;
    hipDeviceptr_t dstDevice;
    void *dstArray;
    size_t dstPitch;
    size_t WidthInBytes, Height;
} hip_Memcpy2D;
typedef struct {
    dim3 blockDim;
    void **extra;
    void *func;
    dim3 gridDim;
    void **kernelParams;
    unsigned sharedMemBytes;
} hipKernelNodeParams;
typedef struct {
    void *dst;
    unsigned elementSize;
    size_t height, pitch;
    unsigned value;
    size_t width;
} hipMemsetParams;
typedef struct {
    hipHostFn_t fn;
    void *userData;
} hipHostNodeParams;
typedef struct {
    int binaryVersion, cacheModeCA;
    size_t constSizeBytes, localSizeBytes;
    int maxDynamicSharedSizeBytes, maxThreadsPerBlock, numRegs, preferredShmemCarveout, ptxVersion;
    size_t sharedSizeBytes;
} hipFuncAttributes;

/* hipDeviceProp_t as of ROCm 6 (hipDeviceProp_tR0600). */
typedef struct {
    char name[256];
    hipUUID uuid;
    char luid[8];
    unsigned luidDeviceNodeMask;
    size_t totalGlobalMem, sharedMemPerBlock;
    int regsPerBlock, warpSize;
    size_t memPitch;
    int maxThreadsPerBlock, maxThreadsDim[3], maxGridSize[3], clockRate;
    size_t totalConstMem;
    int major, minor;
    size_t textureAlignment, texturePitchAlignment;
    int deviceOverlap, multiProcessorCount, kernelExecTimeoutEnabled, integrated, canMapHostMemory,
        computeMode, maxTexture1D, maxTexture1DMipmap, maxTexture1DLinear, maxTexture2D[2],
        maxTexture2DMipmap[2], maxTexture2DLinear[3], maxTexture2DGather[2], maxTexture3D[3],
        maxTexture3DAlt[3], maxTextureCubemap, maxTexture1DLayered[2], maxTexture2DLayered[3],
        maxTextureCubemapLayered[2], maxSurface1D, maxSurface2D[2], maxSurface3D[3], maxSurface1DLayered[2],
        maxSurface2DLayered[3], maxSurfaceCubemap, maxSurfaceCubemapLayered[2];
    size_t surfaceAlignment;
    int concurrentKernels, ECCEnabled, pciBusID, pciDeviceID, pciDomainID, tccDriver, asyncEngineCount,
        unifiedAddressing, memoryClockRate, memoryBusWidth, l2CacheSize, persistingL2CacheMaxSize,
        maxThreadsPerMultiProcessor, streamPrioritiesSupported, globalL1CacheSupported, localL1CacheSupported;
    size_t sharedMemPerMultiprocessor;
    int regsPerMultiprocessor, managedMemory, isMultiGpuBoard, multiGpuBoardGroupID,
        hostNativeAtomicSupported, singleToDoublePrecisionPerfRatio, pageableMemoryAccess,
        concurrentManagedAccess, computePreemptionSupported, canUseHostPointerForRegisteredMem,
        cooperativeLaunch, cooperativeMultiDeviceLaunch;
    size_t sharedMemPerBlockOptin;
    int pageableMemoryAccessUsesHostPageTables, directManagedMemAccessFromHost, maxBlocksPerMultiProcessor,
        accessPolicyMaxWindowSize;
    size_t reservedSharedMemPerBlock;
    int hostRegisterSupported, sparseHipArraySupported, hostRegisterReadOnlySupported,
        timelineSemaphoreInteropSupported, memoryPoolsSupported, gpuDirectRDMASupported;
    unsigned gpuDirectRDMAFlushWritesOptions;
    int gpuDirectRDMAWritesOrdering;
    unsigned memoryPoolSupportedHandleTypes;
    int deferredMappingHipArraySupported, ipcEventSupported, clusterLaunch, unifiedFunctionPointers,
        reserved[63], hipReserved[32];
    char gcnArchName[256];
    size_t maxSharedMemoryPerMultiProcessor;
    int clockInstructionRate;
    uint32_t arch;
    unsigned *hdpMemFlushCntl, *hdpRegFlushCntl;
    int cooperativeMultiDeviceUnmatchedFunc, cooperativeMultiDeviceUnmatchedGridDim,
        cooperativeMultiDeviceUnmatchedBlockDim, cooperativeMultiDeviceUnmatchedSharedMem, isLargeBar,
        asicRevision;
} hipDeviceProp_tR0600;

/* hipDeviceProp_t of ROCm 5 (hipDeviceProp_tR0000). */
typedef struct {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlock;
    int regsPerBlock, warpSize, maxThreadsPerBlock, maxThreadsDim[3], maxGridSize[3], clockRate,
        memoryClockRate, memoryBusWidth;
    size_t totalConstMem;
    int major, minor, multiProcessorCount, l2CacheSize, maxThreadsPerMultiProcessor, computeMode,
        clockInstructionRate;
    uint32_t arch;
    int concurrentKernels, pciDomainID, pciBusID, pciDeviceID;
    size_t maxSharedMemoryPerMultiProcessor;
    int isMultiGpuBoard, canMapHostMemory, gcnArch;
    char gcnArchName[256];
    int integrated, cooperativeLaunch, cooperativeMultiDeviceLaunch, maxTexture1DLinear, maxTexture1D,
        maxTexture2D[2], maxTexture3D[3];
    unsigned *hdpMemFlushCntl, *hdpRegFlushCntl;
    size_t memPitch, textureAlignment, texturePitchAlignment;
    int kernelExecTimeoutEnabled, ECCEnabled, tccDriver, cooperativeMultiDeviceUnmatchedFunc,
        cooperativeMultiDeviceUnmatchedGridDim, cooperativeMultiDeviceUnmatchedBlockDim,
        cooperativeMultiDeviceUnmatchedSharedMem, isLargeBar, asicRevision, managedMemory,
        directManagedMemAccessFromHost, concurrentManagedAccess, pageableMemoryAccess,
        pageableMemoryAccessUsesHostPageTables;
} hipDeviceProp_tR0000;

#endif
