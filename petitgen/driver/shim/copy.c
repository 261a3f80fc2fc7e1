/* Copies and fills. Everything is a box of width bytes, height rows and depth slices; most calls have one row. */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "call.h"
#include "exports.h"

/* --- the work ----------------------------------------------------------------------------------------------- */

static bool product(size_t a, size_t b, size_t *result) { return !__builtin_mul_overflow(a, b, result); }

/* base + number * step, if there is such a number. */
static bool advance(size_t base, size_t number, size_t step, size_t *result) {
    size_t distance;
    return product(number, step, &distance) && !__builtin_add_overflow(base, distance, result);
}

/* Bytes from the first to the last of a box, 0 for an empty one. False if no address space could hold it. */
static bool span(size_t width, size_t height, size_t depth, size_t pitch, size_t slice, size_t *bytes) {
    *bytes = 0;
    return !width || !height || !depth ||
           (advance(width, height - 1, pitch, bytes) && advance(*bytes, depth - 1, slice, bytes));
}

/* A side that has to be device memory, or may not be memory of the arena that is not allocated. */
static bool side_right(const void *at, size_t bytes, bool device) {
    size_t end;
    if (device || arena_contains(at)) return arena_has(at, bytes);
    if (!at || __builtin_add_overflow((size_t)at, bytes, &end)) return false;
    return (uint64_t)at >= ARENA_BASE || end <= ARENA_BASE || !arena_size();
}

hipError_t copy_check(const CopyWork *w) {
    size_t to, from;
    if (w->kind > hipMemcpyDefault && w->kind != hipMemcpyDeviceToDeviceNoCU)
        return hipErrorInvalidMemcpyDirection;
    if (!span(w->width, w->height, w->depth, w->to_pitch, w->to_slice, &to) ||
        !span(w->width, w->height, w->depth, w->from_pitch, w->from_slice, &from)) {
        tell("copy of %zu bytes x %zu rows x %zu slices from %p to %p: larger than any memory", w->width,
             w->height, w->depth, w->from, w->to);
        return hipErrorInvalidValue;
    }
    if (!to) return hipSuccess;
    if ((w->height > 1 || w->depth > 1) && (w->to_pitch < w->width || w->from_pitch < w->width))
        return hipErrorInvalidPitchValue;
    bool both = w->kind == hipMemcpyDeviceToDevice || w->kind == hipMemcpyDeviceToDeviceNoCU;
    bool right = side_right(w->to, to, both || w->kind == hipMemcpyHostToDevice) &&
                 side_right(w->from, from, both || w->kind == hipMemcpyDeviceToHost);
    if (!right)
        tell("copy of %zu bytes from %p to %p (kind %d): not inside an allocation of the device", to, w->from,
             w->to, (int)w->kind);
    return right ? hipSuccess : hipErrorInvalidValue;
}

bool host_copy(void *to, const void *from, size_t size) {
    while (size) {
        struct iovec here = {to, size}, there = {(void *)from, size};
        ssize_t copied = process_vm_readv(getpid(), &here, 1, &there, 1, 0);
        if (copied < 0 && (errno == ENOSYS || errno == EPERM)) { /* a container that forbids the call */
            memmove(to, from, size);
            return true;
        }
        if (copied <= 0) return false;
        to = (char *)to + copied, from = (const char *)from + copied, size -= (size_t)copied;
    }
    return true;
}

/* Between the host and a device the system copies, which finds memory that is not there; overlaps need memmove. */
static bool copy_row(void *to, const void *from, size_t width) {
    if (arena_contains(to) != arena_contains(from)) return host_copy(to, from, width);
    bool apart = (uintptr_t)to - (uintptr_t)from >= width && (uintptr_t)from - (uintptr_t)to >= width;
    if (!arena_contains(to) && apart) return host_copy(to, from, width);
    memmove(to, from, width);
    return true;
}

