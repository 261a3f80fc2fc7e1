// A 16 x 16 tile of f32 from matrix instructions whose result goes straight into vector instructions.
typedef _Float16 f16x4 __attribute__((ext_vector_type(4)));
KERNEL matrix(const f16x4 *a, const f16x4 *b, f32x4 *c, u32 steps) {
  const u32 i = tid();
  f32x4 sum = {0, 0, 0, 0};
  for (u32 k = 0; k < steps; ++k) {
    sum = __builtin_amdgcn_mfma_f32_16x16x16f16(a[k * 64 + i], b[k * 64 + i], sum, 0, 0, 0);
    sum = sum * 0.5f;  // reads the result at once
  }
  const f32x4 again = __builtin_amdgcn_mfma_f32_16x16x16f16(a[i], b[i], sum, 0, 0, 0);
  c[i] = again + sum;
}
