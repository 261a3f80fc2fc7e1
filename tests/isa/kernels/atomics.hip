// Atomics on global, LDS and generic memory, returning and not, and their fences.
#define KERNEL extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(1, 256))) void
KERNEL atomics(unsigned *counts, unsigned long long *wide, float *sum, int *flags, int which) {
  __attribute__((shared)) static unsigned tally[256];
  int i = __builtin_amdgcn_workitem_id_x();
  tally[i] = 0;
  __builtin_amdgcn_s_barrier();
  __hip_atomic_fetch_add(&tally[counts[i] & 255], 1u, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
  __builtin_amdgcn_s_barrier();
  unsigned old = __hip_atomic_fetch_max(&counts[i], tally[i], __ATOMIC_ACQ_REL, __HIP_MEMORY_SCOPE_AGENT);
  __hip_atomic_fetch_add(&wide[i & 3], (unsigned long long)old, __ATOMIC_SEQ_CST, __HIP_MEMORY_SCOPE_SYSTEM);
  unsigned expected = old;
  __hip_atomic_compare_exchange_strong(&counts[i + 256], &expected, 7u, __ATOMIC_RELAXED, __ATOMIC_RELAXED,
                                       __HIP_MEMORY_SCOPE_AGENT);
  unsigned *either = which ? &tally[i] : &counts[i];
  flags[i] = __hip_atomic_exchange(either, expected, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
  __hip_atomic_fetch_add(sum, (float)expected, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
