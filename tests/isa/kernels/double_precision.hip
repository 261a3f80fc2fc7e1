// f64: arithmetic, division, square root, conversions, comparisons, 64-bit DPP by reduction.
#define KERNEL extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(1, 256))) void
KERNEL doubles(double *out, const double *in, const float *weights, int n) {
  int i = __builtin_amdgcn_workgroup_id_x() * 256 + __builtin_amdgcn_workitem_id_x();
  if (i >= n) return;
  double x = in[i], y = weights[i];
  double q = x / y + __builtin_sqrt(x * x + y * y);
  q = __builtin_fma(q, 0.15915494309189535, __builtin_floor(x)) - 3.14159265358979;
  out[i] = x < y ? __builtin_ldexp(q, i & 7) : (double)(long long)q + __builtin_fabs(-y);
}
KERNEL singles(float *out, const float *in, int n) {
  int i = __builtin_amdgcn_workgroup_id_x() * 256 + __builtin_amdgcn_workitem_id_x();
  if (i < n) out[i] = in[i] / in[i + n] + __builtin_sqrtf(in[i]) * __builtin_amdgcn_sinf(in[i]) + (float)(double)in[n];
}
