/* What the files of the shim share. One paragraph a file, in the order in which a call meets them.

   Locking: `lock()` guards every table (objects, allocations, graphs, devices). It is never held while the worker
   computes; the worker has a lock of its own (worker.c), taken without lock(). */
#ifndef PETITGEN_VIRTUAL_H
#define PETITGEN_VIRTUAL_H

#include <stdbool.h>

#include "hip_abi.h"

#define EXPORT __attribute__((visibility("default")))
#define MAX_DEVICES 16
#define HOST_MEMORY (-1) /* the `device` of memory that every device may access */

/* config.c: what the environment says, read once at the first call. */
typedef struct {
    const char *arch, *feature_name, *name;
    int compute_units, xccs, clock_khz, memory_clock_khz, bus_bits, l2_bytes;
} Model;
typedef struct {
    int devices;
    const Model *model[MAX_DEVICES];
    size_t memory; /* bytes of each device */
    bool noop;
    const char *wrong; /* what is wrong with the environment, or NULL */
} Config;
const Config *config(void);

/* log.c: a line in the log, and the last story told, for petitgen_virtual_story(). */
void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_after_fork(void);

/* call.c: around every served call. */
void lock(void);
void unlock(void);
void device_failed(int device, hipError_t error); /* from now on the device's error, until hipDeviceReset */
void device_healed(int device);
void forked_state_matters(void); /* state exists that a fork would share */

/* objects.c: handles that are alive. A handle nobody made is an error and never followed. */
typedef enum { NOTHING, STREAM, EVENT, MODULE, FUNCTION, GRAPH, GRAPH_EXEC, NODE, CAPTURE, KINDS } Kind;
bool object_add(void *handle, Kind kind);
bool object_is(const void *handle, Kind kind);
bool object_remove(void *handle, Kind kind); /* false if it was not there */
long object_count(Kind kind);
void object_each(Kind kind, void (*visit)(void *handle, void *data), void *data);

/* arena.c: device memory, at the emulator's addresses. */
#define ARENA_BASE 0x200000000000ull /* petitgen.emulator.memory.BASE */
#define WINDOW (4ull << 30)          /* the worker's own room for each device, at the start of the arena */
typedef struct {
    uint64_t address, size;
    int device;
    hipMemoryType type;
    unsigned flags;
} Allocation;
hipError_t arena_allocate(size_t size, int device, hipMemoryType type, unsigned flags, void **address);
hipError_t arena_free(const void *address, hipMemoryType type); /* type: as allocated */
bool arena_find(const void *address, Allocation *found);        /* the allocation that holds `address` */
bool arena_has(const void *address, size_t size);               /* all of it in one allocation */
bool arena_contains(const void *address);                       /* within the arena, allocated or not */
void arena_note_image(uint64_t address, uint64_t size,
                      int device); /* a loaded module's image, in the worker's room */
void arena_forget_image(uint64_t address);
void arena_free_device(int device);
size_t arena_used(int device);
long arena_live(void);
void arena_replay(void); /* queue every allocation for a worker that knows none yet */
int arena_descriptor(void);
uint64_t arena_size(void);
hipError_t arena_ready(void);

/* worker.c: the process that runs kernels. */
typedef struct {
    uint32_t operation, device;
    uint64_t address, size;
} AllocationChange;
enum {
    CHANGE_ADOPT = 1,
    CHANGE_RELEASE = 2,
    CHANGE_PEER_ON = 3,
    CHANGE_PEER_OFF = 4
}; /* peers: `device` sees device number `address` */
void worker_note(uint32_t operation, int device, uint64_t address, uint64_t size);
hipError_t worker_load(int device, uint64_t module, const void *image, size_t size, char **description);
void worker_unload(uint64_t module);
typedef struct {
    uint64_t module;
    uint32_t kernel, grid[3], block[3], dynamic_lds, kernarg_bytes;
} LaunchHeader;
hipError_t worker_launch(const LaunchHeader *header, const void *kernarg, int device);

/* device.c, properties.c */
extern _Thread_local int current_device;
bool is_device(int device);
void device_replay_peers(void);

