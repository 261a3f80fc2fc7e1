// Counts values in LDS with atomics; adds a weight that is the same for all lanes (scalar loads) on the way out.
KERNEL histogram(const u32 *values, const u32 *weights, u32 *bins, u32 *total, u32 n) {
  SHARED static u32 local[64];
  const u32 i = tid();
  if (i < 64) local[i] = 0;
  barrier();
  for (u32 k = i; k < n; k += 256) __atomic_fetch_add(&local[values[k] & 63], 1, __ATOMIC_RELAXED);
  barrier();
  if (i < 64) {
    const u32 scaled = local[i] * weights[0] + weights[5];
    const u32 before = __atomic_fetch_add(&bins[i], scaled, __ATOMIC_RELAXED);
    __atomic_fetch_max(total, before + scaled, __ATOMIC_RELAXED);
  }
}
