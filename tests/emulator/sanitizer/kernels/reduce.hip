// The sum of n numbers: each item adds its share, then a tree in LDS, then across the lanes of every wave.
DEVICE float from_right(float x, int distance) {
  return __builtin_bit_cast(float, __builtin_amdgcn_ds_bpermute(4 * (lane() + distance), __builtin_bit_cast(int, x)));
}
KERNEL reduce(const float *in, float *out, u32 n) {
  SHARED static float part[256];
  const u32 i = tid();
  float sum = 0;
  for (u32 k = i; k < n; k += 256) sum += in[k];
  part[i] = sum;
  barrier();
  for (u32 half = 128; half >= 64; half /= 2) {
    if (i < half) part[i] += part[i + half];
    barrier();
  }
  sum = part[lane()];  // of the first wave, read by all
  for (int distance = 32; distance; distance /= 2) sum += from_right(sum, distance);
  if (lane() == 0) out[i / 64] = sum;
}