/* stream.c and capture.c. Work runs when it is issued, so a stream is only an order and a place for captures. */
struct Node;
typedef struct {
    struct Node **node;
    size_t count;
} NodeSet;
bool set_add(NodeSet *set, struct Node *node); /* false without memory */
bool set_join(NodeSet *set, const NodeSet *other);
void set_clear(NodeSet *set);
typedef struct Capture Capture;
typedef struct Stream {
    int device, priority;
    unsigned flags;
    Capture *capture; /* the capture it takes part in, or NULL */
    NodeSet tail; /* in a capture: what the next work comes after */
} Stream;
typedef struct Event {
    int device;
    unsigned flags;
    bool recorded;
    double seconds;
    uint64_t capture; /* the capture it was last recorded in, or 0 */
    NodeSet tail;
} Event;
double now(void);
hipError_t stream_of(hipStream_t handle, Stream **stream); /* also the null, legacy and per-thread streams */
bool is_legacy(const Stream *stream);
hipError_t capture_check(unsigned unsafe); /* may an unsafe call run now? */
hipError_t stream_for_work(hipStream_t handle,
                           Stream **stream); /* as stream_of; work may be issued there, or captured */
hipError_t stream_for_query(hipStream_t handle, Stream **stream); /* as stream_of; an error while capturing */
hipError_t capture_work(Stream *stream, struct Node *node); /* append to the capture; takes the node */
hipError_t capture_record(Stream *stream, Event *event);
hipError_t capture_wait(Stream *stream, const Event *event);
void capture_leave(Stream *stream); /* the stream is about to go */

/* module.c, launch.c */
typedef struct {
    uint32_t offset, size;
} Argument;
typedef struct Function {
    struct Module *module;
    char *name;
    uint32_t index, kernarg_bytes, explicit_bytes, max_threads, vgprs, sgprs, lds, scratch, arguments;
    Argument *argument;
} Function;
typedef struct {
    char *name;
    uint64_t address, size;
} Variable;
enum { LARGEST_IMAGE = 1 << 30 }; /* the room of an image whose size nobody says */
typedef struct Module {
    uint64_t id, image, image_bytes;
    int device;
    uint32_t functions, variables;
    Function **function;
    Variable *variable;
} Module;
hipError_t module_from_image(const void *image, size_t room, Module **module); /* room: bytes that there are */
void module_destroy(Module *module);
hipError_t registered_function(const void *host,
                               hipFunction_t *function); /* register.c: of a program hipcc compiled */
hipError_t any_function(const void *handle, hipFunction_t *function); /* hipFunction_t or host function */
typedef struct {
    Function *function;
    dim3 grid, block;
    uint32_t dynamic_lds, bytes;
    unsigned char *kernarg;
} KernelWork;
hipError_t kernel_work(KernelWork *work, hipFunction_t function, dim3 grid, dim3 block, uint32_t dynamic_lds,
                       void **params, void **extra);
hipError_t kernel_run(const KernelWork *work);
hipError_t launch(hipFunction_t function, dim3 grid, dim3 block, uint32_t dynamic_lds, hipStream_t stream,
                  void **params, void **extra);

/* copy.c */
typedef struct {
    void *to;
    const void *from;
    size_t width, height, depth, to_pitch, from_pitch, to_slice, from_slice;
    hipMemcpyKind kind;
} CopyWork;
hipError_t copy_check(const CopyWork *work);
hipError_t copy_from_3d(const hipMemcpy3DParms *params, CopyWork *work);
hipError_t copy_run(const CopyWork *work);
bool host_copy(void *to, const void *from, size_t size); /* false where memory is not there; no overlaps */
typedef struct {
    void *to;
    uint32_t value;
    unsigned element;
    size_t width, height, pitch;
} FillWork;
hipError_t fill_check(const FillWork *work);
void fill_run(const FillWork *work);

/* graph.c, graph_exec.c */
typedef struct Node {
    hipGraphNodeType type;
    struct Graph *graph; /* the graph it is in, NULL while a capture builds it */
    NodeSet after; /* what it comes after */
    KernelWork kernel;
    CopyWork copy;
    FillWork fill;
    hipHostNodeParams host;
    const struct Node *origin; /* in an executable graph: the node this is a copy of */
    size_t mark; /* scratch of a traversal */
} Node;
typedef struct Graph {
    Node **node;
    size_t nodes;
} Graph;
Node *node_new(hipGraphNodeType type);
void node_free(Node *node);
hipError_t graph_append(Graph *graph, Node *node);
void graph_free(Graph *graph);
Graph *graph_copy(const Graph *graph);

#endif
