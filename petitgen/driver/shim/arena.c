/* Device memory: one shared mapping at the emulator's base address, in this process and in the worker.

   All devices and pinned host memory share it, so every address says by itself whose it is. Between two allocations
   lies at least one page that belongs to nobody, as in the emulator. Layout: a window for each device that the worker
   fills (code, kernel arguments, scratch), then everything allocated here. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "virtual.h"

#define ALIGNMENT 256ull
#define GAP 4096ull
#define PAGE 4096ull
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static int descriptor = -1;
static uint64_t mapped, first;       /* bytes of the arena; address of the first byte handed out here */
static Allocation *live; /* sorted by address; images of modules among them, in the worker's windows */
static size_t count, room;
static size_t used[MAX_DEVICES + 1]; /* bytes by device; [0] is host memory */

/* Called under lock(). */
static hipError_t map_arena(void) {
    if (descriptor >= 0) return hipSuccess;
    const Config *c = config();
    uint64_t windows = WINDOW * (uint64_t)c->devices;
    uint64_t wanted =
        windows + 2 * c->memory * (uint64_t)(c->devices + 1) + (1ull << 30); /* twice: gaps, holes */
    int file = memfd_create("petitgen-virtual-memory", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)wanted)) {
        tell("no shared memory for the device: %s", strerror(errno));
        if (file >= 0) close(file);
        return hipErrorOutOfMemory;
    }
    void *at = mmap((void *)ARENA_BASE, wanted, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE, file, 0);
    if (at != (void *)ARENA_BASE) {
        tell("cannot map %llu MiB of device memory at %#llx (%s); lower PETITGEN_VIRTUAL_MEMORY or raise "
             "`ulimit -v`",
             (unsigned long long)(wanted >> 20), ARENA_BASE,
             at == MAP_FAILED ? strerror(errno) : "the address is taken");
        if (at != MAP_FAILED) munmap(at, wanted);
        close(file);
        return hipErrorOutOfMemory;
    }
    madvise(at, wanted, MADV_DONTDUMP);
    descriptor = file, mapped = wanted, first = ARENA_BASE + windows;
    forked_state_matters();
    return hipSuccess;
}

hipError_t arena_ready(void) {
    lock();
    hipError_t error = map_arena();
    unlock();
    return error;
}

int arena_descriptor(void) { return descriptor; }
uint64_t arena_size(void) { return mapped; }

/* Index of the first allocation above `address`. */
static size_t above(uint64_t address) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (live[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint64_t extent(uint64_t size) { return (size + GAP + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static bool insert(size_t at, Allocation allocation) {
    if (count == room) {
        size_t more = room ? room * 2 : 64;
        Allocation *grown = realloc(live, more * sizeof *grown);
        if (!grown) return false;
        live = grown, room = more;
    }
    memmove(live + at + 1, live + at, (count - at) * sizeof *live);
    live[at] = allocation;
    count++;
    return true;
}

static void take_out(size_t at) {
    memmove(live + at, live + at + 1, (count - at - 1) * sizeof *live);
    count--;
}

/* First fit. Returns 0 when no hole is large enough. */
static uint64_t find_hole(uint64_t size, size_t *index) {
    size_t i = above(first - 1);
    uint64_t start = first;
    for (; i < count; i++) {
        if (live[i].address - start >= size) break;
        start = live[i].address + extent(live[i].size);
    }
    *index = i;
    return ARENA_BASE + mapped - start >= size ? start : 0;
}

hipError_t arena_allocate(size_t size, int device, hipMemoryType type, unsigned flags, void **address) {
    lock();
    hipError_t error = map_arena();
    if (!error && (size > config()->memory || used[device + 1] + size > config()->memory))
        error = hipErrorOutOfMemory;
    size_t index = 0;
    uint64_t place = error ? 0 : find_hole(extent(size), &index);
    if (!error && (!place || !insert(index, (Allocation){place, size, device, type, flags})))
        error = hipErrorOutOfMemory;
    if (!error) {
        used[device + 1] += size;
        worker_note(CHANGE_ADOPT, device, place, size);
        *address = (void *)place;
    }
    unlock();
    return error;
}

/* Gives whole pages back to the system; small ones stay, which is quicker than asking. */
static void give_back(uint64_t address, uint64_t size) {
    uint64_t start = (address + PAGE - 1) / PAGE * PAGE, end = (address + size) / PAGE * PAGE;
    if (end > start && size >= 64 * PAGE) madvise((void *)start, end - start, MADV_REMOVE);
}

static void drop(size_t index) {
    Allocation gone = live[index];
    take_out(index);
    used[gone.device + 1] -= gone.size;
    worker_note(CHANGE_RELEASE, gone.device, gone.address, gone.size);
    give_back(gone.address, gone.size);
}

static bool is_image(const Allocation *a) { return a->address < first; }

static Allocation *exactly(const void *address) {
    size_t i = above((uint64_t)address);
    return i && live[i - 1].address == (uint64_t)address ? &live[i - 1] : NULL;
}

hipError_t arena_free(const void *address, hipMemoryType type) {
    lock();
    Allocation *found = exactly(address);
    bool host = type == hipMemoryTypeHost;
    hipError_t error = !found || is_image(found) || (found->type == hipMemoryTypeHost) != host
                           ? hipErrorInvalidValue
                           : hipSuccess;
    if (!error) drop((size_t)(found - live));
    unlock();
    return error;
}

bool arena_find(const void *address, Allocation *found) {
    if (!arena_contains(address)) return false;
    lock();
    size_t i = above((uint64_t)address);
    bool is = i && ((uint64_t)address - live[i - 1].address < live[i - 1].size ||
                    (uint64_t)address == live[i - 1].address);
    if (is) *found = live[i - 1];
    unlock();
    return is;
}

bool arena_has(const void *address, size_t size) {
    Allocation a;
    return arena_find(address, &a) && size <= a.size - ((uint64_t)address - a.address);
}

bool arena_contains(const void *address) {
    return mapped && (uint64_t)address >= ARENA_BASE && (uint64_t)address - ARENA_BASE < mapped;
}

void arena_note_image(uint64_t address, uint64_t size, int device) {
    lock();
    insert(above(address), (Allocation){address, size, device, hipMemoryTypeDevice, 0});
    unlock();
}

void arena_forget_image(uint64_t address) {
    lock();
    Allocation *found = exactly((void *)address);
    if (found && is_image(found)) take_out((size_t)(found - live));
    unlock();
}

void arena_free_device(int device) {
    lock();
    for (size_t i = count; i-- > 0;)
        if (!is_image(&live[i]) && live[i].device == device) drop(i);
    unlock();
}

size_t arena_used(int device) {
    lock();
    size_t bytes = used[device + 1];
    unlock();
    return bytes;
}

long arena_live(void) {
    lock();
    long n = 0;
    for (size_t i = 0; i < count; i++) n += !is_image(&live[i]);
    unlock();
    return n;
}

void arena_replay(void) {
    lock();
    for (size_t i = 0; i < count; i++)
        if (!is_image(&live[i])) worker_note(CHANGE_ADOPT, live[i].device, live[i].address, live[i].size);
    unlock();
}
