KERNEL integers(const u32 *in, u32 *out, u32 n) {
  u32 i = gid();
  if (i >= n) return;
  u32 v = in[i];
  __atomic_fetch_add(&out[v & 3], v, __ATOMIC_RELAXED);
  __atomic_fetch_sub(&out[4], v, __ATOMIC_RELAXED);
  __atomic_fetch_and(&out[5], v | 0xffff0000u, __ATOMIC_RELAXED);
  __atomic_fetch_or(&out[6], 1u << (v & 31), __ATOMIC_RELAXED);
  __atomic_fetch_xor(&out[7 + (v & 1)], v, __ATOMIC_RELAXED);
  __hip_atomic_fetch_max(&out[9], v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
  __hip_atomic_fetch_min(&out[10], v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
  __hip_atomic_fetch_min((int *)&out[11], (int)v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}

KERNEL tickets(u32 *next, u32 *out, const u32 *in) {
  u32 mine = __atomic_fetch_add(&next[in[gid()] & 3], 1 + (in[gid()] & 1), __ATOMIC_RELAXED);
  out[gid()] = mine;
}

KERNEL long_integers(const u64 *in, u64 *out) {
  u64 v = in[gid()];
  __atomic_fetch_add(&out[v & 1], v, __ATOMIC_RELAXED);
  __hip_atomic_fetch_max(&out[2], v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
  __atomic_exchange_n(&out[3 + gid()], v * 3, __ATOMIC_RELAXED);
}

KERNEL floats(const float *in, float *sum, double *dsum) {
  float old = *(volatile float *)sum;
  u32 *word = (u32 *)sum;
  u32 seen = __builtin_bit_cast(u32, old);
  while (!__atomic_compare_exchange_n(word, &seen, __builtin_bit_cast(u32, __builtin_bit_cast(float, seen) + in[gid()]), false,
                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
  __hip_atomic_fetch_add(&dsum[gid() & 1], (double)in[gid()], __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}

KERNEL local(const u32 *in, u32 *out, u64 *wide) {
  SHARED static u32 box[8];
  SHARED static u64 big[2];
  if (tid() < 8) box[tid()] = tid() == 2 ? ~0u : 0;
  if (tid() < 2) big[tid()] = 0;
  barrier();
  u32 v = in[tid()];
  __hip_atomic_fetch_add(&box[0], v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
  __hip_atomic_fetch_max(&box[1], v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
  __hip_atomic_fetch_min(&box[2], v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
  u32 order = __hip_atomic_fetch_add(&box[3 + (v & 1)], 1, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
  __hip_atomic_fetch_add(&big[v & 1], (u64)v << 20, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
  barrier();
  out[8 + tid()] = order;
  if (tid() < 8) out[tid()] = box[tid()];
  if (tid() < 2) wide[tid()] = big[tid()];
}

// One wave takes the lock at a time; a wave spins while another holds it.
KERNEL lock(u32 *mutex, u32 *value) {
  if (lane() == 0) {
    while (__hip_atomic_exchange(mutex, 1, __ATOMIC_ACQUIRE, __HIP_MEMORY_SCOPE_AGENT)) __builtin_amdgcn_s_sleep(1);
    *(volatile u32 *)value += 1;
    __hip_atomic_store(mutex, 0, __ATOMIC_RELEASE, __HIP_MEMORY_SCOPE_AGENT);
  }
}

// Wave 0 waits for what wave 1 writes later.
KERNEL flag(u32 *box, u32 *out) {
  if (tid() < 64) {
    while (__hip_atomic_load(&box[0], __ATOMIC_ACQUIRE, __HIP_MEMORY_SCOPE_AGENT) == 0) {}
    out[tid()] = box[1] + tid();
  } else {
    box[1] = 1234;
    __hip_atomic_store(&box[0], 1, __ATOMIC_RELEASE, __HIP_MEMORY_SCOPE_AGENT);
  }
}
