// Scratch (an array that is indexed), LDS of every width, constants in .rodata, buffer resources, sub-dword access.
#define KERNEL extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(1, 256))) void
typedef unsigned u32x4 __attribute__((ext_vector_type(4)));
typedef unsigned u32x3 __attribute__((ext_vector_type(3)));
__attribute__((device)) static const float TABLE[64] = {1, 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47};
KERNEL scratch(float *out, const int *where, int n) {
  int i = __builtin_amdgcn_workitem_id_x();
  float local[40];
  for (int k = 0; k < 40; ++k) local[k] = TABLE[(i + k) & 63];
  for (int k = 0; k < n; ++k) local[where[k] % 40] += local[where[k + i] % 40];
  out[i] = local[where[i] % 40];
}
KERNEL shared_memory(u32x4 *out, const u32x4 *in, unsigned char *small, u32x3 *three) {
  __attribute__((shared)) static u32x4 tile[256];
  __attribute__((shared)) static u32x3 triple[64];
  __attribute__((shared)) static unsigned char one[256];
  int i = __builtin_amdgcn_workitem_id_x();
  tile[i] = in[i];
  one[i ^ 1] = small[i];
  triple[i & 63] = three[i];
  __builtin_amdgcn_s_barrier();
  u32x4 t = tile[255 - i];
  t.x += one[i] + triple[63 - (i & 63)].z;
  out[i] = t;
  small[i] = (unsigned char)(t.y >> 16);
  three[i] = triple[(i + 1) & 63];
}
KERNEL buffers(u32x4 descriptor, int m) {
  void *base = (void *)(((unsigned long long)(descriptor.y & 0xffff) << 32) | descriptor.x);
  __amdgpu_buffer_rsrc_t r = __builtin_amdgcn_make_buffer_rsrc(base, 0, descriptor.z, descriptor.w);
  int at = __builtin_amdgcn_workitem_id_x() * 16;
  u32x4 v = __builtin_amdgcn_raw_buffer_load_b128(r, at, m, 0);
  v.x += __builtin_amdgcn_raw_buffer_load_b16(r, at + 4, 0, 0) + __builtin_amdgcn_raw_buffer_load_b8(r, at, 64, 0);
  __builtin_amdgcn_raw_buffer_store_b128(v, r, at + 1024, m, 0);
  __builtin_amdgcn_raw_buffer_store_b8((unsigned char)v.y, r, at, 0, 0);
}
