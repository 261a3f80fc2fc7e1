// Packed and mixed 16-bit math, SDWA (bytes and halves of registers), DPP and cross-lane reads.
#define KERNEL extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(1, 256))) void
typedef _Float16 f16x2 __attribute__((ext_vector_type(2)));
typedef short i16x2 __attribute__((ext_vector_type(2)));
typedef float f32x2 __attribute__((ext_vector_type(2)));
KERNEL packed(f16x2 *h, i16x2 *s, f32x2 *f, int n) {
  int i = __builtin_amdgcn_workgroup_id_x() * 256 + __builtin_amdgcn_workitem_id_x();
  if (i >= n) return;
  f16x2 a = h[i], b = h[i + n];
  h[i] = a * b + (f16x2){(_Float16)1.0f, (_Float16)-2.0f} - b.yx;
  i16x2 c = s[i], d = s[i + n];
  s[i] = (c + d) * (i16x2){3, 5} - (c >> (i16x2){1, 2});
  f32x2 x = f[i], y = f[i + n];
  f[i] = x * y + y.yx * (f32x2){2.0f, 0.5f};
  f[i + n].x = (float)a.x * (float)b.y + x.x;
}
KERNEL bytes(unsigned *out, const unsigned *in, const unsigned char *table, short *halves, int n) {
  int i = __builtin_amdgcn_workgroup_id_x() * 256 + __builtin_amdgcn_workitem_id_x();
  unsigned v = in[i];
  float sum = (float)(v & 255) + (float)(v >> 8 & 255) + (float)(v >> 16 & 255) + (float)(v >> 24);
  unsigned mixed = (v & 0xff) * (v >> 24) + ((v >> 16 & 0xff) ^ table[i]);
  halves[i] = (short)(halves[i + n] * (short)v + (short)(v >> 16));
  out[i] = mixed + (unsigned)sum + __builtin_amdgcn_perm(v, mixed, 0x07020500u);
}
KERNEL lanes(int *out, const int *in) {
  int i = __builtin_amdgcn_workitem_id_x(), v = in[i];
  v += __builtin_amdgcn_update_dpp(0, v, 0x111, 0xf, 0xf, true);
  v += __builtin_amdgcn_update_dpp(0, v, 0x142, 0xa, 0xf, false);
  v += __builtin_amdgcn_mov_dpp(v, 0x1b, 0xf, 0xf, true);
  v ^= __builtin_amdgcn_ds_swizzle(v, 0x401f) + __builtin_amdgcn_ds_bpermute(i * 4, v);
  out[i] = v + __builtin_amdgcn_readlane(v, 63) + __builtin_amdgcn_readfirstlane(v);
}
