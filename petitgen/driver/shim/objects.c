/* Live handles: a hash table from address to kind. Called with or without lock(): it has a lock of its own. */
#include <pthread.h>
#include <stdlib.h>

#include "virtual.h"

typedef struct {
    uintptr_t handle;
    uint8_t kind;
} Slot; /* handle 0: free, 1: a handle was here */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Slot *slots;
static size_t room, taken; /* taken counts tombstones too */
static long counts[KINDS];

static size_t place_of(uintptr_t handle) {
    return (size_t)((handle >> 4) * 0x9E3779B97F4A7C15ull) & (room - 1);
}

static Slot *find(uintptr_t handle) {
    if (!room) return NULL;
    for (size_t i = place_of(handle);; i = (i + 1) & (room - 1)) {
        if (slots[i].handle == handle) return &slots[i];
        if (!slots[i].handle) return NULL;
    }
}

static void insert(uintptr_t handle, uint8_t kind) {
    size_t i = place_of(handle);
    while (slots[i].handle) i = (i + 1) & (room - 1);
    slots[i] = (Slot){handle, kind};
    taken++;
}

static bool grow(void) {
    size_t live = 0, old_room = room;
    for (int kind = 0; kind < KINDS; kind++) live += (size_t)counts[kind];
    size_t wanted = 64;
    while (wanted < live * 4) wanted *= 2;
    Slot *old = slots, *fresh = calloc(wanted, sizeof *fresh);
    if (!fresh) return false;
    slots = fresh, room = wanted, taken = 0;
    for (size_t i = 0; i < old_room; i++)
        if (old[i].handle > 1) insert(old[i].handle, old[i].kind);
    free(old);
    return true;
}

bool object_add(void *handle, Kind kind) {
    pthread_mutex_lock(&mutex);
    bool done = (taken + 1) * 2 <= room || grow();
    if (done) insert((uintptr_t)handle, (uint8_t)kind), counts[kind]++;
    pthread_mutex_unlock(&mutex);
    return done;
}

bool object_is(const void *handle, Kind kind) {
    if ((uintptr_t)handle < 2) return false;
    pthread_mutex_lock(&mutex);
    Slot *slot = find((uintptr_t)handle);
    bool is = slot && slot->kind == kind;
    pthread_mutex_unlock(&mutex);
    return is;
}

bool object_remove(void *handle, Kind kind) {
    if ((uintptr_t)handle < 2) return false;
    pthread_mutex_lock(&mutex);
    Slot *slot = find((uintptr_t)handle);
    bool was = slot && slot->kind == kind;
    if (was) *slot = (Slot){1, NOTHING}, counts[kind]--;
    pthread_mutex_unlock(&mutex);
    return was;
}

long object_count(Kind kind) {
    pthread_mutex_lock(&mutex);
    long count = counts[kind];
    pthread_mutex_unlock(&mutex);
    return count;
}

/* Visits a snapshot: the visitor may remove. */
void object_each(Kind kind, void (*visit)(void *, void *), void *data) {
    pthread_mutex_lock(&mutex);
    void **found = calloc((size_t)counts[kind] + 1, sizeof *found);
    size_t n = 0;
    for (size_t i = 0; found && i < room; i++)
        if (slots[i].handle > 1 && slots[i].kind == kind) found[n++] = (void *)slots[i].handle;
    pthread_mutex_unlock(&mutex);
    for (size_t i = 0; i < n; i++) visit(found[i], data);
    free(found);
}
