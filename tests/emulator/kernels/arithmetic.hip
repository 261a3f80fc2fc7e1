KERNEL long_math(const long long *a, const long long *b, long long *out, u32 n) {
  u32 i = gid();
  if (i >= n) return;
  long long x = a[i], y = b[i];
  long long *o = out + 8 * i;
  o[0] = x + y;
  o[1] = x * y;
  o[2] = y ? x / y : 0;
  o[3] = y ? (long long)((u64)x % (u64)y) : 0;
  o[4] = x << (y & 63);
  o[5] = x >> (y & 63);
  o[6] = (u64)x >> (y & 63);
  o[7] = x < y ? x - y : (long long)__builtin_popcountll(x) + __builtin_clzll(y | 1);
}

KERNEL double_math(const double *a, const double *b, double *out, u32 n) {
  u32 i = gid();
  if (i >= n) return;
  double x = a[i], y = b[i], *o = out + 8 * i;
  o[0] = x + y;
  o[1] = x * y;
  o[2] = x / y;
  o[3] = __builtin_sqrt(__builtin_fabs(x));
  o[4] = __builtin_fma(x, y, -x);
  o[5] = __builtin_floor(x) + __builtin_ceil(y) + __builtin_trunc(x * 3) + __builtin_rint(y * 5);
  o[6] = x < y ? (double)(int)x : (double)(u32)__builtin_fabs(y);
  o[7] = __builtin_fmin(x, y) - __builtin_fmax(x, y) + (float)x;
}

KERNEL float_math(const float *a, const float *b, float *out, u32 n) {
  u32 i = gid();
  if (i >= n) return;
  float x = a[i], y = b[i], *o = out + 6 * i;
  o[0] = x / y;
  o[1] = __builtin_sqrtf(__builtin_fabsf(x));
  o[2] = __builtin_fmaf(x, y, 1.0f);
  o[3] = (float)(long long)(x * 1e6f) + (float)(u64)(__builtin_fabsf(y) * 1e9f);
  o[4] = __builtin_floorf(x) - __builtin_rintf(y) + (x > y ? __builtin_truncf(x) : -y);
  o[5] = (float)(int)x + (float)(u32)__builtin_fabsf(y) + __builtin_copysignf(x, y);
}

KERNEL half_math(const _Float16 *a, const _Float16 *b, _Float16 *out, u32 n) {
  u32 i = gid();
  if (i >= n) return;
  _Float16 x = a[i], y = b[i], *o = out + 4 * i;
  o[0] = x + y;
  o[1] = x * y;
  o[2] = (_Float16)((float)x * (float)y + 1.0f);
  o[3] = x < y ? -x : y;
}

KERNEL packed(const f16x2 *a, const f16x2 *b, f16x2 *out, const f32x2 *c, f32x2 *fout, const i16x2 *s, i16x2 *sout) {
  u32 i = gid();
  out[i] = a[i] * b[i] + (f16x2)(_Float16)1.5f;
  fout[i] = c[i] * c[i].yx + (f32x2)2.0f;
  sout[i] = s[i] * s[i].yx + (i16x2){3, -7};
}

KERNEL dynamic_index(const u32 *in, u32 *out, u32 rounds) {
  u32 box[96];
  u32 i = gid();
  for (u32 k = 0; k < 96; k++) box[k] = in[i] + k;
  for (u32 r = 0; r < rounds; r++) box[(in[i] + r * 7) % 96] ^= box[(r + i) % 96] * 5 + r;
  u32 sum = 0;
  for (u32 k = 0; k < 96; k++) sum = sum * 31 + box[k];
  out[i] = sum;
}

__attribute__((noinline)) __attribute__((device)) u32 mix(u32 *p, u32 n, u32 seed) {
  for (u32 k = 0; k < n; k++) { p[k] += seed * (k + 1); seed ^= p[k] >> 3; }
  return seed;
}

KERNEL called(const u32 *in, u32 *out) {
  u32 box[6];
  u32 i = gid();
  for (u32 k = 0; k < 6; k++) box[k] = in[i] * (k + 3);
  u32 a = mix(box, 6, in[i]);
  u32 b = mix(box, 3, a);
  out[i] = a + b + box[in[i] % 6];
}

KERNEL uniform_index(const u32 *in, u32 *out, u32 pick) {
  typedef u32 many __attribute__((ext_vector_type(16)));
  many v;
  for (u32 k = 0; k < 16; k++) v[k] = in[tid() * 16 + k];
  v[(pick * 3) & 15] = 77;
  out[tid()] = v[pick & 15] + v[(pick + tid() % 4) & 15];
}

KERNEL lanes(const u32 *in, u32 *out) {
  u32 t = tid(), v = in[t];
  u32 *o = out + 8 * t;
  o[0] = __builtin_amdgcn_readfirstlane(v);
  o[1] = __builtin_amdgcn_readlane(v, 37);
  o[2] = __builtin_amdgcn_ds_bpermute(((t * 7) & 63) * 4, v);
  o[3] = __builtin_amdgcn_ds_permute(((t + 3) & 63) * 4, v);
  o[4] = __builtin_amdgcn_ds_swizzle(v, 0x041F);
  o[5] = __builtin_amdgcn_update_dpp(0, v, 0x111, 0xf, 0xf, true);
  o[6] = __builtin_amdgcn_update_dpp(v + 1, v, 0x101, 0xf, 0xa, false);
  u64 b = __builtin_amdgcn_ballot_w64(v & 1);
  o[7] = (u32)b ^ (u32)(b >> 32) ^ __builtin_amdgcn_mbcnt_hi((u32)(b >> 32), __builtin_amdgcn_mbcnt_lo((u32)b, 0));
}

KERNEL bf16_bits(const float *in, unsigned short *out, u32 n) {
  u32 i = gid();
  if (i >= n) return;
  u32 b = __builtin_bit_cast(u32, in[i]);
  b += 0x7fff + ((b >> 16) & 1);
  out[i] = b >> 16;
}
