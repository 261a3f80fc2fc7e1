// MFMA of several types, with accumulators that may live in AGPRs, and the instructions each arch has alone.
#define KERNEL extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(1, 256))) void
typedef _Float16 f16x4 __attribute__((ext_vector_type(4)));
typedef short i16x4 __attribute__((ext_vector_type(4)));
typedef float f32x4 __attribute__((ext_vector_type(4)));
typedef float f32x16 __attribute__((ext_vector_type(16)));
typedef int i32x4 __attribute__((ext_vector_type(4)));
typedef double f64x4 __attribute__((ext_vector_type(4)));
KERNEL matrix(f32x16 *c, f32x4 *d, const f16x4 *a, const i16x4 *b, int n) {
  int i = __builtin_amdgcn_workitem_id_x();
  f32x16 big = {};
  f32x4 small = {};
  for (int k = 0; k < n; ++k) {
    big = __builtin_amdgcn_mfma_f32_32x32x8f16(a[k * 64 + i], a[k * 64 + i + 1], big, 0, 0, 0);
    small = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(b[k * 64 + i], b[k * 64 + i + 1], small, 0, 0, 0);
    small = __builtin_amdgcn_mfma_f32_4x4x4f16(a[k], a[k + 1], small, 1, 2, 3);
  }
  c[i] = big;
  d[i] = small;
}
KERNEL others(f64x4 *c, double *a, f32x4 *d, float *x, i32x4 *e, long *y) {
  int i = __builtin_amdgcn_workitem_id_x();
  c[i] = __builtin_amdgcn_mfma_f64_16x16x4f64(a[i], a[i + 64], c[i], 0, 0, 0);
  d[i] = __builtin_amdgcn_mfma_f32_16x16x4f32(x[i], x[i + 64], d[i], 0, 0, 0);
#if defined(__gfx942__)
  e[i] = __builtin_amdgcn_mfma_i32_16x16x32_i8(y[i], y[i + 64], e[i], 0, 0, 0);
  d[i] = __builtin_amdgcn_mfma_f32_16x16x32_fp8_bf8(y[i], y[i + 64], d[i], 0, 0, 0);
  x[i] = __builtin_amdgcn_cvt_f32_fp8((int)y[i], 2) + __builtin_amdgcn_cvt_f32_bf8((int)y[i], 1);
  e[i].x = __builtin_amdgcn_cvt_pk_fp8_f32(x[i], x[i + 1], (int)y[i], true);
#else
  e[i] = __builtin_amdgcn_mfma_i32_16x16x16i8((int)y[i], (int)y[i + 64], e[i], 0, 0, 0);
#endif
}
