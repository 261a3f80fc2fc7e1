// Kernels for the tests of the virtual GPU. No HIP headers: builtins only.
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define BLOCK(n) __attribute__((amdgpu_flat_work_group_size(1, n)))

static __device__ unsigned index() { return __builtin_amdgcn_workgroup_id_x() * 64 + __builtin_amdgcn_workitem_id_x(); }

struct Pair { short first; double second; };

__device__ int counter = 41;

// out[i] = a[i] * scale + pair.first + pair.second + flag, with arguments of many sizes
extern "C" __global__ BLOCK(64) void mixed(const float *a, float *out, unsigned char flag, Pair pair, float scale, unsigned n) {
    unsigned i = index();
    if (i < n) out[i] = a[i] * scale + (float)pair.first + (float)pair.second + flag;
}

extern "C" __global__ BLOCK(64) void add(int *out, int value, unsigned n) {
    unsigned i = index();
    if (i < n) out[i] += value;
}

extern "C" __global__ BLOCK(64) void count(int *out) {
    counter += 1;
    *out = counter;
}

// out[i] = the neighbour's value, by way of LDS that the launch brings
extern "C" __global__ BLOCK(64) void turn(int *out) {
    extern __shared__ int room[];
    unsigned i = __builtin_amdgcn_workitem_id_x();
    room[i] = out[i];
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_SEQ_CST, "workgroup");
    out[i] = room[(i + 1) % 64];
}

extern "C" __global__ BLOCK(64) void store_at(int *where) { *where = 7; }

extern "C" __global__ BLOCK(64) void unknown_instruction(int *out) {
    asm volatile(".long 0xd7ffffff\n.long 0xffffffff");
    *out = 1;
}

extern "C" __global__ BLOCK(64) void endless(volatile int *flag) {
    while (*flag == 0) __builtin_amdgcn_s_sleep(1);
}

// The first wave writes what the second reads, and nothing orders the two: a race.
extern "C" __global__ BLOCK(128) void race(int *out) {
    __shared__ volatile int box[64];
    unsigned i = __builtin_amdgcn_workitem_id_x();
    if (i < 64) box[i] = i;
    else out[i] = box[i - 64];
}

// The compiler loads the three ints as four, one past the end of the arguments.
extern "C" __global__ BLOCK(64) void three_ints(const int *a, const int *b, int *out, int x, int y, int z) {
    unsigned i = __builtin_amdgcn_workitem_id_x();
    out[i] = a[i] * x + b[i] * y + z;
}

// A table that holds addresses of the image.
__device__ int steps[3] = {5, 50, 500};
extern "C" __attribute__((constant)) const int *const table[3] = {steps + 2, steps, steps + 1};

extern "C" __global__ BLOCK(64) void by_pointer(int *out) {
    unsigned i = __builtin_amdgcn_workitem_id_x();
    out[i] = *table[out[i]];
}

// Stores what nobody wrote, then where nothing is.
extern "C" __global__ BLOCK(64) void undefined_then_fault(int *out) {
    __shared__ volatile int box[64];
    unsigned i = __builtin_amdgcn_workitem_id_x();
    out[i] = box[i];
    *(volatile int *)16 = 1;
}
