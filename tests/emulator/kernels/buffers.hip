DEVICE __amdgpu_buffer_rsrc_t rsrc(u32x4 d) {
  return __builtin_amdgcn_make_buffer_rsrc((void *)((u64)(d.y & 0xffff) << 32 | d.x), (d.y >> 16) & 0x3fff, d.z, d.w);
}

KERNEL copy(u32x4 src, u32x4 dst, u32 shift) {
  u32 t = gid();
  auto a = rsrc(src), b = rsrc(dst);
  u32x4 v = __builtin_amdgcn_raw_buffer_load_b128(a, t * 16, shift, 0);
  __builtin_amdgcn_raw_buffer_store_b128(v, b, t * 16, 0, 0);
}

KERNEL pieces(u32x4 src, u32x4 dst) {
  u32 t = gid();
  auto a = rsrc(src), b = rsrc(dst);
  __builtin_amdgcn_raw_buffer_store_b32(__builtin_amdgcn_raw_buffer_load_b8(a, t, 3, 0), b, t * 32, 0, 0);
  __builtin_amdgcn_raw_buffer_store_b32(__builtin_amdgcn_raw_buffer_load_b16(a, t * 2, 4, 0), b, t * 32 + 4, 0, 0);
  u32x3 v = __builtin_amdgcn_raw_buffer_load_b96(a, t * 12, 8, 0);
  __builtin_amdgcn_raw_buffer_store_b96(v, b, t * 32 + 8, 0, 0);
  u32x2 w = __builtin_amdgcn_raw_buffer_load_b64(a, t * 8, 0, 0);
  __builtin_amdgcn_raw_buffer_store_b64(w, b, t * 32 + 20, 0, 0);
  __builtin_amdgcn_raw_buffer_store_b8((unsigned char)t, b, t * 32 + 28, 0, 0);
  __builtin_amdgcn_raw_buffer_store_b16((unsigned short)(t * 257), b, t * 32 + 30, 0, 0);
}