hipError_t copy_run(const CopyWork *w) {
    for (size_t z = 0; z < w->depth; z++)
        for (size_t y = 0; y < w->height; y++) {
            char *to = (char *)w->to + z * w->to_slice + y * w->to_pitch;
            const char *from = (const char *)w->from + z * w->from_slice + y * w->from_pitch;
            if (copy_row(to, from, w->width)) continue;
            tell("copy of %zu bytes from %p to %p: host memory that is not mapped, or may not be written",
                 w->width, (const void *)from, (void *)to);
            return hipErrorInvalidValue;
        }
    return hipSuccess;
}

hipError_t fill_check(const FillWork *w) {
    if (w->element != 1 && w->element != 2 && w->element != 4) return hipErrorInvalidValue;
    size_t row, bytes;
    if (!product(w->width, w->element, &row) || !span(row, w->height, 1, w->pitch, 0, &bytes)) {
        tell("memset of %zu elements x %zu rows at %p: larger than any memory", w->width, w->height, w->to);
        return hipErrorInvalidValue;
    }
    if (w->height > 1 && w->pitch < row) return hipErrorInvalidValue;
    bool right = !bytes || ((uintptr_t)w->to % w->element == 0 && arena_has(w->to, bytes));
    if (!right) tell("memset of %zu bytes at %p: not inside an allocation of the device", bytes, w->to);
    return right ? hipSuccess : hipErrorInvalidValue;
}

void fill_run(const FillWork *w) {
    for (size_t y = 0; y < w->height; y++) {
        char *row = (char *)w->to + y * w->pitch;
        if (w->element == 1) memset(row, (int)w->value, w->width);
        for (size_t x = 0; w->element == 2 && x < w->width; x++) ((uint16_t *)row)[x] = (uint16_t)w->value;
        for (size_t x = 0; w->element == 4 && x < w->width; x++) ((uint32_t *)row)[x] = w->value;
    }
}

/* --- now, or into a capture ---------------------------------------------------------------------------------- */

static hipError_t issue(hipStream_t stream, hipGraphNodeType type, const CopyWork *copy,
                        const FillWork *fill) {
    Stream *s;
    hipError_t error = stream_for_work(stream, &s);
    if (!error) error = copy ? copy_check(copy) : fill_check(fill);
    if (error) return error;
    if (!s->capture) {
        if (copy) return copy_run(copy);
        fill_run(fill);
        return hipSuccess;
    }
    Node *node = node_new(type);
    if (!node) return hipErrorOutOfMemory;
    if (copy)
        node->copy = *copy;
    else
        node->fill = *fill;
    return capture_work(s, node);
}

static CopyWork flat(void *to, const void *from, size_t size, hipMemcpyKind kind) {
    return (CopyWork){.to = to,
                      .from = from,
                      .width = size,
                      .height = 1,
                      .depth = 1,
                      .to_pitch = size,
                      .from_pitch = size,
                      .kind = kind};
}

static hipError_t copy_in(hipStream_t stream, CopyWork work) {
    return issue(stream, hipGraphNodeTypeMemcpy, &work, NULL);
}
static hipError_t fill_in(hipStream_t stream, FillWork work) {
    return issue(stream, hipGraphNodeTypeMemset, NULL, &work);
}

