KERNEL reduce(const float *in, float *out, u32 n) {
  SHARED static float part[256];
  u32 i = gid(), t = tid();
  part[t] = i < n ? in[i] : 0.0f;
  barrier();
  for (u32 step = block_size() / 2; step > 0; step >>= 1) {
    if (t < step) part[t] += part[t + step];
    barrier();
  }
  if (t == 0) out[wg()] = part[0];
}

KERNEL transpose(const u32 *in, u32 *out, u32 width) {
  SHARED static u32 tile[16][17];
  u32 x = __builtin_amdgcn_workitem_id_x(), y = __builtin_amdgcn_workitem_id_y();
  u32 gx = __builtin_amdgcn_workgroup_id_x() * 16, gy = __builtin_amdgcn_workgroup_id_y() * 16;
  tile[y][x] = in[(gy + y) * width + gx + x];
  barrier();
  out[(gx + y) * width + gy + x] = tile[x][y];
}

extern SHARED u32 dynamic[];
KERNEL rotate(const u32 *in, u32 *out) {
  dynamic[tid()] = in[gid()];
  barrier();
  out[gid()] = dynamic[(tid() + 5) % block_size()];
}

KERNEL wide(const u32x4 *in, u32x4 *out) {
  SHARED static u32x4 a[64];
  SHARED static u32x3 b[64];
  SHARED static u64 c[64];
  u32 t = tid();
  a[t] = in[t];
  b[63 - t] = in[t].yzw;
  c[t ^ 5] = (u64)in[t].x << 32 | in[t].w;
  barrier();
  u32x4 v = a[(t + 1) & 63];
  u32x3 w = b[t];
  v.x += w.x; v.y ^= w.y; v.z -= w.z;
  v.w = v.w * 3 + (u32)(c[t] >> 32) + (u32)c[t];
  out[t] = v;
}

KERNEL narrow(const unsigned short *in, unsigned short *out) {
  SHARED static unsigned short h[64];
  SHARED static signed char s[64];
  u32 t = tid();
  h[t] = in[t];
  s[63 - t] = (signed char)in[t];
  barrier();
  out[t] = h[(t + 9) & 63] + s[t];
}

KERNEL histogram(const u32 *in, u32 *out, u32 n) {
  SHARED static u32 bins[16];
  if (tid() < 16) bins[tid()] = 0;
  barrier();
  for (u32 i = gid(); i < n; i += 4 * block_size()) __atomic_fetch_add(&bins[in[i] & 15], 1, __ATOMIC_RELAXED);
  barrier();
  if (tid() < 16) __atomic_fetch_add(&out[tid()], bins[tid()], __ATOMIC_RELAXED);
}

KERNEL softmax(const float *in, float *out, u32 n) {
  SHARED static float part[4];
  const float *row = in + wg() * n;
  u32 t = tid();
  float top = -__builtin_inff();
  for (u32 i = t; i < n; i += 256) top = __builtin_fmaxf(top, row[i]);
  for (u32 m = 1; m < 64; m <<= 1)
    top = __builtin_fmaxf(top, __builtin_bit_cast(float, __builtin_amdgcn_ds_bpermute((lane() ^ m) * 4, __builtin_bit_cast(int, top))));
  if (lane() == 0) part[t / 64] = top;
  barrier();
  top = __builtin_fmaxf(__builtin_fmaxf(part[0], part[1]), __builtin_fmaxf(part[2], part[3]));
  barrier();
  float sum = 0;
  for (u32 i = t; i < n; i += 256) sum += __builtin_amdgcn_exp2f((row[i] - top) * 1.44269504f);
  for (u32 m = 1; m < 64; m <<= 1)
    sum += __builtin_bit_cast(float, __builtin_amdgcn_ds_bpermute((lane() ^ m) * 4, __builtin_bit_cast(int, sum)));
  if (lane() == 0) part[t / 64] = sum;
  barrier();
  sum = part[0] + part[1] + part[2] + part[3];
  for (u32 i = t; i < n; i += 256) out[wg() * n + i] = __builtin_amdgcn_exp2f((row[i] - top) * 1.44269504f) / sum;
}

KERNEL early(const u32 *in, u32 *out) {
  SHARED static u32 box[256];
  box[tid()] = in[gid()];
  if (tid() >= 192) return;  // the last wave never reaches the barrier
  barrier();
  out[gid()] = box[tid() ^ 64 ^ (tid() >= 128 ? 64 : 0)];
}