#define COPY(to, from, size, kind, stream) copy_in(stream, flat(to, from, size, kind))
hipError_t serve_hipMemcpy(void *to, const void *from, size_t size, hipMemcpyKind kind) {
    return COPY(to, from, size, kind, NULL);
}
hipError_t serve_hipMemcpyAsync(void *to, const void *from, size_t size, hipMemcpyKind kind,
                                hipStream_t stream) {
    return COPY(to, from, size, kind, stream);
}
hipError_t serve_hipMemcpyWithStream(void *to, const void *from, size_t size, hipMemcpyKind kind,
                                     hipStream_t stream) {
    Stream *s;
    hipError_t error = stream_for_query(stream, &s);
    return error ? error : COPY(to, from, size, kind, stream);
}
hipError_t serve_hipMemcpyHtoD(hipDeviceptr_t to, const void *from, size_t size) {
    return COPY(to, from, size, hipMemcpyHostToDevice, NULL);
}
hipError_t serve_hipMemcpyDtoH(void *to, hipDeviceptr_t from, size_t size) {
    return COPY(to, from, size, hipMemcpyDeviceToHost, NULL);
}
hipError_t serve_hipMemcpyDtoD(hipDeviceptr_t to, hipDeviceptr_t from, size_t size) {
    return COPY(to, from, size, hipMemcpyDeviceToDevice, NULL);
}
hipError_t serve_hipMemcpyHtoDAsync(hipDeviceptr_t to, const void *from, size_t size, hipStream_t stream) {
    return COPY(to, from, size, hipMemcpyHostToDevice, stream);
}
hipError_t serve_hipMemcpyDtoHAsync(void *to, hipDeviceptr_t from, size_t size, hipStream_t stream) {
    return COPY(to, from, size, hipMemcpyDeviceToHost, stream);
}
hipError_t serve_hipMemcpyDtoDAsync(hipDeviceptr_t to, hipDeviceptr_t from, size_t size, hipStream_t stream) {
    return COPY(to, from, size, hipMemcpyDeviceToDevice, stream);
}
hipError_t serve_hipMemcpyPeer(void *to, int to_device, const void *from, int from_device, size_t size) {
    return serve_hipMemcpyPeerAsync(to, to_device, from, from_device, size, NULL);
}
hipError_t serve_hipMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t size,
                                    hipStream_t stream) {
    int devices = config()->devices;
    if (to_device < 0 || to_device >= devices || from_device < 0 || from_device >= devices)
        return hipErrorInvalidDevice;
    return COPY(to, from, size, hipMemcpyDeviceToDevice, stream);
}

/* --- two and three dimensions ---------------------------------------------------------------------------------- */

hipError_t serve_hipMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                             size_t height, hipMemcpyKind kind) {
    return serve_hipMemcpy2DAsync(to, to_pitch, from, from_pitch, width, height, kind, NULL);
}

hipError_t serve_hipMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                                  size_t width, size_t height, hipMemcpyKind kind, hipStream_t stream) {
    if (width > to_pitch || width > from_pitch) return hipErrorInvalidPitchValue;
    return copy_in(stream, (CopyWork){.to = to,
                                      .from = from,
                                      .width = width,
                                      .height = height,
                                      .depth = 1,
                                      .to_pitch = to_pitch,
                                      .from_pitch = from_pitch,
                                      .kind = kind});
}

static hipError_t from_param2d(const hip_Memcpy2D *p, CopyWork *work) {
    if (!p) return hipErrorInvalidValue;
    if (p->srcArray || p->dstArray) return hipErrorNotSupported;
    bool to_host = p->dstMemoryType == hipMemoryTypeHost, from_host = p->srcMemoryType == hipMemoryTypeHost;
    char *to = to_host ? p->dstHost : p->dstDevice;
    const char *from = from_host ? p->srcHost : p->srcDevice;
    size_t to_pitch = p->dstPitch ? p->dstPitch : p->WidthInBytes,
           from_pitch = p->srcPitch ? p->srcPitch : p->WidthInBytes;
    size_t to_start, from_start;
    if (!advance(p->dstXInBytes, p->dstY, to_pitch, &to_start) ||
        !advance(p->srcXInBytes, p->srcY, from_pitch, &from_start))
        return hipErrorInvalidValue;
    *work = (CopyWork){.to = to + to_start,
                       .from = from + from_start,
                       .width = p->WidthInBytes,
                       .height = p->Height,
                       .depth = 1,
                       .to_pitch = to_pitch,
                       .from_pitch = from_pitch,
                       .kind = hipMemcpyDefault};
    return hipSuccess;
}

hipError_t serve_hipMemcpyParam2D(const hip_Memcpy2D *p) { return serve_hipMemcpyParam2DAsync(p, NULL); }
hipError_t serve_hipMemcpyParam2DAsync(const hip_Memcpy2D *p, hipStream_t stream) {
    CopyWork work;
    hipError_t error = from_param2d(p, &work);
    return error ? error : copy_in(stream, work);
}

static bool box_start(const hipPitchedPtr *in, const hipPos *at, size_t *slice, size_t *start) {
    return product(in->pitch, in->ysize, slice) && advance(at->x, at->y, in->pitch, start) &&
           advance(*start, at->z, *slice, start);
}

hipError_t copy_from_3d(const hipMemcpy3DParms *p, CopyWork *work) {
    if (!p) return hipErrorInvalidValue;
    if (p->srcArray || p->dstArray) return hipErrorNotSupported;
    if (p->extent.width > p->dstPtr.pitch || p->extent.width > p->srcPtr.pitch)
        return hipErrorInvalidPitchValue;
    size_t to_slice, from_slice, to_start, from_start;
    if (!box_start(&p->dstPtr, &p->dstPos, &to_slice, &to_start) ||
        !box_start(&p->srcPtr, &p->srcPos, &from_slice, &from_start))
        return hipErrorInvalidValue;
    *work = (CopyWork){
        .to = (char *)p->dstPtr.ptr + to_start,
        .from = (char *)p->srcPtr.ptr + from_start,
        .width = p->extent.width,
        .height = p->extent.height,
        .depth = p->extent.depth,
        .to_pitch = p->dstPtr.pitch,
        .from_pitch = p->srcPtr.pitch,
        .to_slice = to_slice,
        .from_slice = from_slice,
        .kind = p->kind};
    return hipSuccess;
}

hipError_t serve_hipMemcpy3D(const hipMemcpy3DParms *p) { return serve_hipMemcpy3DAsync(p, NULL); }
hipError_t serve_hipMemcpy3DAsync(const hipMemcpy3DParms *p, hipStream_t stream) {
    CopyWork work;
    hipError_t error = copy_from_3d(p, &work);
    return error ? error : copy_in(stream, work);
}

/* --- fills ------------------------------------------------------------------------------------------------------ */

#define FILL(to, value, element, count, stream) \
    fill_in(stream, (FillWork){to, (uint32_t)(value), element, count, 1, 0})
hipError_t serve_hipMemset(void *to, int value, size_t size) { return FILL(to, value, 1, size, NULL); }
hipError_t serve_hipMemsetAsync(void *to, int value, size_t size, hipStream_t stream) {
    return FILL(to, value, 1, size, stream);
}
hipError_t serve_hipMemsetD8(hipDeviceptr_t to, unsigned char value, size_t count) {
    return FILL(to, value, 1, count, NULL);
}
hipError_t serve_hipMemsetD8Async(hipDeviceptr_t to, unsigned char value, size_t count, hipStream_t stream) {
    return FILL(to, value, 1, count, stream);
}
hipError_t serve_hipMemsetD16(hipDeviceptr_t to, unsigned short value, size_t count) {
    return FILL(to, value, 2, count, NULL);
}
hipError_t serve_hipMemsetD16Async(hipDeviceptr_t to, unsigned short value, size_t count,
                                   hipStream_t stream) {
    return FILL(to, value, 2, count, stream);
}
hipError_t serve_hipMemsetD32(hipDeviceptr_t to, int value, size_t count) {
    return FILL(to, value, 4, count, NULL);
}
hipError_t serve_hipMemsetD32Async(hipDeviceptr_t to, int value, size_t count, hipStream_t stream) {
    return FILL(to, value, 4, count, stream);
}
hipError_t serve_hipMemset2D(void *to, size_t pitch, int value, size_t width, size_t height) {
    return serve_hipMemset2DAsync(to, pitch, value, width, height, NULL);
}
hipError_t serve_hipMemset2DAsync(void *to, size_t pitch, int value, size_t width, size_t height,
                                  hipStream_t stream) {
    return fill_in(stream, (FillWork){to, (uint32_t)value, 1, width, height, pitch});
}
